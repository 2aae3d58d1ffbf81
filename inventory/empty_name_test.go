package inventory

import (
	"slices"
	"testing"
	"time"

	"regsweep/storage"
	"regsweep/storage/filesystem"
	"regsweep/storage/storagetest"
)

// An empty directory in which a repository could be is reported, even if it is recent: somebody may
// have forgotten to mount a disk.
func TestEmptyDirectoriesWhereARepositoryCouldBe(t *testing.T) {
	tree := storagetest.NewTree(t)
	for _, dir := range []string{"team", "lib/base", "lib/app/_layers", "a/b/c", "Not a name"} {
		tree.Mkdir("repositories/" + dir)
	}
	tree.Age("repositories/a", 48*time.Hour)
	for _, since := range []time.Time{{}, time.Now().Add(-24 * time.Hour)} {
		inv, err := Take(t.Context(), storagetest.MustOpen(t)(filesystem.Open(tree.Root(), storage.Limits{})), Options{Since: since})
		if err != nil {
			t.Fatal(err)
		}
		var named []string
		for _, p := range inv.Problems {
			if p.Kind == EmptyDirectory && p.Effect == Note {
				named = append(named, p.Path)
			}
		}
		if want := []string{"repositories/a/b/c", "repositories/lib/base", "repositories/team"}; !slices.Equal(named, want) {
			t.Errorf("since %v: %v are named, want %v", since, named, want)
		}
	}
}
