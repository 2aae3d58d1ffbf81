//go:build unix

package filesystem

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"regsweep/internal/system"
	"regsweep/storage"
	"regsweep/storage/layout"

	"golang.org/x/sys/unix"
)

// Remove unlinks files one after the other. Sweep runs several batches at once.
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
	if err := f.begin(ctx); err != nil {
		return storage.Outcome{Err: err}
	}
	defer f.end()
	if ref.Multipart != "" { // the path may be that of a file, which nobody asked for
		return storage.Outcome{Err: fmt.Errorf("abort the upload of %s: a filesystem has none", ref.Path)}
	}
	t, err := f.tree()
	if t == nil {
		return storage.Outcome{Err: err}
	}
	r.enter(ctx, t, path.Dir(path.Dir(ref.Path)))
	err = f.remove(ctx, t, func() (err error) {
		o.HardLinkedBytes, err = r.removeFile(ref.Path)
		return err
	})
	if err == nil {
		f.del.Add(1)
	} else if isAbsent(err) {
		err = r.confirmAbsent(ref.Path)
	} else if isBelow(ref.Path, storage.QuarantineDir) && (err == unix.ELOOP || err == unix.ENOTDIR) {
		err = storage.ErrNotRegular // it lies behind a symbolic link
	}
	if err != nil {
		return storage.Outcome{Err: &fs.PathError{Op: "remove", Path: ref.Path, Err: err}}
	}
	o.DirLeft = r.removeDir(ctx, path.Dir(ref.Path)) || isDeepInUpload(ref.Path)
	return o
}

// isDeepInUpload reports whether a file lies in a directory of an upload's directory.
func isDeepInUpload(name string) bool {
	_, below, found := strings.Cut(name, "/"+layout.UploadsDir+"/")
	return found && strings.Count(below, "/") > 1
}

// removeTries is how often a removal is tried that has found no room.
const removeTries = 5

// remove calls what removes something, under the lease of ctx. On a full btrfs a removal may
// find no room for what it has to write. What was removed before becomes room when the
// filesystem is synced.
func (f *Store) remove(ctx context.Context, t *tree, removal func() error) error {
	for tries := 1; ; tries++ {
		if err := f.mayRemove(ctx); err != nil {
			return err
		}
		err := removal()
		if !storage.IsFull(err) || tries == removeTries {
			return err
		}
		if err := t.sync(); err != nil {
			return err
		}
	}
}

// mayRemove is storage.MayRemove between begin and end. While it waits, other calls may be made: the lease
// may be renewed by somebody who reads this storage.
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

// mayGo says which files go. A plan names regular ones. Of an upload that nobody will
// finish, and of a quarantine, a pipe or a symbolic link may go too: the link, and not
// what it leads to.
func mayGo(name string, mode fs.FileMode) error {
	if !mode.IsRegular() && (mode.IsDir() || !isBelow(name, storage.QuarantineDir) && layout.Parse(name).Kind != layout.Upload) {
		return storage.ErrNotRegular
	}
	return nil
}

func isBelow(name, dir string) bool { return strings.HasPrefix(name, dir+"/") }

// removal is the removal of several files, one after the other. Nearly all lie alone in
// their directory, and these beside each other: the directory around them is opened once,
// and once they have gone, and not after each, it is seen whether that has emptied it.
type removal struct {
	tree   *tree
	around string          // "" outside of any
	fd     int             // below 0 where around can't be opened: then every path begins at the tree
	names  map[string]bool // in around, once they were needed to confirm that a file is absent
}

// enter goes to the directory around that of the next file.
func (r *removal) enter(ctx context.Context, t *tree, around string) {
	if r.tree == t && r.around == around {
		return
	}
	r.leave(ctx)
	fd, err := t.openDir(around)
	if err != nil {
		fd = -1 // the call that begins at the tree instead returns the error
	}
	r.tree, r.around, r.fd = t, around, fd
}

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

// removeFile removes a file whose type may go, and returns its size if it has other hard links.
// It follows no symbolic link.
func (r *removal) removeFile(name string) (hardLinkedBytes int64, err error) {
	err = r.inParent(name, func(parent int, base string) error {
		var stat unix.Stat_t
		err := system.Lstatat(parent, base, &stat)
		if err == nil {
			err = mayGo(name, typeOf(&stat))
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

// confirmAbsent is tree.confirmAbsent. It lists the directory around once.
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

// removeDir removes the directory that a file was in, if that has emptied it. left is set where it
// has not. Other errors are no failure, as in removeEmptied.
func (r *removal) removeDir(ctx context.Context, dir string) (left bool) {
	if isCeiling(dir) || !storage.MayRemoveNow(ctx) {
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

// removeEmptied removes directories that hold nothing, upwards from dir, as far as
// the part of the layout that encloses them. The kernel refuses to remove a
// directory that is not empty, so a file that appears meanwhile is safe, and a
// refusal is where to stop and no failure: an empty directory costs nobody
// anything, and the next run tries again. left is set where dir itself is not empty.
func (t *tree) removeEmptied(ctx context.Context, dir string) (left bool) {
	for at := dir; !isCeiling(at) && storage.MayRemoveNow(ctx); at = path.Dir(at) {
		if err := t.removeDir(at); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return at == dir && isNotEmpty(err)
		}
	}
	return false
}

// isCeiling reports whether an emptied directory stays because a registry expects
// it, or because it is not known to be part of the layout or ours.
func isCeiling(dir string) bool {
	if dir == storage.OwnDir || isBelow(dir, storage.OwnDir) {
		return false // whoever needs it makes it
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
