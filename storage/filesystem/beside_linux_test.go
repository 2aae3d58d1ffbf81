package filesystem

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"regsweep/internal/system/systemtest"
	"regsweep/storage"
	"regsweep/storage/layout"
	"regsweep/storage/storagetest"

	"golang.org/x/sys/unix"
)

// A file beside the layout counts as absent only if a listing confirms that. The file may be the
// only sign that the registry has a metadata database.
func TestAFileBesideTheLayoutIsAbsentOnlyIfAListingAgrees(t *testing.T) {
	for _, file := range []string{layout.GitLabDatabaseFile, layout.ProxyStateFile} {
		for _, faulted := range []string{"docker", "docker/registry", filepath.Dir(layout.GitLabDatabaseFile), file} {
			if faulted != file && file == layout.ProxyStateFile {
				continue
			}
			t.Run(file+" "+faulted, func(t *testing.T) {
				tree, store, _ := smallRegistry(t)
				path := filepath.Join(tree.Root(), file)
				check := func(state string, want bool) {
					t.Helper()
					if found, err := store.Beside(t.Context(), file); found != want || err != nil {
						t.Errorf("%s: found %t, %v", state, found, err)
					}
				}
				check("absent", false)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				check("absent with its directory", false)
				if err := os.WriteFile(path, nil, 0o600); err != nil {
					t.Fatal(err)
				}
				check("there", true)
				reached := false
				systemtest.FailBelow(t, tree.Root(), func(op, path string) error {
					if (op == "openat" || op == "fstatat") && path == faulted {
						reached = true
						return unix.ENOENT
					}
					return nil
				})
				if found, err := store.Beside(t.Context(), file); found || err == nil || errors.Is(err, fs.ErrNotExist) || !reached {
					t.Errorf("not found once: found %t, %v", found, err)
				}
			})
		}
	}
}

// The parents of the file may be symbolic links, like the parents of the layout.
func TestAFileBesideTheLayoutIsFoundThroughSymbolicLinks(t *testing.T) {
	tree, _, _ := smallRegistry(t)
	storagetest.MoveAway(t, filepath.Join(tree.Root(), "docker"))
	store := storagetest.MustOpen(t)(Open(tree.Root(), storage.Limits{}))
	for _, want := range []bool{false, true} {
		if found, err := store.Beside(t.Context(), layout.GitLabDatabaseFile); found != want || err != nil {
			t.Errorf("found %t, %v", found, err)
		}
		path := filepath.Join(tree.Root(), layout.GitLabDatabaseFile)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
