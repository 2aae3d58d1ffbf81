package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"regsweep/internal/imagetest"
)

// TestLinkedDirectories: a registry whose directories were moved to another disk, with symbolic
// links in their place, is collected, quarantined and restored like any other (1).
func TestLinkedDirectories(t *testing.T) {
	t.Parallel()
	for _, dirs := range [][]string{
		{"blobs"}, {"blobs/sha256"}, {"repositories"}, {"repositories/team"}, {"repositories/team/old"},
		{"repositories/team/old", "repositories/app", "blobs/sha256", "blobs"}, {""},
	} {
		t.Run(strings.ReplaceAll(strings.Join(dirs, "+"), "/", "|"), func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			tagged, untagged := app(1, 2), app(1, 3)
			schema1 := imagetest.Schema1("team/old", "v1", layer(8))
			s.plant("app", "v1", tagged)
			s.plant("app", "", untagged)
			s.plant("team/old", "v2", app(4, 5))
			s.plant("team/old", "v1", schema1)
			s.plant("team/old", "", app(4, 6))
			garbage := s.tree.Blob([]byte("an unreferenced blob"))
			for _, dir := range dirs {
				elsewhere := filepath.Join(s.TempDir(), "disk")
				s.must(os.Rename(s.tree.Path(dir), elsewhere))
				s.must(os.Symlink(elsewhere, strings.TrimSuffix(s.tree.Path(dir), "/")))
			}
			alive := []image{pulls("app", "v1", tagged), pulls("team/old", "v2")}
			s.pull("before", s.client, append(alive, pulls("app", untagged)))
			s.must(s.registry.SetReadOnly(true))

			if run := s.gc("-m", "--quarantine"); run.code != 0 || len(run.report.Problems) > 0 || s.tree.Exists(imagetest.BlobPath(garbage)) {
				t.Errorf("quarantine: ends with %d, %s %+v", run.code, run.report.Error, run.report.Problems)
			}
			s.pull("quarantined", s.client, alive)
			restored := s.reported("quarantine", "restore", onlyRun(s), s.tree.Root(), "--json")
			if restored.code != 0 || !s.tree.Exists(imagetest.BlobPath(garbage)) {
				t.Errorf("restore: ends with %d, %s", restored.code, restored.report.Error)
			}
			s.pull("restored", s.client, append(alive, pulls("app", untagged)))
			run := s.gc("-m", "--prune-empty")
			if run.code != 0 || len(run.report.Problems) > 0 || run.report.Removed != run.report.Garbage {
				t.Errorf("ends with %d, %s %+v", run.code, run.report.Error, run.report.Problems)
			}
			for _, path := range []string{imagetest.BlobPath(garbage), imagetest.BlobPath(untagged.Digest()), imagetest.RevisionPath("app", untagged.Digest())} {
				if s.tree.Exists(path) {
					t.Errorf("%s is still there", path)
				}
			}
			s.pull("after the run", s.client, alive)
			for _, dir := range dirs {
				if info, err := os.Lstat(strings.TrimSuffix(s.tree.Path(dir), "/")); err != nil || info.Mode()&os.ModeSymlink == 0 {
					t.Errorf("%q is not the link that it was: %v", dir, err)
				}
			}
		})
	}
}

// onlyRun is the name of the only run in the quarantine.
func onlyRun(s *site) string {
	s.Helper()
	entries, err := os.ReadDir(s.tree.Path(".regsweep/quarantine"))
	s.must(err)
	if len(entries) != 1 {
		s.Fatalf("the quarantine has %v", entries)
	}
	return entries[0].Name()
}
