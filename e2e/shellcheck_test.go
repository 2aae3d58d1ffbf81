package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestShellScriptsPassShellcheck checks what a reader may copy, and what the tests run.
func TestShellScriptsPassShellcheck(t *testing.T) {
	t.Parallel()
	shellcheck, err := exec.LookPath("shellcheck")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	scripts := []string{".ci/run"}
	for _, pattern := range []string{"deploy/*/*.sh", "e2e/testdata/standin/*"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		scripts = append(scripts, found...)
	}
	// A file of settings is a part of a script, which uses its variables and functions.
	settings := []string{"--shell=sh", "--exclude=SC2034,SC2317", "deploy/cron/regsweep-cron.conf"}
	for _, arguments := range [][]string{scripts, settings} {
		if output, err := exec.Command(shellcheck, arguments...).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, output)
		}
	}
}
