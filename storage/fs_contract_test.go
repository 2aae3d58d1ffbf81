package storage

import "testing"

// TestContract runs the suite of all storages.
func TestContractFs(t *testing.T) {
	for name, s := range map[string]subject{
		"filesystem": {
			directories: true, removesDirs: true, named: true, anyName: true,
			open: func(t *testing.T) (Store, func(path, content string)) {
				tree := newTree(t)
				tree.Mkdir("")
				return mustOpen(t)(openFilesystem(tree.Root(), Limits{})), tree.Write
			},
			openBare: func(t *testing.T) (Store, func(path, content string)) {
				tree := newTree(t)
				return mustOpen(t)(openFilesystem(tree.Root(), Limits{})), tree.Write
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testStore(t, s)
		})
	}
}
