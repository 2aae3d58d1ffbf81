//go:build unix

package filesystem

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"syscall"

	"regsweep/internal/system"
	"regsweep/storage"

	"golang.org/x/sys/unix"
)

// Move renames files. A rename copies no data and takes no space. If it is interrupted, it is
// either done or not done.
func (f *Store) Move(ctx context.Context, moves []storage.Move) []storage.Outcome {
	outcomes := make([]storage.Outcome, len(moves))
	for i, m := range moves {
		left, err := f.move(ctx, m)
		if err != nil {
			err = &fs.PathError{Op: "move", Path: m.From, Err: err}
		}
		outcomes[i] = storage.Outcome{Err: err, DirLeft: err == nil && (left || isDeepInUpload(m.From))}
	}
	return outcomes
}

func (f *Store) move(ctx context.Context, m storage.Move) (left bool, err error) {
	if err := storage.MayBegin(ctx); err != nil {
		return false, err
	}
	if err := f.begin(ctx); err != nil {
		return false, err
	}
	defer f.end()
	t, err := f.tree()
	if err != nil {
		return false, err
	}
	if t == nil {
		return false, fs.ErrNotExist
	}
	f.put.Add(1)
	for tries := 0; ; tries++ {
		if err := f.mayRemove(ctx); err != nil {
			return false, err
		}
		err = t.rename(m.From, m.To)
		if !isAbsent(err) || tries == 10 {
			break
		}
		// Either the object does not exist, or the directory of m.To.
		if _, err := t.mode(m.From); isAbsent(err) {
			return t.confirmMoved(ctx, m)
		} else if err != nil {
			return false, err
		}
		if err := t.makeDirs(path.Dir(m.To)); err != nil {
			return false, listedError(err)
		}
	}
	if errors.Is(err, fs.ErrExist) && t.isOneFile(m.From, m.To) {
		// An interrupted rename has made the second name and has not removed the first.
		if err := f.mayRemove(ctx); err != nil {
			return false, err
		}
		_, err = (&removal{tree: t, fd: -1}).unlink(m.From)
	}
	if errors.Is(err, syscall.ELOOP) || errors.Is(err, syscall.ENOTDIR) {
		return false, storage.ErrNotRegular // a parent is a symbolic link or a file
	}
	if errors.Is(err, syscall.EXDEV) {
		return false, fmt.Errorf("%s lies on another filesystem, to which nothing can be renamed: %w", m.To, err)
	}
	if err != nil {
		return false, listedError(err)
	}
	return t.removeEmptied(ctx, path.Dir(m.From)), nil
}

// confirmMoved returns nil if an object is at m.To and not at m.From.
func (t *tree) confirmMoved(ctx context.Context, m storage.Move) (left bool, err error) {
	if err := t.confirmAbsent(m.From); err != nil {
		return false, err
	}
	left = t.removeEmptied(ctx, path.Dir(m.From))
	_, err = t.mode(m.To)
	if isAbsent(err) {
		if err := t.confirmAbsent(m.To); err != nil {
			return false, err
		}
	}
	return left, err
}

// rename moves a file to a path that must not exist. It follows no symbolic link.
func (t *tree) rename(from, to string) error {
	return t.inParent(from, func(source int, old string) error {
		mode, err := modeOf(source, old)
		if err == nil {
			err = errors.Join(checkRemovable(from, mode), checkRemovable(to, mode))
		}
		if err != nil {
			return err
		}
		return t.inParent(to, func(target int, name string) error { return renameAt(source, old, target, name) })
	})
}

// replace moves a file to a path that may exist.
func (t *tree) replace(from, to string) error {
	return t.inParent(from, func(source int, old string) error {
		return t.inParent(to, func(target int, name string) error { return system.Renameat(source, old, target, name) })
	})
}

// renameAt renames a file and never replaces one. If the filesystem can't do that in one step
// (NFS), renameAt makes a hard link, which can't replace a file either, and removes the old name.
// If the filesystem has no hard links, it checks that the new name does not exist, and renames. A
// file that is made between these two calls would be replaced.
func renameAt(source int, old string, target int, name string) error {
	err := system.RenameNew(source, old, target, name)
	if err != unix.EINVAL && err != unix.ENOSYS {
		return err
	}
	switch err := system.Linkat(source, old, target, name); err {
	case nil:
		return system.Unlinkat(source, old, 0)
	case unix.EPERM, unix.EOPNOTSUPP, unix.ENOSYS:
	default:
		return err
	}
	if _, err := modeOf(target, name); err != unix.ENOENT {
		return cmp.Or(err, error(unix.EEXIST))
	}
	return system.Renameat(source, old, target, name)
}

// isOneFile reports whether two paths are names of the same file.
func (t *tree) isOneFile(a, b string) bool {
	first, err := t.lstat(a)
	if err != nil {
		return false
	}
	second, err := t.lstat(b)
	return err == nil && isSame(&first, &second)
}

func isSame(a, b *unix.Stat_t) bool { return a.Dev == b.Dev && a.Ino == b.Ino }

// makeDirs makes a directory and its parents.
func (t *tree) makeDirs(dir string) error {
	err := t.makeDir(dir)
	if errors.Is(err, fs.ErrNotExist) && dir != "." {
		if err := t.makeDirs(path.Dir(dir)); err != nil {
			return err
		}
		err = t.makeDir(dir)
	}
	if errors.Is(err, fs.ErrExist) { // if it is no directory, the next call in it fails
		return nil
	}
	return err
}

// makeDir makes a directory with the owner and the permissions of its parent: the registry may
// run as another user, and must be able to write to the directory.
func (t *tree) makeDir(dir string) error {
	t.making.Lock()
	defer t.making.Unlock()
	return t.inParent(dir, func(parent int, name string) error {
		if err := system.Mkdirat(parent, name, 0o777); err != nil {
			return err
		}
		err := inherit(parent, parent, name)
		if err != nil { // the registry could not write to it
			err = errors.Join(err, ignoreAbsent(system.Unlinkat(parent, name, unix.AT_REMOVEDIR)))
		}
		return err
	})
}

// inherit gives a file or a directory the owner and the permissions of an open directory. A file
// does not become executable. If this process may not change the owner, the owner is kept.
func inherit(from, parent int, name string) error {
	var of, made unix.Stat_t
	if err := system.Lstatat(from, ".", &of); err != nil {
		return err
	}
	if err := system.Lstatat(parent, name, &made); err != nil {
		return err
	}
	if of.Uid != made.Uid || of.Gid != made.Gid {
		if err := system.Lchownat(parent, name, int(of.Uid), int(of.Gid)); err != nil && err != unix.EPERM {
			return err
		}
	}
	permissions := uint32(of.Mode) & 0o2777
	if typeOf(&made) != fs.ModeDir {
		permissions &= 0o666
	}
	if uint32(made.Mode)&0o2777 != permissions {
		return system.Fchmodat(parent, name, permissions)
	}
	return nil
}

// Put writes a temporary file in storage.OwnDir, and renames it once it is on the disk and has the right owner. If
// OwnDir lies on another filesystem, the temporary file is near its final place.
func (f *Store) Put(ctx context.Context, name string, content io.ReadSeeker) error {
	return f.place(ctx, name, content, false)
}

// Overwrite is Put with a rename that replaces the old file.
func (f *Store) Overwrite(ctx context.Context, name string, content []byte) error {
	return f.place(ctx, name, bytes.NewReader(content), true)
}

// place is Put or, if replaces is set, Overwrite.
func (f *Store) place(ctx context.Context, name string, content io.ReadSeeker, replaces bool) (err error) {
	defer func() {
		if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) { // a parent is a file or a symbolic link
			err = storage.ErrNotRegular
		}
		if err != nil {
			err = &fs.PathError{Op: "write", Path: name, Err: err}
		}
	}()
	if err := f.begin(ctx); err != nil {
		return err
	}
	defer f.end()
	t, err := f.makeLayout() // a registry that nobody has pushed to has none
	if err != nil {
		return err
	}
	switch mode, err := t.mode(name); {
	case err == nil && !replaces:
		return fs.ErrExist
	case err == nil && mode.IsDir():
		return storage.ErrNotRegular
	}
	if err := t.makeDirs(storage.OwnDir); err != nil {
		return err
	}
	f.put.Add(1)
	if err = f.putBy(ctx, t, temporaryFor(name), name, content, replaces); errors.Is(err, unix.EXDEV) {
		err = f.putBy(ctx, t, path.Join(path.Dir(path.Dir(name)), path.Base(temporaryFor(name))), name, content, replaces)
	}
	if err != nil {
		t.removeEmptied(ctx, path.Dir(name))
		t.removeEmptied(ctx, storage.OwnDir)
	}
	return err
}

// putBy writes content to a temporary file, and renames it.
func (f *Store) putBy(ctx context.Context, t *tree, temporary, name string, content io.ReadSeeker, replaces bool) error {
	err := f.write(ctx, t, temporary, content)
	if err == nil {
		err = t.makeDirs(path.Dir(name))
	}
	if err == nil {
		err = t.inParent(name, func(dir int, _ string) error {
			return t.inParent(temporary, func(parent int, name string) error { return inherit(dir, parent, name) })
		})
	}
	if err == nil {
		err = f.mayRemove(ctx)
	}
	switch {
	case err == nil && replaces:
		err = t.replace(temporary, name)
	case err == nil:
		err = t.rename(temporary, name)
	}
	if err != nil {
		err = errors.Join(err, ignoreAbsent(t.unlink(temporary)))
	}
	return err
}

// unlink removes a file in OwnDir.
func (t *tree) unlink(name string) error {
	return t.inParent(name, func(parent int, name string) error { return system.Unlinkat(parent, name, 0) })
}

// temporaryFor is the path of a file until it is complete. It is computed from the final path, so
// the next Put of this path overwrites the file that an interrupted Put has left. In a quarantine
// it is computed from the base name alone: the directory of a run is never used again. Only the
// holder of the lock writes its plan there, so two of them are never written at once.
func temporaryFor(name string) string {
	if isBelow(name, storage.QuarantineDir) {
		name = storage.QuarantineDir + "/" + path.Base(name)
	}
	sum := sha256.Sum256([]byte(name))
	return storage.OwnDir + "/" + hex.EncodeToString(sum[:8]) + ".new"
}

func ignoreAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// write writes content to a new file, and returns once it is on the disk.
func (f *Store) write(ctx context.Context, t *tree, name string, content io.ReadSeeker) error {
	if _, err := content.Seek(0, io.SeekStart); err != nil {
		return err
	}
	// An old file with this name may be a symbolic link. O_TRUNC would write to its target.
	if err := ignoreAbsent(t.unlink(name)); err != nil {
		return err
	}
	return t.inParent(name, func(parent int, name string) error {
		fd, err := createAt(parent, name)
		if err != nil {
			return err
		}
		if _, err = io.Copy(&largeFile{ctx, f, fd, 0}, content); err == nil {
			err = system.Fsync(fd)
		}
		return closeAfter(fd, err)
	})
}

// largeFile writes to an open file for a call between begin and end. After each piece it gives up its slot
// for a moment: another goroutine may need a slot to refresh the lock. For the same reason no sync has more
// than syncBytes to write.
type largeFile struct {
	ctx      context.Context
	store    *Store
	fd       int
	unsynced int // in bytes
}

// syncBytes is how much is written between two syncs.
const syncBytes = 64 << 20

func (l *largeFile) Write(p []byte) (n int, err error) {
	if n, err = descriptor(l.fd).Write(p); err != nil {
		return n, err
	}
	if l.unsynced += n; l.unsynced >= syncBytes {
		l.unsynced = 0
		if err := system.Fsync(l.fd); err != nil {
			return n, err
		}
	}
	l.store.end()
	l.store.slots <- struct{}{}
	return n, l.ctx.Err()
}

// createAt makes a file that must not exist, so nothing is written through a link.
func createAt(dir int, name string) (fd int, err error) {
	return system.Openat(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW, 0o666)
}

// descriptor writes to an open file.
type descriptor int

func (d descriptor) Write(p []byte) (n int, err error) {
	for n < len(p) {
		written, err := system.Write(int(d), p[n:])
		if err != nil {
			return n, err
		}
		if written == 0 {
			return n, io.ErrShortWrite
		}
		n += written
	}
	return n, nil
}

// MakeDir makes a directory.
func (f *Store) MakeDir(ctx context.Context, dir string) error {
	if err := f.begin(ctx); err != nil {
		return err
	}
	defer f.end()
	t, err := f.tree()
	if err == nil && t == nil {
		err = fs.ErrNotExist
	}
	if err == nil {
		err = t.makeDirs(dir)
	}
	if err != nil {
		return fmt.Errorf("make the directory %s: %w", dir, err)
	}
	return nil
}

// Sync makes the kernel write all changes of the filesystem to the disk. It does the same for the
// filesystems that followed symbolic links lead to.
func (f *Store) Sync(ctx context.Context) error {
	t, err := f.tree()
	if t == nil || err != nil {
		return errors.Join(err, ctx.Err())
	}
	if err := f.begin(ctx); err != nil {
		return err
	}
	defer f.end()
	if err := t.sync(); err != nil {
		return fmt.Errorf("sync %s: %w", f.dir, err)
	}
	return ctx.Err()
}

func (t *tree) sync() error {
	fds := []int{t.fd}
	if links := t.links.Load(); links != nil {
		for _, link := range *links {
			fds = append(fds, link.fd)
		}
	}
	for _, fd := range fds {
		if err := system.Syncfs(fd); err != nil {
			return err
		}
	}
	return nil
}
