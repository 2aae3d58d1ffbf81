package filesystem

import (
	"maps"
	"slices"
	"syscall"
	"testing"

	"regsweep/internal/system"
	"regsweep/internal/system/systemtest"
	"regsweep/storage"
	"regsweep/storage/storagetest"
)

// TestFaults runs the suite of all storages with failing system calls.
func TestFaults(t *testing.T) {
	faults := map[string]error{
		"ENOENT": syscall.ENOENT, "EACCES": syscall.EACCES, "EIO": syscall.EIO, "EINTR": syscall.EINTR,
		"ESTALE": syscall.ESTALE, "ENOSPC": syscall.ENOSPC, "EROFS": syscall.EROFS,
		"a short read": system.ErrShort, "an empty directory": system.ErrEmpty, "no types": system.ErrUntyped,
	}
	storagetest.TestFaults(t, storagetest.Faulty{
		Faults: slices.Sorted(maps.Keys(faults)), LocksAnyway: []string{"ENOSPC"},
		Open: func(t *testing.T, strike func() string) (storage.Store, func(path, content string)) {
			tree := storagetest.NewTree(t)
			tree.Mkdir("")
			store := storagetest.MustOpen(t)(Open(tree.Root(), storage.Limits{}))
			systemtest.FailBelow(t, tree.Root(), func(op, _ string) error {
				if op == "close" {
					return nil
				}
				return faults[strike()]
			})
			return store, tree.Write
		},
	})
}
