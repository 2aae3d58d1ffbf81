// Package build has no code: its tests make the image and the packages of regsweep, and use them.
package build

import (
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"regsweep/internal/servertest"
)

var built struct {
	sync.Once
	scratch *servertest.Scratch
	err     error
}

// programs returns a directory in which the programs for Linux are built. All tests share it, so
// they do not run at the same time.
func programs(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("it builds the program for two architectures")
	}
	built.Do(func() {
		if built.scratch, built.err = servertest.NewScratch("", "regsweep-build-"); built.err == nil {
			_, built.err = output(t, nil, "make", "-C", "..", "programs", "BIN="+built.scratch.Path)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.scratch.Path
}

func output(t *testing.T, env []string, name string, args ...string) (string, error) {
	t.Helper()
	command := exec.CommandContext(t.Context(), name, args...)
	command.Env = append(append(os.Environ(), "MAKEFLAGS=", "MFLAGS="), env...)
	said, err := command.CombinedOutput()
	return strings.TrimSpace(string(said)), err
}

// run runs a command, which must succeed, and returns its output.
func run(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	said, err := output(t, env, name, args...)
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, said)
	}
	return said
}
