package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"syscall"
	"time"
)

// What is ours lies where others may write too. So a file of ours is only ever reached
// through an os.Root, and by no symbolic link: one in the place of the directory or of
// the file is an error, and what it leads to is neither read nor written.

// flockWait is how long a file may be written by another process before it counts as
// that one's. It takes milliseconds, unless the process was suspended meanwhile.
const flockWait = 10 * time.Second

// Create writes a file that must not exist, with O_EXCL.
func (f *filesystem) Create(ctx context.Context, name string, content []byte) (string, error) {
	for tries := 1; ; tries++ {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		err := f.create(name, content)
		if err == nil {
			return string(content), nil
		}
		// Another run may have removed the directory, which it had emptied.
		if !errors.Is(err, fs.ErrNotExist) || tries == 100 {
			return "", ownError("create", name, err)
		}
	}
}

func (f *filesystem) create(name string, content []byte) error {
	if err := os.MkdirAll(f.dir, 0o777); err != nil {
		return err
	}
	t, err := f.tree()
	if err != nil {
		return err
	}
	if t == nil {
		return fs.ErrNotExist
	}
	if err := t.root.Mkdir(path.Dir(name), 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	dir, err := t.openOwn(name)
	if err != nil {
		return err
	}
	f.put.Add(1)
	return errors.Join(writeNew(dir, path.Base(name), content), dir.Close())
}

// Version returns the content, which is its own version: lock files name their
// holder and the time, so no two are alike.
func (f *filesystem) Version(ctx context.Context, name string) ([]byte, string, error) {
	if err := ctx.Err(); err != nil {
		return nil, "", err
	}
	content, err := f.read(name, lockLimit)
	if err != nil {
		return nil, "", readError(name, err)
	}
	return content, string(content), nil
}

// Replace overwrites under the kernel's exclusive lock on the file itself, which makes
// comparing and renaming one step among processes of one host, and among hosts where
// the filesystem supports such locks.
func (f *filesystem) Replace(ctx context.Context, name string, content []byte, version string) (string, error) {
	t, err := f.tree()
	if err != nil {
		return "", err
	}
	if t == nil {
		err = fs.ErrNotExist
	} else {
		err = f.replace(ctx, t, name, content, version)
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = ErrLost
	}
	if err != nil {
		return "", ownError("replace", name, err)
	}
	return string(content), nil
}

func (f *filesystem) replace(ctx context.Context, t *tree, name string, content []byte, version string) (err error) {
	dir, err := t.openOwn(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	base := path.Base(name)
	file, err := openLocked(ctx, dir, base)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }() // which gives the kernel's lock back
	now, err := readRegular(file, lockLimit)
	if err != nil {
		return err
	}
	if string(now) != version {
		return ErrLost
	}
	f.put.Add(1)
	// A run that was killed here may have left one.
	if err := dir.Remove(base + ".new"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := writeNew(dir, base+".new", content); err != nil {
		return err
	}
	return dir.Rename(base+".new", base)
}

// openLocked opens a file and has the kernel lock it. Whoever waits for that lock may
// get that of a file which has been replaced or removed meanwhile, and which others
// don't see any more: then the one that is there now is opened.
func openLocked(ctx context.Context, dir *os.Root, name string) (*os.File, error) {
	deadline := time.Now().Add(flockWait)
	for {
		// O_NONBLOCK: opening a pipe would wait for its other end for ever.
		file, err := dir.OpenFile(name, os.O_RDWR|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
		if err != nil {
			return nil, err
		}
		locked, err := flock(file)
		if locked && err == nil {
			var is bool
			if is, err = isAt(file, dir, name); is {
				return file, nil
			}
		}
		if err := errors.Join(err, file.Close(), ctx.Err()); err != nil {
			return nil, err
		}
		if locked {
			continue
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("another process is writing it: %w", ErrLost)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// flock locks an open file, unless somebody else has.
func flock(file *os.File) (locked bool, err error) {
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EWOULDBLOCK):
			return false, nil
		default:
			return err == nil, err
		}
	}
}

// isAt reports whether an open file is the one that has the name.
func isAt(file *os.File, dir *os.Root, name string) (bool, error) {
	opened, err := file.Stat()
	if err != nil {
		return false, err
	}
	named, err := dir.Lstat(name)
	if err != nil {
		return false, err
	}
	return os.SameFile(opened, named), nil
}

// openOwn opens the directory of a file of ours.
func (t *tree) openOwn(name string) (*os.Root, error) {
	own := path.Dir(name)
	info, err := t.root.Lstat(own)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("%s is not a directory", own)
	}
	dir, err := t.root.OpenRoot(own)
	if err != nil {
		return nil, err
	}
	// An os.Root follows links that stay inside it: nobody may have put one there now.
	opened, err := dir.Stat(".")
	if err == nil && !os.SameFile(info, opened) {
		err = fmt.Errorf("%s was replaced meanwhile: %w", own, fs.ErrNotExist)
	}
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return dir, nil
}

// writeNew writes a file that must not exist, so that nothing is written through a link.
func writeNew(dir *os.Root, name string, content []byte) error {
	file, err := dir.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	return errors.Join(err, file.Close())
}

// ownError names the file of ours that an operation failed on.
func ownError(op, name string, err error) error {
	if pathErr := (*fs.PathError)(nil); errors.As(err, &pathErr) {
		err = pathErr.Err
	}
	return fmt.Errorf("%s %s: %w", op, name, err)
}
