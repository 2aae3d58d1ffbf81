package e2e

import (
	"maps"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"regsweep/internal/imagetest"
	"regsweep/internal/registrytest"
	"regsweep/internal/system"
	"regsweep/internal/system/systemtest"
	"regsweep/verify"
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

// TestABadSector: what a disk can't read any more is damage of one file. gc keeps its repository and collects the
// others, and verify says which tags it breaks.
func TestABadSector(t *testing.T) {
	t.Parallel()
	m, single := app(1, 2), []string{"v1"}
	for name, test := range map[string]struct {
		path  string
		kind  verify.Kind
		tags  []string
		keeps bool
	}{
		"a manifest":      {imagetest.BlobPath(m.Digest()), verify.DamagedManifest, single, true},
		"a revision link": {imagetest.RevisionPath("damaged", m.Digest()), verify.DamagedRevisionLink, single, true},
		"a current link":  {imagetest.TagPath("damaged", "v1"), verify.DamagedTagLink, single, true},
		"a layer link":    {imagetest.LayerPath("damaged", layer(1).Digest()), verify.DamagedLayerLink, single, false},
		"a layer":         {imagetest.BlobPath(layer(1).Digest()), verify.DamagedBlob, single, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newFixture(t)
			s.plant("damaged", "v1", m)
			s.plant("damaged", "", app(3))
			s.plant("other", "v1", app(4))
			s.plant("other", "", app(5))
			stop := systemtest.FailBelow(t, s.tree.Path(""), func(op, path string) error {
				if op == "read" && path == test.path {
					return syscall.EIO
				}
				return nil
			})
			found := s.verify("--read-data", s.tree.Root())
			if len(found.Findings) != 1 || found.Findings[0].Kind != test.kind || !slices.Equal(found.Findings[0].Tags, test.tags) {
				t.Errorf("verify finds %+v", found.Findings)
			}
			code := 0
			if test.keeps {
				code = 4
			}
			run := s.reported("gc", "-m", "--registry-stopped", "--yes", "--json", s.tree.Root())
			if run.code != code || s.tree.Exists(imagetest.RevisionPath("damaged", app(3).Digest())) != test.keeps || s.tree.Exists(imagetest.RevisionPath("other", app(5).Digest())) {
				t.Errorf("gc ends with %d: %s", run.code, run.stderr)
			}
			stop()
			if _, _, reasons := s.failing([]string{"damaged:v1", "other:v1"}); len(reasons) > 0 {
				t.Errorf("once the disk reads again: %v", reasons)
			}
		})
	}
}
