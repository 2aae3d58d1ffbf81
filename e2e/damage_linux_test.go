package e2e

import (
	"maps"
	"os"
	"strings"
	"syscall"
	"testing"

	"regsweep/internal/imagetest"
	"regsweep/internal/registrytest"
	"regsweep/internal/system"
	"regsweep/internal/system/systemtest"
)

// TestARepositoryIsMountedTwice: two names that are one directory are no two repositories. The run
// stops and removes nothing (1).
func TestARepositoryIsMountedTwice(t *testing.T) {
	t.Parallel()
	for from, again := range map[string]string{
		"repositories/team/app": "repositories/team/again", "repositories/team/app/_layers": "repositories/team/again/_layers",
		"repositories/other": "repositories/linked/again",
	} {
		s := newFixture(t)
		tagged := app(1, 2)
		s.plant("team/app", "v1", tagged)
		s.plant("team/app", "", app(3))
		s.plant("other", "v1", app(4))
		s.must(os.Symlink(s.TempDir(), s.tree.Path("repositories/linked")))
		at := s.tree.Path(again)
		s.must(os.MkdirAll(at, 0o755))
		mount(t, s.tree.Path(from), at, "", syscall.MS_BIND, "")
		before := owned(t, s.tree.Root())
		list := s.TempDir() + "/roots"
		s.must(os.WriteFile(list, []byte("team/app@"+tagged.Digest().String()+"\nother:v1\n"), 0o600))
		code, _, stderr := regsweep(s, "gc", "--roots", list, "--registry-stopped", s.tree.Root())
		if code != 1 || !strings.Contains(stderr, "one directory, which is mounted twice") {
			t.Errorf("%s: ends with %d, %s", from, code, stderr)
		}
		if d := difference(owned(t, s.tree.Root()), before); d != "" {
			t.Errorf("%s: %s", from, d)
		}
	}
}

// TestAnEmptyDiskIsMountedInPlaceOfARepository: its directory can't be removed, and that is no
// failure.
func TestAnEmptyDiskIsMountedInPlaceOfARepository(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	s.plant("team/app", "v1", app(1, 2))
	s.plant("team/app", "", app(3))
	at := s.tree.Path("repositories/archive")
	s.must(os.MkdirAll(at, 0o755))
	mount(t, "tmpfs", at, "tmpfs", 0, "")
	run := s.reported("gc", "-m", "--prune-empty", "--registry-stopped", "--yes", "--json", s.tree.Root())
	if run.code != 0 || run.report.Removed.Blobs.Count != 3 || !s.tree.Exists("repositories/archive") {
		t.Errorf("ends with %d, %s %+v", run.code, run.stderr, run.report)
	}
}

// TestAFalselyEmptyDirectoryOfBtrfs: its link counts do not include directories, and its sizes tell.
func TestAFalselyEmptyDirectoryOfBtrfs(t *testing.T) {
	root := loopDisk(t, 120, "mkfs.btrfs", "-q")
	s := &fixture{T: t, tree: imagetest.NewTree(t, root), names: map[string]string{}}
	s.serve(registrytest.Config{Root: root})
	s.plant("app", "v1", app(1))
	s.plant("app", "", app(2))
	tags := "repositories/app/_manifests/tags"
	stop := systemtest.FailBelow(t, s.tree.Path(""), func(op, path string) error {
		if op == "getdents" && path == tags {
			return system.ErrEmpty
		}
		return nil
	})
	before := s.files()
	code, _, stderr := regsweep(s, "gc", "-m", "--allow-empty", "--registry-stopped", root)
	if code != 1 || !strings.Contains(stderr, tags) || !strings.Contains(stderr, "listed as empty") {
		t.Errorf("it ends with %d: %s", code, stderr)
	}
	if after := s.files(); !maps.Equal(after, before) {
		t.Errorf("there is %v, and there was %v", after, before)
	}
	stop()
	s.must(os.RemoveAll(s.tree.Path(tags + "/v1")))
	if code, _, stderr := regsweep(s, "gc", "-m", "--allow-empty", "--registry-stopped", root); code != 0 {
		t.Errorf("an emptied directory: it ends with %d: %s", code, stderr)
	}
}
