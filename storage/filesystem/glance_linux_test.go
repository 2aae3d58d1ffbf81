package filesystem

import (
	"os"
	"path/filepath"
	"testing"

	"regsweep/storage/layout"
	"regsweep/storage/storagetest"

	"golang.org/x/sys/unix"
)

// treeAt opens a directory.
func treeAt(t *testing.T, dir string) *tree {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return openedTree(fd, dir, &unnoticed{})
}

// Where a filesystem does not count directories in link counts, or another is mounted,
// a glance says so.
func TestLinkCountsAreCheckedBeforeTheyCount(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a/x", "b"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	g := newGlance(treeAt(t, dir), ".")
	defer g.close()
	if !g.countsDirectories(2) {
		t.Skip("the temporary directory lies on a filesystem that does not count directories")
	}
	for _, listed := range []int{0, 1, 3} {
		if g.countsDirectories(listed) {
			t.Errorf("two directories are taken for %d", listed)
		}
	}
	if a, b, missing := g.directories("a"), g.directories("b"), g.directories("missing"); a != 1 || b != 0 || missing != -1 {
		t.Errorf("there are %d, %d and %d directories in a, b and missing", a, b, missing)
	}
	if g.device[1]++; g.directories("a") != -1 {
		t.Error("a directory of another filesystem is believed")
	}
}

// Anything but a good link in a regular file is left to the careful way.
func TestAGlanceReadsOnlyGoodLinks(t *testing.T) {
	dir := t.TempDir()
	good := "sha256:" + storagetest.HexOf("good")
	for name, content := range map[string]string{
		"link": good, "longer": good + "\n", "shorter": good[:70], "malformed": good[:70] + "A",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("link", filepath.Join(dir, "symbolic")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(dir, "pipe"), 0o644); err != nil {
		t.Fatal(err)
	}
	g := newGlance(treeAt(t, dir), ".")
	defer g.close()
	if got, is := g.link("link"); is != ordinary || string(layout.DigestOf(&got)) != good {
		t.Errorf("the link says %x (%d)", got, is)
	}
	for _, name := range []string{"longer", "shorter", "malformed", "symbolic", "pipe", ".", "link/link"} {
		if got, is := g.link(name); is != unclear {
			t.Errorf("%s is glanced as %d, and says %x", name, is, got)
		}
	}
	if _, is := g.link("missing"); is != absent {
		t.Errorf("what is missing is glanced as %d", is)
	}
	missing := newGlance(treeAt(t, dir), "missing")
	defer missing.close()
	if _, is := missing.link("link"); is != unclear || missing.isAbsent("link") || missing.directories("a") != -1 || missing.countsDirectories(2) {
		t.Error("something is told of a directory that is not there")
	}
}
