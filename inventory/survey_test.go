package inventory_test

import (
	"context"
	"io/fs"
	"reflect"
	"testing"
	"time"

	"regsweep/inventory"
	"regsweep/storage"
	"regsweep/storage/layout"

	"github.com/opencontainers/go-digest"
)

// paged is a storage whose listing has the given pages, in this order.
type paged struct {
	storage.Store
	pages    [][]storage.Object
	contents map[string]string
}

func (p paged) Scan(_ context.Context, _ string, visit func([]storage.Object) error) error {
	for _, page := range p.pages {
		if err := visit(page); err != nil {
			return err
		}
	}
	return nil
}

func (p paged) Read(_ context.Context, path string, _ int64) ([]byte, error) {
	content, found := p.contents[path]
	if !found {
		return nil, fs.ErrNotExist
	}
	return []byte(content), nil
}

// TestASurveyHasTheNewestOfAllPages: the newest link of each repository and the last upload, on whatever
// page they are, and manifests that a registry can be asked for.
func TestASurveyHasTheNewestOfAllPages(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	at := func(hour int) time.Time { return start.Add(time.Duration(hour) * time.Hour) }
	intact, damaged := digest.FromString("{}"), digest.FromString("damaged")
	revision := func(repository string, d digest.Digest, hour int) storage.Object {
		return storage.Object{Path: layout.RevisionPath(repository, d), ModTime: at(hour)}
	}
	upload := func(repository, id string, hour int) storage.Object {
		return storage.Object{Path: layout.UploadPath(repository, id) + "/data", ModTime: at(hour)}
	}
	contents := map[string]string{layout.BlobPath(intact): "{}", layout.BlobPath(damaged): "another content"}
	for _, repository := range []string{"app", "web"} {
		for _, d := range []digest.Digest{intact, damaged} {
			contents[layout.RevisionPath(repository, d)] = string(d)
		}
	}
	pages := [][]storage.Object{
		{revision("app", damaged, 1), upload("app", "first", 1), revision("web", intact, 7)},
		{revision("app", intact, 5), upload("app", "last", 6)},
		{upload("web", "second", 2), revision("app", damaged, 3)},
	}
	want := inventory.Survey{
		Untagged:     []inventory.TaggedManifest{{Repository: "web", Digest: intact}, {Repository: "app", Digest: intact}},
		LastUpload:   &inventory.LastUpload{Repository: "app", ID: "last", Touched: at(6)},
		Repositories: map[string]time.Time{"app": at(5), "web": at(7)},
	}
	check := func(name string, pages [][]storage.Object, quick bool) {
		t.Helper()
		got, err := inventory.TakeSurvey(t.Context(), paged{pages: pages, contents: contents}, 2, quick)
		if got.Tagged = append([]inventory.TaggedManifest(nil), got.Tagged...); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v\n%+v, want\n%+v", name, err, got, want)
		}
	}
	check("without tags", pages, false)

	tag := func(repository, name string, d digest.Digest) storage.Object {
		path := layout.TagPath(repository, name)
		contents[path] = string(d)
		return storage.Object{Path: path, ModTime: at(0)}
	}
	pages = append(pages, []storage.Object{
		tag("app", "broken", damaged), tag("app", "v1", intact), tag("app", "v2", intact), tag("web", "v1", intact),
	})
	want.Tagged = []inventory.TaggedManifest{{Repository: "app", Digest: intact}, {Repository: "web", Digest: intact}}
	want.Untagged = nil
	check("with tags", pages, false)
	want.Tagged[1].Repository, want.LastUpload = "app", nil
	check("a quick survey", pages, true)
}
