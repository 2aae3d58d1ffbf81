//go:build unix

package filesystem

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"regsweep/internal/system"
	"regsweep/storage"
	"regsweep/storage/layout"

	"golang.org/x/sys/unix"
)

// Remove unlinks files one after the other. Package sweep makes several calls at once.
func (f *Store) Remove(ctx context.Context, refs []storage.Ref) []storage.Outcome {
	outcomes := make([]storage.Outcome, len(refs))
	r := removal{}
	for i, ref := range refs {
		outcomes[i] = f.removeFile(ctx, &r, ref)
	}
	f.slots <- struct{}{}
	defer f.end()
	r.leave(ctx)
	return outcomes
}

func (f *Store) removeFile(ctx context.Context, r *removal, ref storage.Ref) (o storage.Outcome) {
	if err := storage.MayBegin(ctx); err != nil {
		return storage.Outcome{Err: err}
	}
	if err := f.begin(ctx); err != nil {
		return storage.Outcome{Err: err}
	}
	defer f.end()
	if ref.Multipart != "" { // the path may be a file, which must not be removed
		return storage.Outcome{Err: fmt.Errorf("abort the upload of %s: a filesystem has none", ref.Path)}
	}
	t, err := f.tree()
	if t == nil {
		return storage.Outcome{Err: err}
	}
	r.enter(ctx, t, path.Dir(path.Dir(ref.Path)))
	err = f.withLease(ctx, t, func() (err error) {
		o.HardLinkedBytes, err = r.unlink(ref.Path)
		return err
	})
	if err == nil {
		f.del.Add(1)
	} else if isAbsent(err) {
		err = r.confirmAbsent(ref.Path)
	} else if isBelow(ref.Path, storage.QuarantineDir) && (err == unix.ELOOP || err == unix.ENOTDIR) {
		err = storage.ErrNotRegular // a parent is a symbolic link
	}
	if err != nil {
		return storage.Outcome{Err: &fs.PathError{Op: "remove", Path: ref.Path, Err: err}}
	}
	o.DirLeft = r.removeDir(ctx, path.Dir(ref.Path)) || isDeepInUpload(ref.Path)
	return o
}

// isDeepInUpload reports whether a file is in a subdirectory of an upload's directory.
func isDeepInUpload(name string) bool {
	_, below, found := strings.Cut(name, "/"+layout.UploadsDir+"/")
	return found && strings.Count(below, "/") > 1
}

// removeTries is how often a removal is tried if the disk is full. The pause after try n is n times
// removePause.
const (
	removeTries = 10
	removePause = 20 * time.Millisecond
)

// withLease calls removal, between begin and end, if the lease of ctx allows it. On a full btrfs a removal
// may fail because it needs space itself, which the removals of other goroutines take at the same time. A
// sync frees the space of the files that were removed before, so the removal is tried again. If the disk
// stays full, the removals that follow are tried once each.
func (f *Store) withLease(ctx context.Context, t *tree, removal func() error) error {
	for tries := 1; ; tries++ {
		if err := f.mayRemove(ctx); err != nil {
			return err
		}
		err := removal()
		if !storage.IsFull(err) {
			if err == nil {
				f.staysFull.Store(false)
			}
			return err
		}
		if tries == removeTries || f.staysFull.Load() {
			f.staysFull.Store(true)
			return err
		}
		if err := t.sync(); err != nil {
			return err
		}
		if err := f.rest(ctx, time.Duration(tries)*removePause); err != nil {
			return err
		}
	}
}

// rest sleeps for a call between begin and end. Meanwhile it gives up its slot.
func (f *Store) rest(ctx context.Context, d time.Duration) error {
	f.end()
	err := f.sleep(ctx, d)
	f.slots <- struct{}{}
	return err
}

// sleep returns after d, or with the error of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// mayRemove is storage.MayRemove for a call between begin and end. While it waits for the lease, it
// gives up its slot: another goroutine may need a slot to renew the lease.
func (f *Store) mayRemove(ctx context.Context) error {
	for !storage.MayRemoveNow(ctx) {
		f.end()
		err := storage.MayRemove(ctx)
		f.slots <- struct{}{}
		if err != nil {
			return err
		}
	}
	return nil
}

// checkRemovable returns ErrNotRegular if a file of this type must not be removed or moved. A plan
// has only regular files. In an upload and in a quarantine a pipe or a symbolic link may be removed
// too. The target of the link is kept.
func checkRemovable(name string, mode fs.FileMode) error {
	if !mode.IsRegular() && (mode.IsDir() || !isBelow(name, storage.QuarantineDir) && layout.Parse(name).Kind != layout.Upload) {
		return storage.ErrNotRegular
	}
	return nil
}

func isBelow(name, dir string) bool { return strings.HasPrefix(name, dir+"/") }

// removal removes several files, one after the other. Nearly all files are alone in their
// directory, and many of these directories have the same parent. The parent is opened once for all
// of them. It is removed after the last of them, if it is then empty.
type removal struct {
	tree   *tree
	around string          // the parent of the file's directory; "" if there is none
	fd     int             // of around; below 0 if it can't be opened: then paths are opened from the tree
	names  map[string]bool // in around; nil until confirmAbsent has listed them
}

// enter opens the parent of the next file's directory.
func (r *removal) enter(ctx context.Context, t *tree, around string) {
	if r.tree == t && r.around == around {
		return
	}
	r.leave(ctx)
	fd, err := t.openDir(around)
	if err != nil {
		fd = -1 // a call from the tree returns the error
	}
	r.tree, r.around, r.fd = t, around, fd
}

// leave closes the parent, and removes it if it is empty.
func (r *removal) leave(ctx context.Context) {
	if r.around == "" {
		return
	}
	if r.fd >= 0 {
		closeDir(r.fd)
	}
	r.tree.removeEmptied(ctx, r.around)
	r.around, r.names = "", nil
}

// inParent calls f with the open directory that holds a file.
func (r *removal) inParent(name string, f func(parent int, name string) error) error {
	below, found := strings.CutPrefix(name, r.around+"/")
	dir, base := path.Split(below)
	if !found || r.fd < 0 || dir == "" {
		return r.tree.inParent(name, f)
	}
	parent, err := system.OpenBeneath(r.fd, dir[:len(dir)-1], unix.O_RDONLY|system.PathOnly|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer closeDir(parent)
	return f(parent, base)
}

// unlink removes a file if checkRemovable allows its type. It returns the size of the file if it
// has other hard links. It follows no symbolic link.
func (r *removal) unlink(name string) (hardLinkedBytes int64, err error) {
	err = r.inParent(name, func(parent int, base string) error {
		var stat unix.Stat_t
		err := system.Lstatat(parent, base, &stat)
		if err == nil {
			err = checkRemovable(name, typeOf(&stat))
		}
		if err != nil {
			return err
		}
		if stat.Nlink > 1 {
			hardLinkedBytes = stat.Size
		}
		return system.Unlinkat(parent, base, 0)
	})
	return hardLinkedBytes, err
}

// confirmAbsent is tree.confirmAbsent. It lists the parent only once.
func (r *removal) confirmAbsent(name string) error {
	dir, _, _ := strings.Cut(strings.TrimPrefix(name, r.around+"/"), "/")
	if r.fd >= 0 && r.names == nil {
		fd, err := system.Openat(r.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		names, err := namesIn(fd)
		if err := closeAfter(fd, err); err != nil {
			return err
		}
		r.names = names
	}
	if r.fd >= 0 && !r.names[dir] {
		return nil
	}
	return r.tree.confirmAbsent(name)
}

// removeDir removes the directory of a removed file if it is empty. left is set if it is not empty.
// Other errors are ignored, as in removeEmptied.
func (r *removal) removeDir(ctx context.Context, dir string) (left bool) {
	if isKeptEmpty(dir) || !storage.MayRemoveNow(ctx) {
		return false
	}
	if below, found := strings.CutPrefix(dir, r.around+"/"); found && r.fd >= 0 && !strings.Contains(below, "/") {
		return isNotEmpty(system.Unlinkat(r.fd, below, unix.AT_REMOVEDIR))
	}
	return isNotEmpty(r.tree.removeDir(dir))
}

// removeDir removes an empty directory.
func (t *tree) removeDir(name string) error {
	return t.inParent(name, func(parent int, name string) error { return system.Unlinkat(parent, name, unix.AT_REMOVEDIR) })
}

// removeEmptied removes dir and its parents while they are empty, up to the directories that
// isKeptEmpty names. The kernel refuses to remove a directory that is not empty, so a file
// that is made meanwhile is safe. removeEmptied stops at the first error and ignores it: an
// empty directory does no harm, and the next run tries again. left is set if dir itself is
// not empty.
func (t *tree) removeEmptied(ctx context.Context, dir string) (left bool) {
	for at := dir; !isKeptEmpty(at) && storage.MayRemoveNow(ctx); at = path.Dir(at) {
		if err := t.removeDir(at); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return at == dir && isNotEmpty(err)
		}
	}
	return false
}

// isKeptEmpty reports whether a directory is kept even if it is empty. A registry expects it,
// or it belongs neither to the layout nor to OwnDir.
func isKeptEmpty(dir string) bool {
	if dir == storage.OwnDir || isBelow(dir, storage.OwnDir) {
		return false // it is made when it is needed
	}
	top, rest, _ := strings.Cut(dir, "/")
	if top == storage.BlobsDir {
		return strings.Count(rest, "/") < 1 // blobs, blobs/<alg>
	}
	if top != storage.RepositoriesDir {
		return true
	}
	_, part, below, ok := layout.SplitRepository(rest)
	if !ok || below == "" {
		return true
	}
	if part == layout.ManifestsDir {
		base := path.Base(dir)
		return below == "revisions" || below == "tags" || base == "index" || base == "current"
	}
	return false
}
