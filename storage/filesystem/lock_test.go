package filesystem

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"regsweep/internal/imagetest"
	"regsweep/storage"
	"regsweep/storage/layout"
)

const lockFile = storage.OwnDir + "/lock"

// Another user of the storage could replace OwnDir, or a file in it, by a symbolic link. Nothing is
// written, read or removed behind such a link.
func TestALockIsReachedByNoSymbolicLink(t *testing.T) {
	const held = "of somebody else"
	symlink := func(to, at string) {
		t.Helper()
		if err := os.Symlink(to, at); err != nil {
			t.Fatal(err)
		}
	}
	for name, plant := range map[string]func(tree *imagetest.Tree, outside string){
		"the directory, to outside":         func(tree *imagetest.Tree, outside string) { symlink(outside, tree.Path(storage.OwnDir)) },
		"the directory, to nowhere":         func(tree *imagetest.Tree, outside string) { symlink(outside+"/none", tree.Path(storage.OwnDir)) },
		"the directory, to an ancestor":     func(tree *imagetest.Tree, outside string) { symlink("../..", tree.Path(storage.OwnDir)) },
		"the directory, to one of the tree": func(tree *imagetest.Tree, outside string) { symlink("blobs", tree.Path(storage.OwnDir)) },
		"the file, to outside": func(tree *imagetest.Tree, outside string) {
			tree.Mkdir(storage.OwnDir)
			symlink(outside+"/lock", tree.Path(lockFile))
		},
		"the file, to nowhere": func(tree *imagetest.Tree, outside string) {
			tree.Mkdir(storage.OwnDir)
			symlink(outside+"/new", tree.Path(lockFile))
		},
	} {
		t.Run(name, func(t *testing.T) {
			tree, store, _ := smallRegistry(t)
			outside := t.TempDir()
			if err := os.WriteFile(outside+"/lock", []byte(held), 0o600); err != nil {
				t.Fatal(err)
			}
			plant(tree, outside)
			before := listed(t, outside) + listed(t, tree.Root())
			if version, err := store.Create(t.Context(), lockFile, []byte("ours")); err == nil {
				t.Errorf("create: %q", version)
			}
			if content, _, err := store.Version(t.Context(), lockFile); err == nil || string(content) != "" {
				t.Errorf("version: %q, %v", content, err)
			}
			if _, err := store.Replace(t.Context(), lockFile, []byte("ours"), held); err == nil {
				t.Error("it is replaced")
			}
			if outcome := store.Remove(t.Context(), []storage.Ref{{Path: lockFile}})[0]; outcome.Err == nil && name != "the directory, to nowhere" {
				t.Error("it is removed")
			}
			if after := listed(t, outside) + listed(t, tree.Root()); after != before {
				t.Errorf("there was\n%s\nand now there is\n%s", before, after)
			}
		})
	}
}

// A refresh does not write through a file that a killed run has left, even if it is now a symbolic
// link.
func TestARefreshWritesThroughNothing(t *testing.T) {
	for name, link := range map[string]func(to, at string) error{"symbolic link": os.Symlink, "hard link": os.Link} {
		t.Run(name, func(t *testing.T) {
			tree, store, _ := smallRegistry(t)
			outside := filepath.Join(t.TempDir(), "file")
			version, err := store.Create(t.Context(), lockFile, []byte("one"))
			if err := errors.Join(err, os.WriteFile(outside, []byte("theirs"), 0o600), link(outside, tree.Path(lockFile+".new"))); err != nil {
				t.Fatal(err)
			}
			if _, err := store.Replace(t.Context(), lockFile, []byte("two"), version); err != nil {
				t.Error(err)
			}
			if content, err := os.ReadFile(outside); err != nil || string(content) != "theirs" {
				t.Errorf("outside is %q, %v", content, err)
			}
		})
	}
}

// After a run nothing is left of the lock in a registry's tree. No other file is removed with the
// lock.
func TestNothingIsLeftOfALock(t *testing.T) {
	tree, store, _ := smallRegistry(t)
	lock := func() {
		t.Helper()
		version, err := store.Create(t.Context(), lockFile, []byte("one"))
		if err == nil {
			_, err = store.Replace(t.Context(), lockFile, []byte("two"), version)
		}
		if err = errors.Join(err, store.Remove(t.Context(), []storage.Ref{{Path: lockFile}})[0].Err); err != nil {
			t.Fatal(err)
		}
	}
	if lock(); tree.Exists(storage.OwnDir) {
		t.Errorf("it leaves\n%s", listed(t, tree.Path(storage.OwnDir)))
	}
	tree.Write(storage.OwnDir+"/notes", "of somebody")
	if lock(); !tree.Exists(storage.OwnDir + "/notes") {
		t.Error("a file went with the lock")
	}
}

// A process may get the kernel's lock on a file that another process has just replaced. Here each
// process adds one to a counter, and no addition is lost.
func TestNoReplacementIsLost(t *testing.T) {
	_, store, _ := smallRegistry(t)
	if _, err := store.Create(t.Context(), lockFile, []byte("0")); err != nil {
		t.Fatal(err)
	}
	const each, counters = 150, 8
	var wait sync.WaitGroup
	for range counters {
		wait.Go(func() {
			for counted := 0; counted < each; {
				content, version, err := store.Version(t.Context(), lockFile)
				n, parseErr := strconv.Atoi(string(content))
				if err := errors.Join(err, parseErr); err != nil {
					t.Error(err)
					return
				}
				_, err = store.Replace(t.Context(), lockFile, []byte(strconv.Itoa(n+1)), version)
				switch {
				case err == nil:
					counted++
				case !errors.Is(err, storage.ErrLost):
					t.Error(err)
					return
				}
			}
		})
	}
	wait.Wait()
	if content, _, err := store.Version(t.Context(), lockFile); string(content) != strconv.Itoa(each*counters) {
		t.Errorf("they have counted to %s, %v", content, err)
	}
}

// A run that is suspended while it writes the lock does not block other runs for ever.
func TestAReplacementDoesNotWaitForEver(t *testing.T) {
	tree, store, _ := smallRegistry(t)
	version, err := store.Create(t.Context(), lockFile, []byte("one"))
	if err != nil {
		t.Fatal(err)
	}
	other, err := os.Open(tree.Path(lockFile))
	if err := errors.Join(err, syscall.Flock(int(other.Fd()), syscall.LOCK_EX)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := store.Replace(ctx, lockFile, []byte("ours"), version); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("replace: %v", err)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Replace(t.Context(), lockFile, []byte("ours"), version); err != nil {
		t.Error(err)
	}
}

// One run removes the directory together with its lock, while another run makes a lock in it.
func TestALockCanAlwaysBeMade(t *testing.T) {
	_, store, _ := smallRegistry(t)
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			for range 200 {
				_, err := store.Create(t.Context(), lockFile, []byte("one"))
				if err == nil {
					err = store.Remove(t.Context(), []storage.Ref{{Path: lockFile}})[0].Err
				}
				if err != nil && !errors.Is(err, fs.ErrExist) {
					t.Error(err)
					return
				}
			}
		})
	}
	wait.Wait()
}

// The lease is checked for every file, also within a batch that has begun.
func TestWithoutALeaseNothingIsRemoved(t *testing.T) {
	tree, store, image := smallRegistry(t)
	lost := errors.New("lost")
	left := 1
	ctx := storage.WithLease(t.Context(), func(context.Context) error {
		if left--; left < 0 {
			return lost
		}
		return nil
	})
	paths := []string{layout.TagPath("app", "v1"), layout.RevisionPath("app", image), layout.BlobPath(image)}
	outcomes := store.Remove(ctx, []storage.Ref{{Path: paths[0]}, {Path: paths[1]}, {Path: paths[2]}})
	if outcomes[0].Err != nil || !errors.Is(outcomes[1].Err, lost) || !errors.Is(outcomes[2].Err, lost) {
		t.Errorf("outcomes: %+v", outcomes)
	}
	if tree.Exists(paths[0]) || !tree.Exists(paths[1]) || !tree.Exists(paths[2]) {
		t.Error("more or less has gone than it says")
	}
	tree.Mkdir("repositories/empty/_layers")
	if gone, err := store.Prune(ctx, "repositories/empty/_layers"); gone || !errors.Is(err, lost) || !tree.Exists("repositories/empty/_layers") {
		t.Errorf("prune: %t, %v", gone, err)
	}
}

// listed are all files and directories below a directory, with the content of files.
func listed(t *testing.T, root string) (lines string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		content := []byte(nil)
		if entry.Type().IsRegular() {
			if content, err = os.ReadFile(path); err != nil {
				return err
			}
		}
		lines += path + " " + entry.Type().String() + " " + string(content) + "\n"
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}
