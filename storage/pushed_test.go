package storage

import (
	"testing"
	"time"
)

// A push that moves an old tag and mounts its layers from another repository makes neither an
// upload nor a tag. It is seen by its links. A removal has none.
func TestPromise4APushIsSeenByItsLinks(t *testing.T) {
	type ground struct {
		push  func(repository, tag, manifest string)
		layer func(content string)
		gone  func()
	}
	for name, test := range map[string]struct {
		does func(ground)
		want string
	}{
		"nothing":                      {func(ground) {}, ""},
		"a new manifest of an old tag": {func(g ground) { g.push("prod", "latest", "new") }, "prod"},
		"with a layer":                 {func(g ground) { g.layer("mounted"); g.push("prod", "latest", "new") }, "prod"},
		"a new tag":                    {func(g ground) { g.push("prod", "new", "old") }, "prod"},
		"another repository":           {func(g ground) { g.push("other", "latest", "old") }, ""},
		"a removal":                    {func(g ground) { g.gone() }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			tree := newTree(t)
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
			store := mustOpen(t)(openFilesystem(tree.Root(), Limits{}))
			test.does(ground{push, layer, func() {
				for _, outcome := range store.Remove(t.Context(), []Ref{{Path: RevisionPath("prod", garbage)}, {Path: LayerPath("prod", garbage)}}) {
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
