package inventory

import (
	"testing"
	"time"

	"regsweep/internal/imagetest"
	"regsweep/storage"
	"regsweep/storage/filesystem"
	"regsweep/storage/layout"
	"regsweep/storage/storagetest"

	"github.com/opencontainers/go-digest"
)

// A push that moves an old tag and mounts its layers from another repository makes neither an
// upload nor a tag. It is found by the times of its links. A removal writes no links.
func TestPromise4APushIsSeenByItsLinks(t *testing.T) {
	type fixture struct {
		push  func(repository, tag, manifest string)
		layer func(content string)
		gone  func()
	}
	for name, test := range map[string]struct {
		does func(fixture)
		want string
	}{
		"nothing":                      {func(fixture) {}, ""},
		"a new manifest of an old tag": {func(f fixture) { f.push("prod", "latest", "new") }, "prod"},
		"with a layer":                 {func(f fixture) { f.layer("mounted"); f.push("prod", "latest", "new") }, "prod"},
		"a new tag":                    {func(f fixture) { f.push("prod", "new", "old") }, "prod"},
		"another repository":           {func(f fixture) { f.push("other", "latest", "old") }, ""},
		"a removal":                    {func(f fixture) { f.gone() }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			tree := storagetest.NewTree(t)
			push := func(repository, tag, manifest string) {
				d := tree.Blob([]byte(manifest))
				tree.Revision(repository, d)
				tree.Tag(repository, tag, d)
			}
			layer := func(content string) { tree.LayerLink("prod", tree.Blob([]byte(content))) }
			tree.Mkdir("repositories/prod/_uploads")
			garbage := tree.Blob([]byte("garbage"))
			tree.Revision("prod", garbage)
			tree.LayerLink("prod", garbage)
			push("prod", "latest", "old")
			tree.Age("", 24*time.Hour)
			store := storagetest.MustOpen(t)(filesystem.Open(tree.Root(), storage.Limits{}))
			test.does(fixture{push, layer, func() {
				for _, outcome := range store.Remove(t.Context(), []storage.Ref{{Path: layout.RevisionPath("prod", garbage)}, {Path: layout.LayerPath("prod", garbage)}}) {
					if outcome.Err != nil {
						t.Error(outcome.Err)
					}
				}
			}})
			last, err := LastPush(t.Context(), store, map[string]time.Time{"prod": {}}, time.Now().Add(-10*time.Minute), time.Time{})
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if last != nil {
				got = last.Repository
			}
			if got != test.want {
				t.Errorf("found a push to %q, want %q", got, test.want)
			}
		})
	}
}

// What is pushed while a run removes is found, in a repository that was there and in a new one. What
// the run removes is no push, nor is a link with a wrong time.
func TestPromise4APushDuringARemovalIsFound(t *testing.T) {
	for name, test := range map[string]struct {
		does func(tree *imagetest.Tree, remove func(paths ...string))
		want string
	}{
		"nothing":        {func(*imagetest.Tree, func(...string)) {}, ""},
		"a new tag":      {func(tree *imagetest.Tree, _ func(...string)) { tree.Tag("team/app", "v2", tree.Blob([]byte("image"))) }, "team/app"},
		"a new manifest": {func(tree *imagetest.Tree, _ func(...string)) { tree.Revision("team/app", tree.Blob([]byte("new"))) }, "team/app"},
		"a manifest again that was removed": {func(tree *imagetest.Tree, remove func(...string)) {
			old := tree.Blob([]byte("old"))
			remove(layout.RevisionPath("team/app", old))
			tree.Revision("team/app", old)
		}, "team/app"},
		"a new repository": {func(tree *imagetest.Tree, _ func(...string)) { tree.Revision("new", tree.Blob([]byte("image"))) }, "new"},
		"one below a name": {func(tree *imagetest.Tree, _ func(...string)) {
			tree.Revision("team/new/app", tree.Blob([]byte("image")))
		}, "team/new/app"},
		"one below another": {func(tree *imagetest.Tree, _ func(...string)) {
			tree.Revision("team/app/new", tree.Blob([]byte("image")))
		}, "team/app/new"},
		"a directory": {func(tree *imagetest.Tree, _ func(...string)) { tree.Mkdir("repositories/new/_manifests/tags") }, ""},
		"an image goes": {func(tree *imagetest.Tree, remove func(...string)) {
			remove(layout.RevisionPath("team/app", tree.Blob([]byte("old"))))
		}, ""},
		"a link of the future": {func(tree *imagetest.Tree, remove func(...string)) {
			remove(layout.RevisionPath("team/future", tree.Blob([]byte("old"))))
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			tree := storagetest.NewTree(t)
			for _, repository := range []string{"team/app", "team/future"} {
				image := tree.Blob([]byte("image"))
				tree.Revision(repository, image)
				tree.Revision(repository, tree.Blob([]byte("old")))
				tree.Tag(repository, "v1", image)
			}
			tree.Age("", time.Hour)
			tree.Age("repositories/team/future", -time.Hour)
			store := storagetest.MustOpen(t)(filesystem.Open(tree.Root(), storage.Limits{}))
			inv := inventoryOf(t, store)
			removed := func(string) map[ID]bool {
				id, _ := inv.Find(digest.FromString("old"))
				return map[ID]bool{id: true}
			}
			pushes, err := NewPushes(t.Context(), store, inv, removed, time.Now().Add(-time.Minute))
			if err != nil {
				t.Fatal(err)
			}
			test.does(tree, func(paths ...string) {
				for _, path := range paths {
					if outcome := store.Remove(t.Context(), []storage.Ref{{Path: path}}); outcome[0].Err != nil {
						t.Error(outcome[0].Err)
					}
				}
			})
			found, err := pushes.Find(t.Context(), time.Now())
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if found != nil {
				got = found.Repository
			}
			if got != test.want {
				t.Errorf("found a push to %q, want %q", got, test.want)
			}
		})
	}
}
