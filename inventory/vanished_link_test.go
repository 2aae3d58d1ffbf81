package inventory

import (
	"context"
	"errors"
	"io/fs"
	"testing"
	"time"

	"regsweep/storage"
	"regsweep/storage/filesystem"
	"regsweep/storage/layout"
	"regsweep/storage/storagetest"

	"github.com/opencontainers/go-digest"
)

// vanishing injects a fault: an object that was listed and read is not found by a stat.
type vanishing struct {
	storage.Store
	path string
	err  error
	met  bool
}

func (v *vanishing) Stat(ctx context.Context, path string) (storage.Object, error) {
	if path == v.path {
		v.met = true
		return storage.Object{}, v.err
	}
	return v.Store.Stat(ctx, path)
}

// A link that was listed and is then not found keeps its repository. Its time is unknown, so it may
// be younger than the minimum age.
func TestALinkVanishesBeforeItsTimeIsKnown(t *testing.T) {
	manifest, layer := digest.FromString("manifest"), digest.FromString("layer")
	long := digest.SHA512.FromString("layer")
	for name, test := range map[string]struct {
		path string
		err  error
		met  string
	}{
		"a revision":                 {layout.RevisionPath("app", manifest), fs.ErrNotExist, "damaged_link"},
		"a revision that is no file": {layout.RevisionPath("app", manifest), storage.ErrNotRegular, "damaged_link"},
		"a layer link by its sha512": {layout.LayerPath("app", long), fs.ErrNotExist, "damaged_link"},
		"a layer link":               {layout.LayerPath("app", layer), fs.ErrNotExist, "damaged_link"},
		// Two calls report that only the directory exists.
		"a layer link's directory": {layout.LayerPath("app", digest.FromString("gone")), fs.ErrNotExist, ""},
	} {
		t.Run(name, func(t *testing.T) {
			tree := storagetest.NewTree(t)
			tree.Revision("app", manifest)
			tree.LayerLink("app", layer)
			tree.Write(layout.LayerPath("app", long), string(layer))
			tree.Mkdir("repositories/app/_layers/sha256/" + digest.FromString("gone").Encoded())
			tree.Age("repositories", 48*time.Hour)
			store := &vanishing{Store: storagetest.MustOpen(t)(filesystem.Open(tree.Root(), storage.Limits{})), path: test.path, err: test.err}
			inv, err := Take(t.Context(), store, Options{Since: time.Now().Add(-24 * time.Hour)})
			if err != nil {
				t.Fatal(err)
			}
			if !store.met {
				t.Fatal("the fault was never met")
			}
			r := inv.Repository("app")
			var met string
			for _, p := range r.Problems {
				met += string(p.Kind)
			}
			want(t, "problems", met, test.met)
			want(t, "the repository is kept", r.Kept(), test.met != "")
			want(t, "links", len(r.Revisions)+len(r.Layers), 4)
		})
	}
}

// If the storage fails at the stat of a link, Take fails.
func TestALinksTimeCanNotBeHad(t *testing.T) {
	tree := storagetest.NewTree(t)
	m := digest.FromString("manifest")
	tree.Revision("app", m)
	store := &vanishing{Store: storagetest.MustOpen(t)(filesystem.Open(tree.Root(), storage.Limits{})), path: layout.RevisionPath("app", m), err: fs.ErrPermission}
	if _, err := Take(t.Context(), store, Options{Since: time.Now()}); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("the inventory ends with %v", err)
	}
}
