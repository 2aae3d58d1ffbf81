//go:build unix

package filesystem

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"time"

	"regsweep/internal/system"
	"regsweep/storage"

	"golang.org/x/sys/unix"
)

// Other users may write to OwnDir too. So the files there are never reached through a symbolic
// link. If the directory or a file is a symbolic link, that is an error, and its target is neither
// read nor written.

// flockWait is how long a file may be locked by another process before the write is given up as
// lost. A write takes milliseconds, unless the process is suspended meanwhile.
const flockWait = 10 * time.Second

// Create writes a file that must not exist, with O_EXCL.
//
// The lock is made before anything is removed, and an operator often runs a collection because
// the disk is full. If there is no space for the file, the kernel's lock on the layout's directory
// replaces it until Replace finds space. Every Create takes the kernel's lock, so no other run can
// make the file meanwhile. The kernel's lock ends with the process, so it is never stale.
func (f *Store) Create(ctx context.Context, name string, content []byte) (string, error) {
	for tries := 1; ; tries++ {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		err := f.create(ctx, name, content)
		if err == nil {
			return string(content), nil
		}
		// Another run may have removed the directory after it had removed its lock.
		if !errors.Is(err, fs.ErrNotExist) || tries == 100 {
			return "", ownError("create", name, err)
		}
	}
}

func (f *Store) create(ctx context.Context, name string, content []byte) error {
	t, err := f.makeLayout()
	if err != nil {
		return err
	}
	fd, err := system.Openat(t.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	root := os.NewFile(uintptr(fd), f.dir)
	locked, err := flockSoon(ctx, fd)
	if err != nil {
		return errors.Join(err, root.Close())
	}
	f.put.Add(1)
	err = t.createOwn(ctx, name, content)
	switch {
	case storage.IsFull(err) && locked:
		f.standIn.Store(root)
		return nil
	case storage.IsFull(err): // NFS can lock only a file that is open for writing
		err = fmt.Errorf("%w, and this filesystem locks no directories, so a run needs a free file of 4 KiB for its lock", err)
	}
	return errors.Join(err, root.Close())
}

// flockSoon locks an open file. If another process has the lock, it waits for at most flockWait.
// locked is false if the filesystem has no such locks.
func flockSoon(ctx context.Context, fd int) (locked bool, err error) {
	for deadline := time.Now().Add(flockWait); ; {
		locked, err := flock(fd)
		if locked || err != nil {
			return locked, nil
		}
		if err := ctx.Err(); err != nil {
			return false, err
		}
		if time.Now().After(deadline) {
			return false, fmt.Errorf("another process has locked the directory: %w", storage.ErrLost)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// createOwn makes a file in OwnDir, and its directory. If there is no space for both, it leaves
// neither of them.
func (t *tree) createOwn(ctx context.Context, name string, content []byte) error {
	err := t.makeDir(path.Dir(name))
	if err == nil || errors.Is(err, fs.ErrExist) {
		var dir int
		if dir, err = t.openOwn(name); err == nil {
			err = writeNew(dir, path.Base(name), content)
			closeDir(dir)
		}
	}
	if storage.IsFull(err) {
		t.removeEmptied(ctx, path.Dir(name))
	}
	return err
}

// Version returns the content. The content is also the version: a lock file contains its holder
// and the time, so no two are equal.
func (f *Store) Version(ctx context.Context, name string) ([]byte, string, error) {
	if err := ctx.Err(); err != nil {
		return nil, "", err
	}
	content, err := f.read(name, storage.LockLimit)
	if err != nil {
		return nil, "", readError(name, err)
	}
	return content, string(content), nil
}

// Replace compares and renames while it has the kernel's exclusive lock on the file. So this is
// atomic for all processes of one host, and for all hosts if the filesystem supports such locks.
func (f *Store) Replace(ctx context.Context, name string, content []byte, version string) (string, error) {
	t, err := f.tree()
	if err != nil {
		return "", err
	}
	root := f.standIn.Load()
	switch {
	case t == nil:
		err = storage.ErrLost
	case root != nil:
		err = f.replaceStandIn(ctx, t, root, name, content)
	default:
		err = f.replaceFile(ctx, t, name, content, version)
	}
	if err != nil {
		return "", ownError("replace", name, err)
	}
	return string(content), nil
}

func (f *Store) replaceFile(ctx context.Context, t *tree, name string, content []byte, version string) error {
	err := t.withVersion(ctx, name, version, func(dir, fd int) error {
		f.put.Add(1)
		return overwrite(dir, fd, path.Base(name), content)
	})
	if lacksLocks(err) {
		err = f.replaceUnlocked(t, name, content, version)
	}
	if !storage.IsFull(err) || version != "" {
		return err
	}
	// An empty file has no blocks that could be overwritten.
	if err := f.Delete(ctx, name, version); err != nil {
		return err
	}
	_, err = f.Create(ctx, name, content)
	if errors.Is(err, fs.ErrExist) {
		return storage.ErrLost
	}
	return err
}

// replaceStandIn makes the lock file for which there was no space. While there is still none, the
// kernel's lock on root goes on replacing it.
func (f *Store) replaceStandIn(ctx context.Context, t *tree, root *os.File, name string, content []byte) error {
	f.put.Add(1)
	err := t.createOwn(ctx, name, content)
	switch {
	case err == nil:
		return f.releaseStandIn(root)
	case storage.IsFull(err):
		return nil
	case errors.Is(err, fs.ErrExist): // made by a host that the kernel's lock does not reach
		return storage.ErrLost
	}
	return err
}

// Delete removes the file under the same lock as Replace.
func (f *Store) Delete(ctx context.Context, name, version string) error {
	t, err := f.tree()
	if err != nil {
		return err
	}
	root := f.standIn.Load()
	switch {
	case t == nil:
		err = storage.ErrLost
	case root != nil:
		err = f.releaseStandIn(root)
	default:
		err = t.withVersion(ctx, name, version, func(dir, _ int) error {
			f.del.Add(1)
			return system.Unlinkat(dir, path.Base(name), 0)
		})
		if lacksLocks(err) {
			err = f.deleteUnlocked(ctx, t, name, version)
		}
		t.removeEmptied(ctx, path.Dir(name))
	}
	if err != nil {
		return ownError("remove", name, err)
	}
	return nil
}

// lacksLocks reports whether the filesystem does not support the kernel's locks, such as NFS without
// a lock server.
func lacksLocks(err error) bool {
	return errors.Is(err, unix.ENOLCK) || errors.Is(err, errors.ErrUnsupported)
}

// replaceUnlocked is Replace without the kernel's lock. If another run writes between the read and
// the rename, its write is lost. That run notices it when it reads its lock again.
func (f *Store) replaceUnlocked(t *tree, name string, content []byte, version string) (err error) {
	defer func() {
		if errors.Is(err, fs.ErrNotExist) {
			err = storage.ErrLost
		}
	}()
	now, err := f.read(name, storage.LockLimit)
	if err != nil {
		return err
	}
	if string(now) != version {
		return storage.ErrLost
	}
	dir, err := t.openOwn(name)
	if err != nil {
		return err
	}
	defer closeDir(dir)
	fd, err := system.Openat(dir, path.Base(name), unix.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	f.put.Add(1)
	return closeAfter(fd, overwrite(dir, fd, path.Base(name), content))
}

// deleteUnlocked is Delete without the kernel's lock. It reads the file and then checks the lease.
func (f *Store) deleteUnlocked(ctx context.Context, t *tree, name, version string) error {
	now, err := f.read(name, storage.LockLimit)
	if errors.Is(err, fs.ErrNotExist) || err == nil && string(now) != version {
		return storage.ErrLost
	}
	if err == nil {
		err = storage.MayRemove(ctx)
	}
	if err != nil {
		return err
	}
	f.del.Add(1)
	return t.unlink(name)
}

// releaseStandIn releases the kernel's lock that replaced a lock file.
func (f *Store) releaseStandIn(root *os.File) error {
	f.standIn.Store(nil)
	return root.Close()
}

// withVersion takes the kernel's lock on a file in OwnDir, and calls change if the file has this
// version. The error is storage.ErrLost if it has another version or does not exist.
func (t *tree) withVersion(ctx context.Context, name, version string, change func(dir, fd int) error) (err error) {
	defer func() {
		if errors.Is(err, fs.ErrNotExist) {
			err = storage.ErrLost
		}
	}()
	dir, err := t.openOwn(name)
	if err != nil {
		return err
	}
	defer closeDir(dir)
	fd, err := openLocked(ctx, dir, path.Base(name))
	if err != nil {
		return err
	}
	defer func() { err = closeAfter(fd, err) }() // this releases the kernel's lock
	now, err := readDescriptor(nil, fd, storage.LockLimit)
	if err != nil {
		return err
	}
	if string(now) != version {
		return storage.ErrLost
	}
	return change(dir, fd)
}

// overwrite replaces a file with a rename, so a reader finds either the old or the new content.
// On a full disk it writes to the blocks of the old file. A reader may then find a part of the new
// content. To the reader this is a lock without a known holder that has changed.
func overwrite(dir, fd int, name string, content []byte) error {
	// A killed run may have left this file.
	if err := ignoreAbsent(system.Unlinkat(dir, name+".new", 0)); err != nil {
		return err
	}
	err := writeNew(dir, name+".new", content)
	if storage.IsFull(err) {
		if err := system.Seek(fd, 0); err != nil {
			return err
		}
		if _, err := descriptor(fd).Write(content); err != nil {
			return err
		}
		return system.Ftruncate(fd, int64(len(content)))
	}
	if err != nil {
		return err
	}
	return system.Renameat(dir, name+".new", dir, name)
}

// openLocked opens a file and takes the kernel's lock on it. While it waits for the lock, another
// process may replace or remove the file. It then has the lock of the old file, so it opens the
// file with this name again.
func openLocked(ctx context.Context, dir int, name string) (fd int, err error) {
	deadline := time.Now().Add(flockWait)
	for {
		// O_NONBLOCK: opening a pipe would wait for its other end for ever.
		fd, err := system.Openat(dir, name, unix.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
		if err != nil {
			return -1, err
		}
		locked, err := flock(fd)
		if locked && err == nil {
			var is bool
			if is, err = isAt(fd, dir, name); is {
				return fd, nil
			}
		}
		if err := errors.Join(closeAfter(fd, err), ctx.Err()); err != nil {
			return -1, err
		}
		if locked {
			continue
		}
		if time.Now().After(deadline) {
			return -1, fmt.Errorf("another process is writing it: %w", storage.ErrLost)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// flock locks an open file. locked is false if another process has the lock.
func flock(fd int) (locked bool, err error) {
	err = system.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	if err == unix.EWOULDBLOCK {
		return false, nil
	}
	return err == nil, err
}

// isAt reports whether a name in a directory still names an open file.
func isAt(fd, dir int, name string) (bool, error) {
	var opened, named unix.Stat_t
	if err := system.Fstat(fd, &opened); err != nil {
		return false, err
	}
	if err := system.Lstatat(dir, name, &named); err != nil {
		return false, err
	}
	return isSame(&opened, &named), nil
}

// openOwn opens the directory of a file in OwnDir.
func (t *tree) openOwn(name string) (fd int, err error) {
	own := path.Dir(name)
	fd, err = t.openDir(own)
	if err == unix.ELOOP || err == unix.ENOTDIR {
		err = fmt.Errorf("%s is not a directory", own)
	}
	return fd, err
}

// writeNew writes a file that must not exist, so nothing is written through a link. If the write
// fails, it removes the file.
//
// It takes the kernel's lock while the file is still empty. So another process that finds the
// empty file can't replace it before it is written.
func writeNew(dir int, name string, content []byte) error {
	fd, err := createAt(dir, name)
	if err != nil {
		return err
	}
	if locked, err := flock(fd); err == nil { // after an error the filesystem has no such locks
		is, err := isAt(fd, dir, name)
		if err == nil && !(locked && is) {
			err = fs.ErrExist // another process has found the empty file and locked it first
		}
		if err != nil {
			return closeAfter(fd, err)
		}
	}
	err = inherit(dir, dir, name)
	if err == nil {
		_, err = descriptor(fd).Write(content)
	}
	if err != nil {
		return errors.Join(err, system.Unlinkat(dir, name, 0), system.Close(fd))
	}
	if err := system.Close(fd); err != nil { // NFS writes when the file is closed
		return errors.Join(err, ignoreAbsent(system.Unlinkat(dir, name, 0)))
	}
	return nil
}

// ownError adds the operation and the file in OwnDir to an error.
func ownError(op, name string, err error) error {
	if pathErr := (*fs.PathError)(nil); errors.As(err, &pathErr) {
		err = pathErr.Err
	}
	return fmt.Errorf("%s %s: %w", op, name, err)
}
