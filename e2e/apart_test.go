package e2e

import (
	"flag"
	"testing"
)

var allFlag = flag.Bool("all", false, "let runs die, and storages fail, at every single operation, alike ones too")

var everyFault = flag.Bool("every-fault", false, "try all faults of system calls and of requests to S3, for hours, and not a selection")

// apart is how far apart operations are of which one in n is tried, since they are like each
// other.
func apart(n int) int {
	if *allFlag {
		return 1
	}
	return n * stride
}

// isTried reports whether the k-th of them is tried.
func isTried(k, n int) bool { return *allFlag || k%n == 0 }

// progress says how many faults were tried, since trying all of them takes hours.
func progress(t *testing.T, tried int) {
	t.Helper()
	if *everyFault && tried%1000 == 0 && tried > 0 {
		t.Logf("%d faults tried", tried)
	}
}
