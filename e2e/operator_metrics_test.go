package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"regsweep/internal/servertest"
	"regsweep/storage"
)

// lint has promtool check a file of metrics, which must be silent, and returns its content.
func (s *fixture) lint(file string) string {
	s.Helper()
	content, err := os.ReadFile(file)
	s.must(err)
	if _, err := exec.LookPath("promtool"); err != nil {
		servertest.Lacks(s, "promtool is not installed: %v", err)
	}
	promtool := exec.CommandContext(s.Context(), "promtool", "check", "metrics")
	promtool.Stdin = strings.NewReader(string(content))
	if output, err := promtool.CombinedOutput(); err != nil || len(output) > 0 {
		s.Errorf("promtool: %v\n%s", err, output)
	}
	return string(content)
}

// TestMetricsOfEachEnd: a run writes how it has ended, whether it was good, refused, failed or had a wrong
// configuration. Several commands share a file.
func TestMetricsOfEachEnd(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	s.unrelated()
	s.must(s.registry.SetReadOnly(true))
	file, target := filepath.Join(t.TempDir(), "regsweep.prom"), s.config(s.registry.ConfigYAML())
	run := func(code int, args ...string) string {
		t.Helper()
		got, stdout, stderr := regsweep(s, append([]string{args[0], "--metrics", file}, args[1:]...)...)
		if got != code {
			t.Errorf("%q ends with %d\n%s%s", args, got, stdout, stderr)
		}
		return s.lint(file)
	}
	labels := func(command string) string { return `{command="` + command + `",target="` + target + `"} ` }
	has := func(content string, lines ...string) {
		t.Helper()
		for _, line := range lines {
			if !strings.Contains("\n"+content, "\n"+line) {
				t.Errorf("%s is missing in\n%s", line, content)
			}
		}
	}
	has(run(3, "gc", "-m", "--max-delete", "1", target), "regsweep_last_run_exit_code"+labels("gc")+"3\n", "regsweep_last_run_success"+labels("gc")+"0\n",
		"regsweep_last_run_freed_bytes"+labels("gc")+"0\n")
	refused := s.lint(file)
	if strings.Contains(refused, "regsweep_last_success") || strings.Contains(refused, "regsweep_garbage_left_bytes"+labels("gc")+"0\n") {
		t.Errorf("a run that was refused writes\n%s", refused)
	}
	audited := run(0, "audit", target)
	has(audited, "regsweep_last_run_success"+labels("audit")+"1\n", "regsweep_last_run_exit_code"+labels("gc")+"3\n",
		`regsweep_repository_bytes{repository="sound",target="`+target+`"} `, `regsweep_audit_stored_bytes{target="`+target+`"} `)
	if limited := run(0, "gc", "-m", "--max-bytes", "1B", target); strings.Contains(limited, "regsweep_garbage_left_bytes"+labels("gc")+"0\n") {
		t.Errorf("a run with a limit left nothing:\n%s", limited)
	}
	good := run(0, "gc", "-m", target)
	has(good, "regsweep_last_run_exit_code"+labels("gc")+"0\n", "regsweep_garbage_left_bytes"+labels("gc")+"0\n", "regsweep_last_success_timestamp_seconds"+labels("gc"))
	if strings.Contains(good, "regsweep_last_run_freed_bytes"+labels("gc")+"0\n") {
		t.Errorf("nothing was freed:\n%s", good)
	}
	line := func(content, name string) string {
		_, rest, _ := strings.Cut(content, "\n"+name+labels("gc"))
		value, _, _ := strings.Cut(rest, "\n")
		return value
	}

	// A registry that takes pushes again, a damaged repository, and a wrong configuration.
	s.must(s.registry.SetReadOnly(false))
	failed := run(3, "gc", "-m", target)
	if success := "regsweep_last_success_timestamp_seconds"; line(failed, success) != line(good, success) || line(failed, success) == "" {
		t.Errorf("the last good run was at %s, and then at %s", line(good, success), line(failed, success))
	}
	s.must(s.registry.SetReadOnly(true))
	s.damaged("broken", 50)
	s.tree.Write("repositories/broken/_manifests/tags/v1/current/link", "no digest")
	has(run(4, "gc", target), "regsweep_last_run_problems"+labels("gc")+"1\n", "regsweep_last_run_success"+labels("gc")+"1\n")
	s.must(os.WriteFile(target, []byte("no config"), 0o600))
	has(run(2, "gc", target), "regsweep_last_run_exit_code"+labels("gc")+"2\n")
	has(run(2, "audit", target), "regsweep_last_run_exit_code"+labels("audit")+"2\n", `regsweep_audit_stored_bytes{target="`+target+`"} `)
	has(run(2, "untag", "a b:c", target), "regsweep_last_run_exit_code"+labels("untag")+"2\n")

	before := s.lint(file)
	for _, args := range [][]string{{"gc", "--dry-run", target}, {"apply", "-d", "plan", target}} {
		if after := run(2, args...); after != before {
			t.Errorf("%q has changed the file", args)
		}
	}
}

// TestMetricsThatCannotBeSaved: that changes nothing about the run. The exit code says it only if the run
// was good. A mistake is found before the run.
func TestMetricsThatCannotBeSaved(t *testing.T) {
	t.Parallel()
	for code, flags := range map[int][]string{1: {"-m"}, 3: {"-m", "--max-delete", "1"}} {
		s := newFixture(t)
		s.unrelated()
		s.must(s.registry.SetReadOnly(true))
		dir := filepath.Join(t.TempDir(), "metrics")
		args := append([]string{"--metrics", filepath.Join(dir, "x.prom")}, flags...)
		before := s.files()
		if run := s.gc(args...); run.code != 2 || !strings.Contains(run.report.Error, "can't be written") {
			t.Errorf("without the directory it ends with %d, %s", run.code, run.report.Error)
		}
		s.same("the files", keys(s.files()), keys(before))
		s.must(os.Mkdir(dir, 0o700))
		wrapped.Store(s.tree.Root(), func(store storage.Store) storage.Store { // after the check
			s.must(os.RemoveAll(dir))
			return store
		})
		defer wrapped.Delete(s.tree.Root())
		run := s.gc(args...)
		if run.code != code || run.report.ExitCode != code || !strings.Contains(run.stderr, "--metrics: save "+dir) || (run.report.Removed.Blobs.Count > 0) != (code == 1) {
			t.Errorf("ends with %d, %+v\n%s", run.code, run.report, run.stderr)
		}
	}
}
