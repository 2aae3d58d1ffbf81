package main

import (
	"strings"
	"testing"
	"unicode/utf8"

	"regsweep/internal/parts"
)

// What is printed on a terminal fits it, and is broken between words or after a slash. A word
// without a slash may be longer.
func TestOutputFitsTheTerminal(t *testing.T) {
	tree := parts.NewTree(t, t.TempDir())
	const long = "platform/infrastructure/observability/grafana-dashboards"
	for i, repository := range []string{"x", "team/app", long} {
		n := uint64(10 * i)
		tree.Tag(repository, "v1", tree.Manifest(repository, parts.Image(parts.OCI, parts.Layer(n+1, 0))))
		tree.Manifest(repository, parts.Image(parts.OCI, parts.Layer(n+2, 0)))
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
		for _, columns := range []uint16{200, 80, 50} {
			s, err := startOnTerminal(program(t, args...), columns)
			must(t, err)
			_, err = s.end()
			must(t, err)
			shown := s.shows()
			for line := range strings.Lines(shown) {
				line = strings.TrimRight(line, "\n")
				if utf8.RuneCountInString(line) > int(columns) && strings.ContainsAny(strings.TrimSpace(line), " /") {
					t.Errorf("%s, %d columns: %q", args, columns, line)
				}
			}
		}
	}
}
