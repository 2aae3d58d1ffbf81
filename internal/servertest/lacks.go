package servertest

import (
	"os"
	"testing"
)

// Lacks ends a test because this machine lacks a program or a permission that the test needs. The test
// is skipped. With CI=true it fails, so that no test is skipped in every run.
func Lacks(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}
