package inventory

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"testing"

	"regsweep/internal/imagetest"
	"regsweep/internal/miniotest"
	"regsweep/internal/system/systemtest"
	"regsweep/storage"
	"regsweep/storage/filesystem"
	"regsweep/storage/layout"
	"regsweep/storage/s3"
	"regsweep/storage/storagetest"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// notFoundWhenOpened injects a fault: a file that exists is not found when it is opened.
func notFoundWhenOpened(t *testing.T, tree *imagetest.Tree, file string) (reached *bool) {
	reached = new(bool)
	systemtest.FailBelow(t, tree.Path(""), func(op, path string) error {
		if path == file && (op == "openat" || op == "openat2") {
			*reached = true
			return unix.ENOENT
		}
		return nil
	})
	return reached
}

// If the second listing has a link and does not find it, this is reported.
func TestALinkThatTheSecondListingDoesNotFind(t *testing.T) {
	oldImage, newImage := digest.FromString("old"), digest.FromString("new")
	for name, test := range map[string]struct {
		path   string
		change func(tree *imagetest.Tree)
		fault  bool
		fails  bool
	}{
		"a tag that was moved back": {layout.TagPath("app", "v1"), func(tree *imagetest.Tree) { tree.Tag("app", "v1", oldImage) }, true, true},
		"a tag that is the same":    {layout.TagPath("app", "v1"), func(*imagetest.Tree) {}, true, true},
		"a new revision":            {layout.RevisionPath("app", digest.FromString("x")), func(tree *imagetest.Tree) { tree.Revision("app", digest.FromString("x")) }, true, true},
		"the directory of a revision without a link": {"", func(tree *imagetest.Tree) {
			tree.Mkdir("repositories/app/_manifests/revisions/sha256/" + digest.FromString("x").Encoded())
		}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			tree := storagetest.NewTree(t)
			for _, d := range []digest.Digest{oldImage, newImage} {
				tree.Revision("app", d)
				tree.Tag("app", "v1", d)
			}
			store := storagetest.MustOpen(t)(filesystem.Open(tree.Root(), storage.Limits{}))
			inv := inventoryOf(t, store)
			test.change(tree)
			reached := new(bool)
			if test.fault {
				reached = notFoundWhenOpened(t, tree, test.path)
			}
			err := ListAgain(t.Context(), store, inv)
			if (err != nil) != test.fails || errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the second listing says %v", err)
			}
			if *reached != test.fault {
				t.Error("the fault was not reached")
			}
		})
	}
}

// unfound injects a fault: an object that is listed is not found when it is read.
type unfound struct {
	storage.Store
	path string
	met  bool
}

func (u *unfound) Read(ctx context.Context, path string, limit int64) ([]byte, error) {
	if path == u.path {
		u.met = true
		return nil, storage.NotExist("read", path)
	}
	return u.Store.Read(ctx, path, limit)
}

// In a bucket a tag that was moved back is read again. If it is not found, the listing fails.
func TestATagOfABucketThatTheSecondListingDoesNotFind(t *testing.T) {
	server := miniotest.SharedMinIO(t)
	bucket := server.NewBucketT(t)
	put := func(path string, d digest.Digest) { server.PutT(t, bucket, storage.Root+"/"+path, d.String()) }
	oldImage, newImage := digest.FromString("old"), digest.FromString("new")
	for _, d := range []digest.Digest{oldImage, newImage} {
		put(layout.RevisionPath("app", d), d)
		put(layout.TagIndexPath("app", "v1", d), d)
		put(layout.TagPath("app", "v1"), d)
	}
	store := &unfound{Store: storagetest.MustOpen(t)(s3.Open(t.Context(), server.Parameters(bucket, ""), s3.Options{})), path: layout.TagPath("app", "v1")}
	inv := inventoryOf(t, store)
	put(layout.TagPath("app", "v1"), oldImage)
	if err := ListAgain(t.Context(), store, inv); err == nil || errors.Is(err, fs.ErrNotExist) || !store.met {
		t.Errorf("the second listing says %v", err)
	}
	// If the first listing did not find it either, the repository is kept.
	put(layout.TagPath("app", "v1"), digest.FromString("in no index"))
	inv = inventoryOf(t, store)
	if err := ListAgain(t.Context(), store, inv); err != nil || !inv.Repository("app").Kept() {
		t.Errorf("the second listing says %v, and the repository is kept: %t", err, inv.Repository("app").Kept())
	}
}

// A link of which only the directory was listed counts as absent only if a listing confirms that.
func TestALinkKnownByItsDirectoryIsNotFoundOnce(t *testing.T) {
	tree := storagetest.NewTree(t)
	layer := tree.Blob([]byte("layer"))
	long := digest.SHA512.FromString("layer")
	tree.Write(layout.LayerPath("app", long), string(layer))
	store := storagetest.MustOpen(t)(filesystem.Open(tree.Root(), storage.Limits{}))
	reached := notFoundWhenOpened(t, tree, layout.LayerPath("app", long))
	inv := inventoryOf(t, store)
	if r := inv.Repository("app"); !r.Kept() || !*reached {
		t.Errorf("nothing keeps %s, which the link says: %+v", layer, r)
	}
	if exists, damage, err := CheckLink(t.Context(), store, layout.LayerPath("app", long)); !exists || damage == "" || err != nil {
		t.Errorf("the link exists: %t, damage %q, %v", exists, damage, err)
	}
	if err := os.Remove(tree.Path(layout.LayerPath("app", long))); err != nil {
		t.Fatal(err)
	}
	if r := inventoryOf(t, store).Repository("app"); r.Kept() || len(r.Emptied) != 1 {
		t.Errorf("a directory without a link: %+v", r)
	}
	if exists, damage, err := CheckLink(t.Context(), store, layout.LayerPath("app", long)); exists || damage != "" || err != nil {
		t.Errorf("no link exists: %t, damage %q, %v", exists, damage, err)
	}
}
