package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"regsweep/internal/imagetest"
	"regsweep/internal/registrytest"
)

// EIO takes a disk that fails, or FUSE: TestEachSystemCallFails injects it. What a kernel can be
// asked for is here.

// TestPermissionsThatAreMissing: a directory that can't be listed, or a file that can't be
// read, stops the run before anything goes, and one from which nothing may be removed stops
// it there; each is named (1).
func TestPermissionsThatAreMissing(t *testing.T) {
	t.Parallel()
	manyAlike(t)
	for name, test := range map[string]struct {
		of      func(tagged, untagged *imagetest.Manifest) string
		mode    os.FileMode
		removes bool
	}{
		"a repository's tags": {func(*imagetest.Manifest, *imagetest.Manifest) string { return "repositories/app/_manifests/tags" }, 0, false},
		"a repository":        {func(*imagetest.Manifest, *imagetest.Manifest) string { return "repositories/app" }, 0, false},
		"revisions, names alone": {func(*imagetest.Manifest, *imagetest.Manifest) string {
			return "repositories/app/_manifests/revisions/sha256"
		}, 0o444, false},
		"the blobs":  {func(*imagetest.Manifest, *imagetest.Manifest) string { return "blobs/sha256" }, 0, false},
		"a manifest": {func(m, _ *imagetest.Manifest) string { return imagetest.BlobPath(m.Digest()) }, 0, false},
		"a tag":      {func(*imagetest.Manifest, *imagetest.Manifest) string { return imagetest.TagPath("app", "v1") }, 0, false},
		"a revision": {func(_, m *imagetest.Manifest) string { return imagetest.RevisionPath("app", m.Digest()) }, 0, false},
		"removal of revisions": {func(*imagetest.Manifest, *imagetest.Manifest) string {
			return "repositories/app/_manifests/revisions/sha256"
		}, 0o555, true},
		"removal of one blob's data": {func(_, m *imagetest.Manifest) string { return filepath.Dir(imagetest.BlobPath(m.Digest())) }, 0o555, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newFixture(t)
			tagged, untagged := app(1, 2), app(1, 3)
			s.plant("app", "v1", tagged)
			s.plant("app", "", untagged)
			s.plant("sound", "v1", app(4))
			give(t, s.tree.Root())
			path := s.tree.Path(test.of(tagged, untagged))
			if test.removes { // the link itself lies in a directory below
				path = filepath.Clean(path)
				if strings.HasSuffix(path, "sha256") {
					path = filepath.Dir(s.tree.Path(imagetest.RevisionPath("app", untagged.Digest())))
				}
			}
			s.must(os.Chmod(path, test.mode))
			code, stderr := asNobody(t, "gc", "-m", "--registry-stopped", s.tree.Root())
			s.must(os.Chmod(path, 0o755))
			if code != 1 || !strings.Contains(stderr, "permission denied") || !strings.Contains(stderr, filepath.Base(strings.TrimSuffix(path, "/data"))) {
				t.Errorf("ends with %d, %q", code, stderr)
			}
			s.pull("after the run", s.client, []image{pulls("app", "v1", tagged), pulls("sound", "v1")})
			if !test.removes {
				s.pull("after the run", s.client, []image{pulls("app", untagged)})
			}
			if code, stderr := asNobody(t, "gc", "-m", "--registry-stopped", s.tree.Root()); code != 0 {
				t.Errorf("the next run ends with %d: %s", code, stderr)
			}
			s.pull("after the next run", s.client, []image{pulls("app", "v1", tagged), pulls("sound", "v1")})
			if s.tree.Exists(imagetest.BlobPath(untagged.Digest())) {
				t.Error("after the next run there is garbage yet")
			}
		})
	}
}

// TestADiskThatIsFull while a plan is written stops the run before anything goes, and leaves
// the former plan and no half of a new one (1). A full disk costs a cache, and no run: see
// the tests of package cache.
func TestADiskThatIsFull(t *testing.T) {
	t.Parallel()
	full := smallDisk(t, "size=16k")
	s := newFixture(t)
	s.plant("app", "v1", app(1))
	plan := filepath.Join(full, "plan.jsonl")
	if code, _, stderr := regsweep(s, "gc", s.tree.Root(), "-d", "--plan", plan); code != 0 {
		t.Fatalf("no former plan: %s", stderr)
	}
	former, err := os.ReadFile(plan)
	s.must(err)
	for n := range 200 {
		s.tree.Blob(layer(n + 100).Content)
	}
	before := s.files()

	for _, args := range [][]string{{"gc", s.tree.Root(), "--plan", plan}, {"gc", s.tree.Root(), "-d", "--plan", plan}} {
		code, _, stderr := regsweep(s, append(args, "--registry-stopped")...)
		if code != 1 || !strings.Contains(stderr, "save the plan") || !strings.Contains(stderr, "no space left") {
			t.Errorf("%v: ends with %d, %q", args, code, stderr)
		}
		s.same("the files", keys(s.files()), keys(before))
		if content, err := os.ReadFile(plan); err != nil || string(content) != string(former) {
			t.Errorf("the former plan is %q, %v", content, err)
		}
		if entries, err := os.ReadDir(full); err != nil || len(entries) != 1 {
			t.Errorf("there is %v, %v", entries, err)
		}
	}
	s.pull("at the end", s.client, []image{pulls("app", "v1")})
}

// TestAFullDiskTakesNoQuarantine: where there is no room for the plan nothing is moved, and
// of the quarantine nothing is left (1). With room for the plan there is room for all, since
// what is moved is not copied.
func TestAFullDiskTakesNoQuarantine(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, "size=4m")
	s := &fixture{T: t, tree: imagetest.NewTree(t, disk), names: map[string]string{}}
	s.serve(registrytest.Config{Root: disk})
	s.plant("app", "v1", app(1))
	for n := range 200 {
		s.tree.Blob(layer(n + 100).Content)
	}
	before := s.shape()
	filler, err := os.Create(filepath.Join(disk, "filler"))
	s.must(err)
	for err == nil {
		_, err = filler.Write(make([]byte, 4<<10))
	}
	info, err := filler.Stat()
	s.must(err)
	s.must(filler.Truncate(info.Size() - 16<<10)) // a lock is small
	s.must(filler.Close())

	args := []string{"gc", disk, "-m", "--quarantine", "--registry-stopped"}
	if code, _, stderr := regsweep(s, args...); code != 1 || !strings.Contains(stderr, "a quarantine takes") || !strings.Contains(stderr, "no space left") {
		t.Errorf("ends with %d, %q", code, stderr)
	}
	after := s.shape()
	delete(after, ".regsweep")
	if d := difference(after, before); d != "" {
		t.Errorf("on a full disk:%s", d)
	}
	s.pull("on a full disk", s.client, []image{pulls("app", "v1")})
	s.must(os.Truncate(filepath.Join(disk, "filler"), info.Size()-128<<10))
	if code, _, stderr := regsweep(s, args...); code != 0 {
		t.Errorf("with room for the plan it ends with %d, %q", code, stderr)
	}
	s.restoreAll("from a full disk")
	if d := difference(s.shape(), before); d != "" {
		t.Errorf("restored:%s", d)
	}
}
