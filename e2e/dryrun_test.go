package e2e

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// withEveryGarbage is a registry on a filesystem with something to remove of every kind.
func withEveryGarbage(t *testing.T) *fixture {
	s := newFixture(t)
	s.unrelated()
	s.damaged("damaged", 10)
	s.tree.Write("repositories/damaged/_manifests/tags/v2/current/link", "no digest")
	s.tree.Mkdir("repositories/empty/_layers")
	s.tree.Mkdir("blobs/sha256/ab")
	s.tree.Age("repositories", time.Hour) // or it would be a sign that somebody pushes
	s.tree.Upload("sound", "old", time.Now().Add(-1000*time.Hour), []byte("half a layer"))
	s.must(s.registry.SetReadOnly(true))
	return s
}

// TestDryRunsChangeNothing: not a file, not a directory, nor the time of one.
func TestDryRunsChangeNothing(t *testing.T) {
	t.Parallel()
	s := withEveryGarbage(t)
	before := everythingAt(t, s.tree.Root())
	for _, args := range readOnlyCommands(t, s.tree.Root(), s.registry.URL()) {
		if code, _, stderr := regsweep(s, args...); code != 0 && code != 4 {
			t.Errorf("%v ends with %d: %s", args, code, stderr)
		}
		if after := everythingAt(t, s.tree.Root()); after != before {
			t.Fatalf("%v: there was\n%s\nand now there is\n%s", args, before, after)
		}
	}
	if run := s.gcOn(s.tree.Root(), "-m", "--registry", s.registry.URL()); len(run.report.Removed.counts()) == 0 {
		t.Errorf("there was nothing to remove: %s", run.report.Error)
	}
	if everythingAt(t, s.tree.Root()) == before {
		t.Error("a run that removed something is not seen either")
	}
}

// everythingAt is a line for whatever is below a directory and itself: what it is, its
// size, and what changes with every write.
func everythingAt(t testing.TB, root string) string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		lines = append(lines, fmt.Sprintf("%s %s %d %s %s", path, info.Mode(), info.Size(), info.ModTime(), changed(info)))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
