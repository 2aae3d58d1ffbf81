package filesystem

import (
	"testing"

	"regsweep/storage"
	"regsweep/storage/storagetest"
)

// TestContract runs the suite of all storages.
func TestContract(t *testing.T) {
	for name, s := range map[string]storagetest.Subject{
		"filesystem": {
			Directories: true, RemovesDirs: true, Named: true, AnyName: true,
			Open: func(t *testing.T) (storage.Store, func(path, content string)) {
				tree := storagetest.NewTree(t)
				tree.Mkdir("")
				return storagetest.MustOpen(t)(Open(tree.Root(), storage.Limits{})), tree.Write
			},
			OpenBare: func(t *testing.T) (storage.Store, func(path, content string)) {
				tree := storagetest.NewTree(t)
				return storagetest.MustOpen(t)(Open(tree.Root(), storage.Limits{})), tree.Write
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storagetest.Test(t, s)
		})
	}
}
