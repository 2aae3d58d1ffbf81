package filesystem

import (
	"path"
	"slices"
	"sync/atomic"
	"testing"

	"regsweep/internal/imagetest"
	"regsweep/internal/system/systemtest"
	"regsweep/storage"
	"regsweep/storage/layout"
	"regsweep/storage/storagetest"

	"golang.org/x/sys/unix"
)

// A link count is used only where a listing has shown that it counts directories, and only on the
// filesystem of that directory.
func TestLinkCountsAreCheckedBeforeTheyCount(t *testing.T) {
	const dir = storage.RepositoriesDir
	tree := storagetest.NewTree(t)
	tree.Mkdir(dir + "/a/x")
	tree.Mkdir(dir + "/b")
	store := storagetest.MustOpen(t)(Open(tree.Root(), storage.Limits{})).(*Store)
	w := &walk{fs: store, tree: store.opened.Load()}
	at := func(directories int) *walk {
		in, err := w.openBase(t.Context(), dir, directories)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { closeDir(in.base.fd) })
		return in
	}
	in := at(2)
	if !in.base.counted {
		t.Skip("the temporary directory is on a filesystem that does not count directories")
	}
	for _, listed := range []int{0, 1, 3} {
		if at(listed).base.counted {
			t.Errorf("the link count of two directories counts where %d were listed", listed)
		}
	}
	if !in.hasDirectories("a", 1) || in.hasDirectories("a", 0) || !in.hasDirectories("b", 0) || in.hasDirectories("missing", 0) {
		t.Error("directories are counted wrongly")
	}
	if in.base.stat.Dev++; in.hasDirectories("b", 0) {
		t.Error("a directory of another filesystem is counted")
	}
}

// Nothing is ordinary where link counts do not count.
func TestNothingIsOrdinaryWithoutLinkCounts(t *testing.T) {
	tree := storagetest.NewTree(t)
	image := tree.Manifest("app", imagetest.Image(imagetest.OCI, imagetest.Layer(1, 10)))
	tree.Tag("app", "v1", image)
	fs := storagetest.MustOpen(t)(Open(tree.Root(), storage.Limits{})).(*Store)
	w := &walk{fs: fs, tree: fs.opened.Load()}
	ordinary := func(directories int) (revision, tag bool) {
		for dir, is := range map[string]func(in *walk, dir string) error{
			path.Dir(path.Dir(layout.RevisionPath("app", image))): func(in *walk, _ string) (err error) {
				revision, err = in.isOrdinaryRevision(t.Context(), image.Encoded())
				return err
			},
			"repositories/app/_manifests/tags": func(in *walk, dir string) (err error) {
				_, tag, err = in.ordinaryTag(t.Context(), nil, dir+"/v1")
				return err
			},
		} {
			in, err := w.openBase(t.Context(), dir, directories)
			if err != nil {
				t.Fatal(err)
			}
			if err := is(in, dir); err != nil {
				t.Error(err)
			}
			closeDir(in.base.fd)
		}
		return revision, tag
	}
	if revision, tag := ordinary(1); !revision || !tag {
		t.Skip("the temporary directory is on a filesystem that does not count directories")
	}
	if revision, tag := ordinary(2); revision || tag {
		t.Errorf("ordinary although link counts are wrong: a revision %t, a tag %t", revision, tag)
	}
}

// Where link counts do not count, all directories of tags and revisions are listed, and the
// inventory is the same.
func TestTagsAndRevisionsAreListedWithoutLinkCounts(t *testing.T) {
	tree := storagetest.NewTree(t)
	for i, tag := range []string{"v1", "v2", "v3"} {
		tree.Tag("app", tag, tree.Manifest("app", imagetest.Image(imagetest.OCI, imagetest.Layer(uint64(i), 10))))
	}
	take := func() (contained []string, lists int64) {
		store := storagetest.MustOpen(t)(Open(tree.Root(), storage.Limits{}))
		return contents(takenInventory(t, store)), store.Requests().List
	}
	want, fewer := take()
	var reached atomic.Bool
	systemtest.FailBelow(t, tree.Path(""), func(op, name string) error {
		if base := path.Base(name); op == "fstat" && (base == "tags" || base == "sha256") {
			reached.Store(true)
			return unix.EIO
		}
		return nil
	})
	got, more := take()
	if !slices.Equal(got, want) {
		t.Errorf("the inventory has %q, want %q", got, want)
	}
	// Where the filesystem does not count directories, all were listed before too.
	if !reached.Load() || more != fewer && more < fewer+3*(1+4) {
		t.Errorf("%d directories were listed, and %d without link counts", fewer, more)
	}
}
