package e2e

import (
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"regsweep/internal/imagetest"
)

// What is printed on a terminal fits it, and is broken between words. A single word may be
// longer.
func TestOutputFitsTheTerminal(t *testing.T) {
	t.Parallel()
	tree := imagetest.NewTree(t, t.TempDir())
	const long = "platform/infrastructure/observability/grafana-dashboards"
	for i, repository := range []string{"x", "team/app", long} {
		n := uint64(10 * i)
		tree.Tag(repository, "v1", tree.Manifest(repository, imagetest.Image(imagetest.OCI, imagetest.Layer(n+1, 0))))
		tree.Manifest(repository, imagetest.Image(imagetest.OCI, imagetest.Layer(n+2, 0)))
	}
	tree.Write("repositories/"+long+"/_manifests/tags/broken/current/link", "")
	tree.Write("blobs/notes.txt", "hello")
	tree.Blob([]byte("what a crash left"))
	plan := t.TempDir() + "/plan.jsonl"
	if err := program(t, "gc", "-dqm", "--plan", plan, tree.Root()).Run(); err == nil {
		t.Fatal("there is no problem")
	}
	for _, args := range [][]string{
		{"gc", "-d", tree.Root()}, {"gc", "-dm", tree.Root()}, {"apply", "-d", plan, tree.Root()},
		{"gc", "-m", "--registry-stopped", "--quarantine", "--yes", tree.Root()}, {"quarantine", "list", tree.Root()},
		{"check", tree.Root()}, {"gc", tree.Root()}, {"gc", "-d", t.TempDir()}, {"gc", "-d", "--plan", plan, plan},
		{"help"}, {"gc", "--help"}, {"apply", "--help"}, {"quarantine", "restore", "--help"},
	} {
		for _, columns := range []uint16{200, 80, 50, 0} {
			command := program(t, args...)
			if columns == 0 {
				command.Env = append(os.Environ(), "COLUMNS=60") // for a terminal that does not tell
			}
			s, err := startOnTerminal(command, columns)
			must(t, err)
			if columns == 0 {
				columns = 60
			}
			_, err = s.end()
			must(t, err)
			shown := s.shows()
			for line := range strings.Lines(shown) {
				line = strings.TrimRight(line, "\n")
				if utf8.RuneCountInString(line) > int(columns) && strings.Contains(strings.TrimSpace(line), " ") {
					t.Errorf("%s, %d columns: %q", args, columns, line)
				}
			}
		}
	}
}
