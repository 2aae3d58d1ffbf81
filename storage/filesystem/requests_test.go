package filesystem

import (
	"fmt"
	"testing"
	"time"

	"regsweep/internal/imagetest"
	"regsweep/storage"
	"regsweep/storage/layout"
	"regsweep/storage/storagetest"

	"github.com/opencontainers/go-digest"
)

// TestMaxRequestsBoundsAScan scans a hundred repositories. Each of them takes several directory
// reads.
func TestMaxRequestsBoundsAScan(t *testing.T) {
	t.Parallel()
	tree := imagetest.NewTree(t, t.TempDir())
	for i := range 100 {
		tree.LayerLink(fmt.Sprintf("app%d", i), digest.FromString("layer"))
	}
	store := storagetest.MustOpen(t)(Open(tree.Root(), storage.Limits{MaxRequests: 500}))
	began := time.Now()
	if objects := storagetest.Scan(t, store, storage.RepositoriesDir); len(objects) < 100 {
		t.Errorf("%d objects", len(objects))
	}
	least := time.Duration(store.Requests().List-1) * time.Second / 500
	if took := time.Since(began); took < least || least < 300*time.Millisecond {
		t.Errorf("%+v in %v, want at least %v", store.Requests(), took, least)
	}
}

// TestMaxRequestsBoundsTagsAndRevisions: each tag and each revision of one repository takes several
// requests.
func TestMaxRequestsBoundsTagsAndRevisions(t *testing.T) {
	t.Parallel()
	for name, plant := range map[string]func(tree *imagetest.Tree, i int){
		"revisions": func(tree *imagetest.Tree, i int) {
			d := digest.FromString(fmt.Sprint(i))
			tree.Write(layout.RevisionPath("app", d), d.String())
		},
		"tags": func(tree *imagetest.Tree, i int) { tree.Tag("app", fmt.Sprint("v", i), digest.FromString("image")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tree := storagetest.NewTree(t)
			for i := range 200 {
				plant(tree, i)
			}
			store := storagetest.MustOpen(t)(Open(tree.Root(), storage.Limits{MaxRequests: 500}))
			began := time.Now()
			storagetest.Scan(t, store, storage.RepositoriesDir)
			if took := time.Since(began); took < 199*time.Second/500 {
				t.Errorf("200 in %v at 500 a second", took)
			}
		})
	}
}
