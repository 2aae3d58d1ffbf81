package inventory

import (
	"errors"
	"os"
	"strings"
	"testing"

	"regsweep/internal/imagetest"
	"regsweep/internal/miniotest"
	"regsweep/storage"
	"regsweep/storage/filesystem"
	"regsweep/storage/s3"
	"regsweep/storage/storagetest"
)

// If a tag is moved back to an older image, an old key has new content. The second listing finds
// that, and it finds a stray link to a manifest.
func TestASecondListingSeesWhatLinksSay(t *testing.T) {
	server := miniotest.SharedMinIO(t)
	first, second := []byte(`{"manifest":1}`), []byte(`{"manifest":2}`)
	stray := "repositories/app/_manifests/revisions/blake3/" + strings.Repeat("ab", 32) + "/link"
	beside := "repositories/app/_layers/blake3/" + strings.Repeat("cd", 32) + "/link"
	changes := map[string]struct {
		path, content func(a, b string) string
		want          error
	}{
		"nothing": {want: nil},
		"the tag is moved back": {
			func(a, _ string) string { return "repositories/app/_manifests/tags/latest/current/link" },
			func(a, _ string) string { return a }, errChanged,
		},
		"the tag is damaged": {
			func(a, _ string) string { return "repositories/app/_manifests/tags/latest/current/link" },
			func(a, _ string) string { return "" }, errChanged,
		},
		"a tag is new": {
			func(a, _ string) string { return "repositories/app/_manifests/tags/new/current/link" },
			func(a, _ string) string { return a }, ErrIncomplete,
		},
		"a revision link says another manifest": {
			func(a, _ string) string {
				return "repositories/app/_manifests/revisions/sha256/" + strings.TrimPrefix(a, "sha256:") + "/link"
			},
			func(_, b string) string { return b }, errChanged,
		},
		"a stray link to a manifest": {
			func(a, _ string) string { return stray },
			func(a, _ string) string { return a }, ErrIncomplete,
		},
		"a stray link to a layer": {
			func(a, _ string) string { return beside },
			func(a, _ string) string { return a }, errChanged,
		},
	}
	for name, change := range changes {
		for _, kind := range []string{"filesystem", "S3"} {
			if kind == "S3" && strings.HasPrefix(name, "a revision") {
				continue // on this storage such a link is not read twice
			}
			t.Run(name+" on "+kind, func(t *testing.T) {
				tree := storagetest.NewTree(t)
				a, b := tree.Blob(first), tree.Blob(second)
				for _, content := range []string{"config", "layer"} {
					tree.LayerLink("app", tree.Blob([]byte(content)))
				}
				tree.Revision("app", a)
				tree.Revision("app", b)
				tree.Tag("app", "latest", a)
				tree.Tag("app", "latest", b)
				tree.Write("repositories/app/_manifests/revisions/blake3/"+strings.Repeat("ef", 32)+"/link", a.String())
				tree.Write("repositories/app/_layers/blake3/"+strings.Repeat("ef", 32)+"/link", "no digest")
				store := storagetest.MustOpen(t)(filesystem.Open(tree.Root(), storage.Limits{}))
				write := tree.Write
				if kind == "S3" {
					bucket := server.NewBucketT(t)
					for path := range imagetest.SnapshotT(t, tree.Path("")) {
						content, err := os.ReadFile(tree.Path(path))
						if err != nil {
							t.Fatal(err)
						}
						server.PutT(t, bucket, storage.Root+"/"+path, string(content))
					}
					store = storagetest.MustOpen(t)(s3.Open(t.Context(), server.Parameters(bucket, ""), s3.Options{}))
					write = func(path, content string) { server.PutT(t, bucket, storage.Root+"/"+path, content) }
				}
				inv := inventoryOf(t, store)
				if change.path != nil {
					write(change.path(a.String(), b.String()), change.content(a.String(), b.String()))
				}
				err := ListAgain(t.Context(), store, inv)
				if !errors.Is(err, change.want) || change.want != nil && !strings.Contains(err.Error(), change.path(a.String(), b.String())) {
					t.Errorf("the second listing says %v, want %v", err, change.want)
				}
			})
		}
	}
}
