package filesystem

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"regsweep/internal/imagetest"
	"regsweep/internal/servertest"
	"regsweep/storage"
)

// A run needs a lock before it can free space, and there is no space for the lock file. The kernel's
// lock replaces it: before the file is made, meanwhile and afterwards no other run can take a lock.
// A file that can't be written completely is removed.
func TestPromise4TheLockOfAFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		servertest.Lacks(t, "only root can mount a small disk")
	}
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=64k"); err != nil {
		servertest.Lacks(t, "nothing can be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	tree := imagetest.NewTree(t, disk)
	tree.Mkdir(storage.BlobsDir)
	filler := filepath.Join(disk, "filler")
	fill := func() {
		t.Helper()
		file, err := os.Create(filler)
		for err == nil {
			_, err = file.Write(make([]byte, 4<<10))
		}
		if !storage.IsFull(err) || file.Close() != nil {
			t.Fatal(err)
		}
	}
	empty := func() {
		t.Helper()
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
	}
	open := func() storage.Store {
		t.Helper()
		store, err := Open(disk, storage.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		return store
	}
	store, other := open(), open() // as in two processes
	keptAway := func(want error) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if _, err := other.Create(ctx, lockFile, []byte("theirs")); !errors.Is(err, want) {
			t.Errorf("another run: %v, want %v", err, want)
		}
	}
	is := func(want string) {
		t.Helper()
		content, _, err := other.Version(t.Context(), lockFile)
		if string(content) != want || want == "" && (!errors.Is(err, fs.ErrNotExist) || tree.Exists(storage.OwnDir)) {
			t.Errorf("the lock is %q, want %q, %v", content, want, err)
		}
	}
	version := ""
	replace := func(content string) {
		t.Helper()
		var err error
		if version, err = store.Replace(t.Context(), lockFile, []byte(content), version); err != nil {
			t.Errorf("replace by %q: %v", content, err)
		}
	}

	fill()
	for range 2 {
		var err error
		if version, err = store.Create(t.Context(), lockFile, []byte("one")); err != nil {
			t.Fatal(err)
		}
		keptAway(context.DeadlineExceeded)
		is("")
		replace("two")
		keptAway(context.DeadlineExceeded)
		is("")
		if err := store.Delete(t.Context(), lockFile, version); err != nil {
			t.Error(err)
		}
	}
	version, err := store.Create(t.Context(), lockFile, []byte("one"))
	if err != nil {
		t.Fatal(err)
	}
	empty()
	keptAway(context.DeadlineExceeded)
	replace("there is space now")
	is("there is space now")
	keptAway(fs.ErrExist)

	// The disk fills up again: somebody else writes to it.
	fill()
	old := version
	replace("there is none")
	is("there is none")
	if _, err := other.Replace(t.Context(), lockFile, []byte("theirs"), old); !errors.Is(err, storage.ErrLost) {
		t.Errorf("a version that is gone is replaced: %v", err)
	}
	if err := store.Delete(t.Context(), lockFile, version); err != nil {
		t.Error(err)
	}
	is("")

	// A host that the kernel's lock does not reach has made a lock meanwhile.
	if version, err = store.Create(t.Context(), lockFile, []byte("one")); err != nil {
		t.Fatal(err)
	}
	empty()
	tree.Write(lockFile, "theirs")
	if _, err := store.Replace(t.Context(), lockFile, []byte("ours"), version); !errors.Is(err, storage.ErrLost) {
		t.Errorf("the lock of another host is replaced: %v", err)
	}
	is("theirs")
}

// If a run finds an empty lock, either its writer or this run gets the lock, and never both. The
// kernel's lock on the file decides.
func TestPromise4AnEmptyLockHasOneTaker(t *testing.T) {
	tree, store, _ := smallRegistry(t)
	tree.Write(lockFile, "")
	_, version, err := store.Version(t.Context(), lockFile)
	if err != nil || version != "" {
		t.Fatalf("%q, %v", version, err)
	}
	if _, err := store.Replace(t.Context(), lockFile, []byte("one"), version); err != nil {
		t.Error(err)
	}
	if _, err := store.Replace(t.Context(), lockFile, []byte("two"), version); !errors.Is(err, storage.ErrLost) {
		t.Errorf("taken twice: %v", err)
	}
}
