// Package deploy has no code: its tests check what operators install, with the programs that will read it.
package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"regsweep/internal/servertest"
)

// TestSystemdAcceptsTheUnits has systemd read the units, with another program in the place of
// regsweep, which must exist.
func TestSystemdAcceptsTheUnits(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		servertest.Lacks(t, "systemd is not installed: %v", err)
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "regsweep")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	units, err := filepath.Glob("systemd/regsweep-*")
	if err != nil || len(units) != 3 {
		t.Fatalf("units: %q, %v", units, err)
	}
	args := []string{"verify", "--man=no"}
	for _, unit := range units {
		content, err := os.ReadFile(unit)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, filepath.Base(unit))
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(content), "/usr/bin/regsweep", program)), 0o644); err != nil {
			t.Fatal(err)
		}
		args = append(args, path)
	}
	// It warns of a key that it does not know, and ends with 0.
	if output, err := exec.CommandContext(t.Context(), analyze, args...).CombinedOutput(); err != nil || len(output) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, output)
	}
}
