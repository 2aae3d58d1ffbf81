package filesystem

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"regsweep/storage/layout"

	"golang.org/x/sys/unix"
)

// Reading a registry leaves no trace. Otherwise a dry run would write an access time for each
// directory and each link.
func TestReadingIsNotNoticed(t *testing.T) {
	tree, store, image := smallRegistry(t)
	var paths []string
	if err := filepath.WalkDir(tree.Root(), func(path string, _ fs.DirEntry, err error) error {
		paths = append(paths, path)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	long := time.Now().AddDate(-1, 0, 0) // so long ago that relatime would write an access time too
	for _, path := range paths {
		if err := os.Chtimes(path, long, time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	inv := takenInventory(t, store)
	if _, err := store.Read(t.Context(), layout.BlobPath(image), 1<<20); err != nil {
		t.Fatal(err)
	}
	if r := store.Requests(); len(inv.Repositories) == 0 || r.List == 0 || r.Get < 2 {
		t.Fatalf("hardly anything was read: %+v", r)
	}
	accessed := func(path string) time.Time {
		var stat unix.Stat_t
		if err := unix.Lstat(path, &stat); err != nil {
			t.Fatal(err)
		}
		return time.Unix(stat.Atim.Unix())
	}
	for _, path := range paths {
		if at := accessed(path); time.Since(at) < time.Hour {
			t.Errorf("the time of access of %s is %v", path, at)
		}
	}
	if _, err := os.ReadFile(tree.Path(layout.BlobPath(image))); err != nil {
		t.Fatal(err)
	}
	if time.Since(accessed(tree.Path(layout.BlobPath(image)))) > time.Hour {
		t.Skip("the temporary directory lies on a filesystem that notes no access")
	}
}

// A process that may not use O_NOATIME reads without it, and does not try it again for each file.
func TestReadingWhatBelongsToOthers(t *testing.T) {
	tree, store, _ := smallRegistry(t)
	unprivileged(t, tree.Root(), func() {
		if inv := takenInventory(t, store); len(inv.Repositories) != 1 || len(inv.Repositories[0].Tags) != 1 {
			t.Errorf("found %+v", inv.Repositories)
		}
	})
	if denied := store.(*Store).noAtime.denied.Load(); denied != (os.Geteuid() == 0) {
		t.Errorf("denied: %t", denied)
	}
	for _, refused := range []error{unix.EPERM, unix.EINVAL, unix.EOPNOTSUPP} {
		var u noAtime
		asked := 0
		for range 2 {
			if _, err := u.open(func(flag int) (int, error) {
				if asked++; flag != 0 {
					return -1, refused
				}
				return 0, nil
			}); err != nil {
				t.Error(err)
			}
		}
		if asked != 3 {
			t.Errorf("%v: asked %d times for two files", refused, asked)
		}
	}
}
