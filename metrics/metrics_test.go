package metrics

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"regsweep/audit"
)

var noon = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func fileIn(t *testing.T, command, target string) *File {
	return &File{Path: filepath.Join(t.TempDir(), "x.prom"), Command: command, Target: target, Warn: func(text string) { t.Error(text) }}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// lines returns the values of the file.
func (f *File) lines(t *testing.T) []string {
	t.Helper()
	content, err := os.ReadFile(f.Path)
	must(t, err)
	return slices.DeleteFunc(strings.Split(strings.TrimSpace(string(content)), "\n"), func(line string) bool { return strings.HasPrefix(line, "#") })
}

func (f *File) has(t *testing.T, want ...string) {
	t.Helper()
	lines := f.lines(t)
	for _, line := range want {
		if !slices.Contains(lines, line) {
			t.Errorf("%s is missing in\n%s", line, strings.Join(lines, "\n"))
		}
	}
}

// TestEachMetricIsWrittenAndDocumented: docs/metrics.md has exactly the metrics that are written, and the
// rules and the dashboard use no others.
func TestEachMetricIsWrittenAndDocumented(t *testing.T) {
	f := fileIn(t, "gc", "/r")
	must(t, f.Opened(noon))
	must(t, f.Ended(Run{Began: noon, Ended: noon, Removal: &Removal{}}))
	must(t, f.Audited(Run{Began: noon, Ended: noon}, audit.Bytes{}, nil, []audit.Repository{{Name: "a"}}))
	written := map[string]bool{}
	for _, line := range f.lines(t) {
		name, _, _ := strings.Cut(line, "{")
		written[name] = true
	}
	docs, err := os.ReadFile("../docs/metrics.md")
	must(t, err)
	documented := map[string]bool{}
	for _, found := range regexp.MustCompile("(?m)^\\| `(regsweep_[a-z_]+)`").FindAllSubmatch(docs, -1) {
		documented[string(found[1])] = true
	}
	for what, names := range map[string]map[string]bool{"written": written, "documented": documented} {
		if got, want := slices.Sorted(maps.Keys(names)), slices.Sorted(maps.Keys(help)); !slices.Equal(got, want) {
			t.Errorf("%s:\n%q\nwant\n%q", what, got, want)
		}
	}
	used := 0
	for _, path := range []string{"rules.yml", "rules_test.yml", "dashboard.json"} {
		content, err := os.ReadFile("../deploy/monitoring/" + path)
		must(t, err)
		for _, name := range regexp.MustCompile(`regsweep_[a-z_]+`).FindAll(content, -1) {
			if used++; help[string(name)] == "" {
				t.Errorf("%s uses %s, which nothing writes", path, name)
			}
		}
	}
	if used < 30 {
		t.Errorf("only %d uses were found", used)
	}
}

// TestAFailureKeepsTheLastGoodRun: it changes no metric about which it knows nothing.
func TestAFailureKeepsTheLastGoodRun(t *testing.T) {
	f := fileIn(t, "gc", "/r")
	must(t, f.Ended(Run{Began: noon, Ended: noon.Add(90 * time.Second), ExitCode: 4, Problems: 2, Removal: &Removal{Freed: 7, Hidden: 8, Left: 9}}))
	must(t, f.Ended(Run{Began: noon.Add(time.Hour), Ended: noon.Add(time.Hour + time.Second), ExitCode: 3, Removal: &Removal{Left: Unknown}}))
	f.has(t, `regsweep_last_success_timestamp_seconds{command="gc",target="/r"} 1.77763689e+09`,
		`regsweep_last_run_timestamp_seconds{command="gc",target="/r"} 1.777640401e+09`,
		`regsweep_last_run_duration_seconds{command="gc",target="/r"} 1`,
		`regsweep_last_run_exit_code{command="gc",target="/r"} 3`,
		`regsweep_last_run_success{command="gc",target="/r"} 0`,
		`regsweep_last_run_problems{command="gc",target="/r"} 0`,
		`regsweep_last_run_freed_bytes{command="gc",target="/r"} 0`,
		`regsweep_last_run_hidden_bytes{command="gc",target="/r"} 0`,
		`regsweep_garbage_left_bytes{command="gc",target="/r"} 9`)
}

// TestOneFileForSeveralCommands: a write replaces the metrics of its command and target alone. Repositories
// that are gone have none any more.
func TestOneFileForSeveralCommands(t *testing.T) {
	f := fileIn(t, "gc", "/r")
	run := Run{Began: noon, Ended: noon}
	must(t, f.Ended(run))
	other := *f
	other.Target = "/other\n\xff\"" // a name that is hardly any
	must(t, other.Audited(run, audit.Bytes{Live: 5}, nil, []audit.Repository{{Name: "app", Bytes: 5, Fair: 2.5}}))
	f.Command = "audit"
	must(t, f.Audited(run, audit.Bytes{}, nil, []audit.Repository{{Name: "old", Bytes: 1}}))
	must(t, f.Audited(run, audit.Bytes{Stored: 3}, []string{"versions"}, []audit.Repository{{Name: "new", Bytes: 2}}))
	f.has(t, `regsweep_last_run_success{command="gc",target="/r"} 1`, `regsweep_last_run_success{command="audit",target="/r"} 1`,
		`regsweep_repository_bytes{repository="new",target="/r"} 2`, `regsweep_audit_stored_bytes{target="/r"} 3`,
		`regsweep_repository_fair_bytes{repository="app",target="/other\n?\""} 2.5`)
	for _, line := range f.lines(t) {
		if strings.Contains(line, `repository="old"`) {
			t.Errorf("a repository that is gone has %s", line)
		}
	}
	must(t, f.Opened(noon))
	must(t, f.Closed())
	f.has(t, `regsweep_window_open{target="/r"} 0`, `regsweep_window_opened_timestamp_seconds{target="/r"} 1.7776368e+09`)
	var none *File
	must(t, none.Closed())
	must(t, (&File{}).Closed()) // the target is not known
}

func TestTheNumberOfRepositoriesIsBounded(t *testing.T) {
	f := fileIn(t, "audit", "/r")
	var repositories []audit.Repository
	for i := range 250 {
		repositories = append(repositories, audit.Repository{Name: fmt.Sprintf("r%d", i), Bytes: int64(i), Fair: float64(i) / 2})
	}
	must(t, f.Audited(Run{Began: noon, Ended: noon}, audit.Bytes{}, nil, repositories))
	n, sum := 0, 0
	for _, line := range f.lines(t) {
		if strings.HasPrefix(line, "regsweep_repository_bytes") {
			var value int
			_, err := fmt.Sscan(line[strings.LastIndex(line, " "):], &value)
			must(t, err)
			n, sum = n+1, sum+value
		}
	}
	if n != 101 || sum != 250*249/2 {
		t.Errorf("%d metrics with %d bytes", n, sum)
	}
	f.has(t, `regsweep_repository_bytes{repository="(other)",target="/r"} 11175`, `regsweep_repository_bytes{repository="r150",target="/r"} 150`,
		`regsweep_repository_fair_bytes{repository="(other)",target="/r"} 5587.5`, `regsweep_audit_repositories{target="/r"} 250`)
}

// TestADamagedFileIsAWarning: the new metrics are written.
func TestADamagedFileIsAWarning(t *testing.T) {
	f := fileIn(t, "gc", "/r")
	warned := ""
	f.Warn = func(text string) { warned = text }
	for _, content := range []string{"regsweep_last_run_success{command=\"gc\" 1\n", "\x00\x01", "# TYPE regsweep_last_run_success histogram\nregsweep_last_run_success{x=\"\xff"} {
		warned = ""
		must(t, os.WriteFile(f.Path, []byte(content), 0o600))
		must(t, f.Check())
		must(t, f.Ended(Run{Began: noon, Ended: noon}))
		if !strings.Contains(warned, f.Path) {
			t.Errorf("%q: warns %q", content, warned)
		}
		f.has(t, `regsweep_last_run_success{command="gc",target="/r"} 1`)
	}
	// Another version may have written other types and texts.
	warned = ""
	must(t, os.WriteFile(f.Path, []byte("# HELP regsweep_last_run_success Else.\n# TYPE regsweep_last_run_success counter\nregsweep_last_run_success{command=\"audit\",target=\"/r\"} 1\nregsweep_formerly 3\n"), 0o600))
	must(t, f.Ended(Run{Began: noon, Ended: noon}))
	f.has(t, `regsweep_last_run_success{command="gc",target="/r"} 1`, "regsweep_formerly 3")
	if warned != "" {
		t.Errorf("warns %q", warned)
	}
}

// TestTheFileCanBeReadByOthers: node_exporter runs as another user.
func TestTheFileCanBeReadByOthers(t *testing.T) {
	f := fileIn(t, "gc", "/r")
	defer syscall.Umask(syscall.Umask(0o077))
	for range 2 {
		must(t, f.Ended(Run{Began: noon, Ended: noon}))
		info, err := os.Stat(f.Path)
		must(t, err)
		if info.Mode() != 0o644 {
			t.Errorf("mode %s", info.Mode())
		}
	}
	if entries, err := os.ReadDir(filepath.Dir(f.Path)); err != nil || len(entries) != 1 {
		t.Errorf("left: %v, %v", entries, err)
	}
}

func TestWhatIsRefusedBeforeTheRun(t *testing.T) {
	f := fileIn(t, "gc", "/r")
	foreign := filepath.Join(t.TempDir(), "apt.prom")
	must(t, os.WriteFile(foreign, []byte("apt_upgrades_pending 3\n"), 0o644))
	dir := filepath.Join(t.TempDir(), "dir.prom")
	must(t, os.Mkdir(dir, 0o700))
	for path, want := range map[string]string{
		"":                     "ends with .prom",
		"metrics.txt":          "ends with .prom",
		dir:                    "no regular file",
		foreign:                "no metric of regsweep",
		"/nowhere/at/all.prom": "can't be written",
	} {
		f.Path = path
		if err := f.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", path, err)
		}
	}
}
