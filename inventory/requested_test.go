package inventory

import (
	"os"
	"path"
	"testing"
	"time"

	"regsweep/internal/imagetest"
	"regsweep/storage"
	"regsweep/storage/filesystem"
	"regsweep/storage/layout"
	"regsweep/storage/storagetest"

	"github.com/opencontainers/go-digest"
)

// The push times of tags and the sizes of blobs are known on request: from a listing that has them,
// which is not asked again, or from a stat of each.
func TestTimesAndSizesOnRequest(t *testing.T) {
	tree := storagetest.NewTree(t)
	small, large := tree.Blob([]byte("a")), tree.Blob([]byte("four"))
	pushed := map[string]time.Time{
		"v1": time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC),
		"v2": time.Date(2025, 1, 2, 3, 4, 5, 0, time.UTC),
	}
	for tag, at := range pushed {
		tree.Tag("app", tag, small)
		if err := os.Chtimes(tree.Path(layout.TagPath("app", tag)), at, at); err != nil {
			t.Fatal(err)
		}
	}
	tree.TagIndex("app", "without current", small)
	absent := digest.FromString("absent")
	bucket := bucketOf(t, tree, small, large)
	tree.Mkdir(path.Dir(layout.BlobPath(absent))) // all that is left of a blob
	links := int64(2*2+1) * int64(len(small))     // two tags, and one without its current link

	for name, store := range map[string]storage.Store{
		"filesystem": storagetest.MustOpen(t)(filesystem.Open(tree.Root(), storage.Limits{})),
		"bucket":     bucket,
	} {
		inv, err := Take(t.Context(), store, Options{TagTimes: true, Sizes: true})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		r := inv.Repositories[0]
		if r.LinkBytes != links {
			t.Errorf("%s: the links have %d bytes, want %d", name, r.LinkBytes, links)
		}
		for i, tag := range r.Tags {
			if got := r.TagPushed(i); !got.Equal(pushed[tag.Name]) {
				t.Errorf("%s: %s was pushed at %v, want %v", name, tag.Name, got, pushed[tag.Name])
			}
		}
		for d, want := range map[digest.Digest]int64{small: 1, large: 4, absent: -1} {
			if got, exact := inv.Size(inv.ID(d)); got != want || exact != (want >= 0) {
				t.Errorf("%s: %s has %d bytes, want %d", name, d, got, want)
			}
		}
		if r := inventoryOf(t, store).Repositories[0]; r.tagTimes != nil || !r.TagPushed(0).IsZero() {
			t.Errorf("%s: nobody asked for the times of tags, and there are some", name)
		}
	}
}

// Afterwards, the sizes of single blobs and the times of single tags are known.
func TestSingleBlobsAreMeasured(t *testing.T) {
	tree := storagetest.NewTree(t)
	small, large, linked := tree.Blob([]byte("a")), tree.Blob([]byte("four")), tree.Blob([]byte("linked"))
	absent := digest.FromString("absent")
	tree.Mkdir(path.Dir(layout.BlobPath(absent))) // all that is left of a blob
	if err := os.Link(tree.Path(layout.BlobPath(linked)), tree.Path("other")); err != nil {
		t.Fatal(err)
	}
	pushed := time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, tag := range []string{"v1", "v2"} {
		tree.Tag("app", tag, small)
		if err := os.Chtimes(tree.Path(layout.TagPath("app", tag)), pushed, pushed); err != nil {
			t.Fatal(err)
		}
	}
	store := storagetest.MustOpen(t)(filesystem.Open(tree.Root(), storage.Limits{}))
	inv := inventoryOf(t, store)
	gone, err := inv.Measure(t.Context(), store, 4, []ID{inv.ID(small), inv.ID(linked), inv.ID(absent)})
	if err != nil || len(gone) != 1 || !gone[inv.ID(absent)] {
		t.Errorf("absent are %v, %v", gone, err)
	}
	for d, want := range map[digest.Digest]int64{small: 1, linked: 6, absent: 0} {
		if got, exact := inv.Size(inv.ID(d)); got != want || !exact {
			t.Errorf("%s has %d bytes, want %d", d, got, want)
		}
	}
	if _, exact := inv.Size(inv.ID(large)); exact {
		t.Error("nobody asked for the size of the large blob")
	}
	if inv.HardLinked(inv.ID(small)) || !inv.HardLinked(inv.ID(linked)) {
		t.Error("the hard link is not known")
	}
	if err := inv.DateTags(t.Context(), store, 4, []TagPlace{{0, 1}}); err != nil {
		t.Fatal(err)
	}
	if r := inv.Repositories[0]; !r.TagPushed(0).IsZero() || !r.TagPushed(1).Equal(pushed) {
		t.Errorf("the tags were pushed at %v and %v", r.TagPushed(0), r.TagPushed(1))
	}
}

// A file can have any time. A time that no push can have is not known.
func TestImplausibleTimesAreNotKnown(t *testing.T) {
	tree := storagetest.NewTree(t)
	blob := tree.Blob([]byte("a"))
	for tag, at := range map[string]time.Time{
		"a-before-1970": time.Unix(-1, 0), "b-1970": time.Unix(0, 0), "c-2026": time.Unix(1.8e9, 0), "d-2300": time.Date(2300, 1, 1, 0, 0, 0, 0, time.UTC),
	} {
		tree.Tag("app", tag, blob)
		for _, link := range []string{layout.TagPath("app", tag), layout.TagIndexPath("app", tag, blob)} {
			if err := os.Chtimes(tree.Path(link), at, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	store := storagetest.MustOpen(t)(filesystem.Open(tree.Root(), storage.Limits{}))
	inv, err := Take(t.Context(), store, Options{TagTimes: true, Sizes: true})
	if err != nil {
		t.Fatal(err)
	}
	r := inv.Repositories[0]
	for i, want := range []int64{0, 0, 1.8e9, 0} {
		if got := r.TagPushed(i); want == 0 && !got.IsZero() || want > 0 && got.Unix() != want {
			t.Errorf("%s was pushed at %v, want %d", r.Tags[i].Name, got, want)
		}
	}
	if r.Pushed.Unix() != 1.8e9 {
		t.Errorf("the last push was at %v", r.Pushed)
	}
}

// A plan does not stat a blob whose size is exact, so the inventory must know that it is recent.
func TestBlobsWithRequestedSizesAreRecent(t *testing.T) {
	tree := storagetest.NewTree(t)
	young, aged := tree.Blob([]byte("young")), tree.Blob([]byte("aged"))
	tree.Age(layout.BlobPath(aged), 48*time.Hour)
	store := storagetest.MustOpen(t)(filesystem.Open(tree.Root(), storage.Limits{}))
	inv, err := Take(t.Context(), store, Options{Sizes: true, Since: time.Now().Add(-24 * time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	for d, want := range map[digest.Digest]bool{young: true, aged: false} {
		if got := inv.Recent(inv.ID(d)); got != want {
			t.Errorf("%s: recent is %t", d, got)
		}
	}
}

// bucketOf has the blobs and tags of a tree as keys. Its Stat must not be called.
func bucketOf(t *testing.T, tree *imagetest.Tree, blobs ...digest.Digest) *keys {
	t.Helper()
	paths := []string{
		layout.TagPath("app", "v1"), layout.TagPath("app", "v2"),
		layout.TagIndexPath("app", "v1", blobs[0]), layout.TagIndexPath("app", "v2", blobs[0]),
		layout.TagIndexPath("app", "without current", blobs[0]),
	}
	for _, d := range blobs {
		paths = append(paths, layout.BlobPath(d))
	}
	f := &keys{}
	for _, path := range paths {
		content, err := os.ReadFile(tree.Path(path))
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(tree.Path(path))
		if err != nil {
			t.Fatal(err)
		}
		f.put(path, string(content), "")
		f.objects[len(f.objects)-1].ModTime = info.ModTime()
	}
	return f
}
