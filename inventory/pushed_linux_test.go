package inventory

import (
	"strings"
	"testing"
	"time"

	"regsweep/internal/system/systemtest"
	"regsweep/storage"
	"regsweep/storage/filesystem"
	"regsweep/storage/storagetest"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// If a directory of a repository is wrongly reported as absent, no push is hidden.
func TestPromise4AFaultHidesNoPush(t *testing.T) {
	for _, hidden := range [][]string{
		{"_manifests/tags", "_manifests/revisions/sha256"}, {"_uploads", "_manifests/tags", "_manifests/revisions/sha256", "_layers/sha256"},
		{"_manifests"}, {"_manifests", "_layers", "_uploads"},
	} {
		t.Run(strings.Join(hidden, " "), func(t *testing.T) {
			tree := storagetest.NewTree(t)
			image := digest.FromString("image")
			tree.Revision("app", image)
			tree.Age("", 24*time.Hour)
			tree.Tag("app", "v1", image)
			store := storagetest.MustOpen(t)(filesystem.Open(tree.Root(), storage.Limits{}))
			pushed := func() (*LastUpload, error) {
				return LastPush(t.Context(), store, map[string]time.Time{"app": {}}, time.Now().Add(-10*time.Minute), time.Time{})
			}
			if last, err := pushed(); last == nil || err != nil {
				t.Fatalf("without a fault: %v, %v", last, err)
			}
			systemtest.FailBelow(t, tree.Path("repositories/app"), func(op, path string) error {
				for _, dir := range hidden {
					if path == dir && op != "getdents" {
						return unix.ENOENT
					}
				}
				return nil
			})
			if last, err := pushed(); last == nil && err == nil {
				t.Error("nothing was pushed")
			}
		})
	}
	// Absent directories are no error.
	tree := storagetest.NewTree(t)
	tree.Mkdir("repositories/app/_layers")
	store := storagetest.MustOpen(t)(filesystem.Open(tree.Root(), storage.Limits{}))
	if last, err := LastPush(t.Context(), store, map[string]time.Time{"app": {}, "gone": {}}, time.Now().Add(-10*time.Minute), time.Time{}); last != nil || err != nil {
		t.Errorf("found %v, %v", last, err)
	}
}
