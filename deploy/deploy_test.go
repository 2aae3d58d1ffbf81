// Package deploy has no code: its tests check what operators install, with the programs that will read it.
package deploy

import (
	"encoding/json"
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

// TestPrometheusAcceptsTheRules: each alert fires, and does not fire, in its unit tests. Each query of the
// dashboard is one that Prometheus can read.
func TestPrometheusAcceptsTheRules(t *testing.T) {
	if _, err := exec.LookPath("promtool"); err != nil {
		servertest.Lacks(t, "promtool is not installed: %v", err)
	}
	promtool := func(args ...string) string {
		t.Helper()
		output, err := exec.CommandContext(t.Context(), "promtool", args...).CombinedOutput()
		if err != nil {
			t.Errorf("promtool %q: %v\n%s", args, err, output)
		}
		return string(output)
	}
	promtool("check", "rules", "monitoring/rules.yml")
	promtool("test", "rules", "monitoring/rules_test.yml")

	rules, err := os.ReadFile("monitoring/rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	tests, err := os.ReadFile("monitoring/rules_test.yml")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(rules)) {
		if _, alert, found := strings.Cut(line, "alert: "); found {
			alert = strings.TrimSpace(alert)
			fires := strings.Contains(string(tests), "alertname: "+alert+"\n")
			isSilent := strings.Contains(string(tests), "{alertname: "+alert+",")
			if !fires || !isSilent {
				t.Errorf("%s: a test in which it fires: %t, and one in which it does not: %t", alert, fires, isSilent)
			}
		}
	}

	content, err := os.ReadFile("monitoring/dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(content, &dashboard); err != nil {
		t.Fatal(err)
	}
	type rule struct {
		Record string `json:"record"`
		Expr   string `json:"expr"`
	}
	var queries []rule
	for _, panel := range dashboard.Panels {
		for _, target := range panel.Targets {
			queries = append(queries, rule{"dashboard:query", strings.ReplaceAll(target.Expr, "$target", ".+")})
		}
	}
	if len(queries) < 20 {
		t.Fatalf("only %d queries were found", len(queries))
	}
	file := filepath.Join(t.TempDir(), "queries.yml") // JSON is YAML
	encoded, err := json.Marshal(map[string]any{"groups": []any{map[string]any{"name": "dashboard", "rules": queries}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, encoded, 0o644); err != nil {
		t.Fatal(err)
	}
	promtool("check", "rules", "--lint=none", file)
}
