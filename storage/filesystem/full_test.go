//go:build unix

package filesystem

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"regsweep/internal/servertest"
	"regsweep/internal/system"
	"regsweep/storage"
	"regsweep/storage/layout"
)

// withoutSpace makes the chosen system calls fail with err, at most times times. It is a fake of a
// full disk.
func withoutSpace(t *testing.T, times int64, err error, chosen func(system.Call) bool) (met *atomic.Int64) {
	met = new(atomic.Int64)
	t.Cleanup(func() { system.SetFault(nil) })
	system.SetFault(func(c system.Call) error {
		if chosen(c) && met.Add(1) <= times {
			return err
		}
		return nil
	})
	return met
}

// A removal frees space, but it needs some space on a full btrfs. After a sync there is some.
func TestARemovalOnAFullDiskIsRetried(t *testing.T) {
	for times, fails := range map[int64]bool{1: false, removeTries - 1: false, 1000: true} {
		tree, store, _ := smallRegistry(t)
		path := layout.BlobPath(tree.Blob([]byte("x")))
		tree.Mkdir("repositories/empty/_layers")
		slept := time.Duration(0)
		store.(*Store).sleep = func(_ context.Context, d time.Duration) error { slept += d; return nil }
		for name, removal := range map[string]func() error{
			path:                         func() error { return store.Remove(t.Context(), []storage.Ref{{Path: path}})[0].Err },
			"repositories/empty/_layers": func() error { _, err := store.Prune(t.Context(), "repositories/empty/_layers"); return err },
		} {
			met := withoutSpace(t, times, syscall.ENOSPC, func(c system.Call) bool { return c.Op == "unlinkat" && (c.Name == "data" || c.Name == "_layers") })
			if err := removal(); errors.Is(err, syscall.ENOSPC) != fails || (err != nil) != fails || met.Load() == 0 || slept < removePause {
				t.Errorf("%s, %d times without space: %v after %d tries and %v", name, times, err, met.Load(), slept)
			}
			system.SetFault(nil)
			if tree.Exists(name) != fails {
				t.Errorf("%s, %d times without space: it exists: %t", name, times, !fails)
			}
		}
	}
}

// If a disk stays full, only the first removal waits for space. Once one has succeeded, the others wait
// again. An interruption ends the wait.
func TestARemovalDoesNotWaitForADiskThatStaysFull(t *testing.T) {
	tree, store, _ := smallRegistry(t)
	refs := []storage.Ref{{Path: layout.BlobPath(tree.Blob([]byte("x")))}, {Path: layout.BlobPath(tree.Blob([]byte("y")))}}
	store.(*Store).sleep = func(context.Context, time.Duration) error { return nil }
	tries := func(times int64, refs ...storage.Ref) int64 {
		met := withoutSpace(t, times, syscall.ENOSPC, func(c system.Call) bool { return c.Op == "unlinkat" && c.Name == "data" })
		defer system.SetFault(nil)
		store.Remove(t.Context(), refs)
		return met.Load()
	}
	if n := tries(1000, refs...); n != removeTries+1 {
		t.Errorf("two removals were tried %d times, want %d", n, removeTries+1)
	}
	if n := tries(0, refs[0]); n != 1 || tree.Exists(refs[0].Path) {
		t.Errorf("with space a removal was tried %d times", n)
	}
	if n := tries(1, refs[1]); n != 2 || tree.Exists(refs[1].Path) {
		t.Errorf("after space was found a removal was tried %d times", n)
	}

	interrupted := layout.BlobPath(tree.Blob([]byte("z")))
	store.(*Store).sleep = func(context.Context, time.Duration) error { return context.Canceled }
	withoutSpace(t, 1000, syscall.ENOSPC, func(c system.Call) bool { return c.Op == "unlinkat" && c.Name == "data" })
	if err := store.Remove(t.Context(), []storage.Ref{{Path: interrupted}})[0].Err; !errors.Is(err, context.Canceled) {
		t.Errorf("an interrupted wait ends with %v", err)
	}
}

// If any step of making the lock finds the disk full, the kernel's lock replaces the lock file, and
// no part of the file is left.
func TestPromise4ADiskIsFullAtAnyStepOfTheLock(t *testing.T) {
	for _, op := range []string{"mkdirat", "fchownat", "fchmodat", "openat", "write"} {
		for _, err := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT} {
			t.Run(fmt.Sprint(op, " ", err), func(t *testing.T) {
				tree, store, _ := smallRegistry(t)
				if op == "fchmodat" || op == "fchownat" { // these calls are made only if the parent differs
					if os.Getuid() != 0 {
						servertest.Lacks(t, "only root can give a directory away")
					}
					if err := errors.Join(os.Chown(tree.Path("."), 65534, 65534), os.Chmod(tree.Path("."), 0o770)); err != nil {
						t.Fatal(err)
					}
				}
				met := withoutSpace(t, 1000, err, func(c system.Call) bool {
					return c.Op == op && (op != "openat" || c.Name == "lock")
				})
				version, err := store.Create(t.Context(), lockFile, []byte("ours"))
				if err != nil || met.Load() == 0 || tree.Exists(storage.OwnDir) {
					t.Errorf("%v, met %d times, something is left: %t", err, met.Load(), tree.Exists(storage.OwnDir))
				}
				system.SetFault(nil)
				if version, err = store.Replace(t.Context(), lockFile, []byte("with space"), version); err != nil || !tree.Exists(lockFile) {
					t.Errorf("with space: %v", err)
				}
				if err := store.Delete(t.Context(), lockFile, version); err != nil || tree.Exists(storage.OwnDir) {
					t.Errorf("released: %v", err)
				}
			})
		}
	}
}

// Without the kernel's locks, a run also refreshes and releases its own lock. The release needs a
// valid lease.
func TestPromise4ALockIsReleasedWithoutLocksOfTheKernel(t *testing.T) {
	for _, err := range []syscall.Errno{syscall.ENOLCK, syscall.ENOSYS, syscall.EOPNOTSUPP} {
		tree, store, _ := smallRegistry(t)
		met := withoutSpace(t, 1000, err, func(c system.Call) bool { return c.Op == "flock" })
		version, createErr := store.Create(t.Context(), lockFile, []byte("ours"))
		if createErr != nil {
			t.Fatal(createErr)
		}
		if err := store.Delete(t.Context(), lockFile, "theirs"); !errors.Is(err, storage.ErrLost) || !tree.Exists(lockFile) {
			t.Errorf("%v: another's lock is removed: %v", err, err)
		}
		if _, err := store.Replace(t.Context(), lockFile, []byte("again"), "theirs"); !errors.Is(err, storage.ErrLost) {
			t.Errorf("%v: another's lock is renewed: %v", err, err)
		}
		renewed, replaceErr := store.Replace(t.Context(), lockFile, []byte("again"), version)
		if content, _, err := store.Version(t.Context(), lockFile); replaceErr != nil || err != nil || string(content) != "again" {
			t.Fatalf("it is not renewed: %q, %v", content, errors.Join(replaceErr, err))
		}
		version = renewed
		ctx, lost := leaseFor(t.Context(), 0)
		if err := store.Delete(ctx, lockFile, version); !errors.Is(err, lost) || !tree.Exists(lockFile) {
			t.Errorf("%v: it is removed without a lease: %v", err, err)
		}
		if err := store.Delete(t.Context(), lockFile, version); err != nil || tree.Exists(storage.OwnDir) || met.Load() == 0 {
			t.Errorf("%v: it is not removed: %v", err, err)
		}
		if _, err := store.Replace(t.Context(), lockFile, []byte("again"), version); !errors.Is(err, storage.ErrLost) || tree.Exists(storage.OwnDir) {
			t.Errorf("a lock that is gone is renewed: %v", err)
		}
		system.SetFault(nil)
	}
}
