//go:build unix

package filesystem

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"sync"

	"regsweep/internal/system"
	"regsweep/storage"

	"golang.org/x/sys/unix"
)

// Names lists the directories in a directory, and the symbolic links.
func (f *Store) Names(ctx context.Context, dir string) ([]string, error) {
	entries, found, err := f.browse(ctx, dir)
	if err == nil && found == notDirectory {
		err = fmt.Errorf("list %s: %w", dir, noDirectoryError{})
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, entry := range entries {
		if entry.isDir() || entry.isSymlink() {
			names = append(names, entry.name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// noDirectoryError is the error if a path is not a directory. Such a path must not count as an
// empty directory. The error matches storage.ErrNotRegular.
type noDirectoryError struct{}

func (noDirectoryError) Error() string {
	return "it is a symbolic link, which is not followed, or no directory"
}

func (noDirectoryError) Is(target error) bool { return target == storage.ErrNotRegular }

// Below walks a directory.
func (f *Store) Below(ctx context.Context, dir string, visit func([]storage.Object) error) error {
	entries, found, err := f.browse(ctx, dir)
	if err != nil || found == noEntry {
		return err
	}
	if found == isDirectory {
		return f.below(ctx, dir, entries, visit)
	}
	t, err := f.tree()
	if err != nil {
		return err
	}
	stat, err := f.lstat(ctx, t, dir)
	if err != nil {
		return fmt.Errorf("stat %s: %w", dir, listedError(err))
	}
	return visit([]storage.Object{fileObject(dir, &stat)})
}

// Others walks the other directories of the layout's root.
func (f *Store) Others(ctx context.Context, visit func([]storage.Object) error) error {
	t, err := f.tree()
	if t == nil || err != nil {
		return err
	}
	entries, err := f.readDir(ctx, t, ".")
	if err != nil {
		return fmt.Errorf("list the layout: %w", listedError(err))
	}
	entries = slices.DeleteFunc(entries, func(entry dirEntry) bool { return storage.IsTree(entry.name) })
	if len(entries) == 0 {
		return nil
	}
	return f.below(ctx, "", entries, visit)
}

func (f *Store) below(ctx context.Context, dir string, entries []dirEntry, visit func([]storage.Object) error) error {
	t, err := f.tree()
	if err != nil {
		return err
	}
	if len(entries) == 0 {
		return visit([]storage.Object{{Path: dir, Dir: true}})
	}
	var page []storage.Object
	for _, entry := range entries {
		name := path.Join(dir, entry.name)
		if entry.isDir() {
			inside, err := f.readDir(ctx, t, name)
			if err != nil {
				return fmt.Errorf("list %s: %w", name, listedError(err))
			}
			if err := f.below(ctx, name, inside, visit); err != nil {
				return err
			}
			continue
		}
		stat, err := f.lstat(ctx, t, name)
		if isAbsent(err) {
			continue // a temporary file of a registry, which it has renamed meanwhile
		}
		if err != nil {
			return fmt.Errorf("stat %s: %w", name, err)
		}
		page = append(page, fileObject(name, &stat))
	}
	return storage.VisitPage(page, visit)
}

// lstat is tree.lstat within the limits of the store. Its error is fs.ErrNotExist only if a listing
// confirms that.
func (f *Store) lstat(ctx context.Context, t *tree, name string) (unix.Stat_t, error) {
	if err := f.begin(ctx); err != nil {
		return unix.Stat_t{}, err
	}
	defer f.end()
	stat, err := t.lstat(name)
	if isAbsent(err) {
		err = cmp.Or(t.confirmAbsent(name), err)
	}
	return stat, err
}

// entryKind says what browse has found at a path.
type entryKind int

const (
	noEntry entryKind = iota
	isDirectory
	notDirectory
)

// browse lists a directory. The path may contain only the symbolic links that mayBeLink allows: the
// files that are found there will be moved and removed.
func (f *Store) browse(ctx context.Context, dir string) (entries []dirEntry, found entryKind, err error) {
	if err := f.begin(ctx); err != nil {
		return nil, noEntry, err
	}
	defer f.end()
	t, err := f.tree()
	if t == nil || err != nil {
		return nil, noEntry, err
	}
	for at := dir; at != "."; at = path.Dir(at) {
		mode, err := t.mode(at)
		if isAbsent(err) {
			err = t.confirmAbsent(at)
			if err == nil {
				return nil, noEntry, nil
			}
		}
		switch {
		case errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENOTDIR):
			continue // the check of a parent finds the cause
		case err != nil:
			return nil, noEntry, fmt.Errorf("list %s: %w", dir, err)
		case mode == fs.ModeDir, mode == fs.ModeSymlink && mayBeLink(at):
		case at == dir:
			return nil, notDirectory, nil
		default:
			return nil, noEntry, fmt.Errorf("list %s: %s: %w", dir, at, noDirectoryError{})
		}
	}
	f.list.Add(1)
	entries, err = t.readDir(dir)
	if err != nil {
		return nil, noEntry, fmt.Errorf("list %s: %w", dir, listedError(err))
	}
	return entries, isDirectory, nil
}

// Stream copies a file.
func (f *Store) Stream(ctx context.Context, name string, w io.Writer) error {
	t, err := f.tree()
	if err != nil {
		return err
	}
	if t == nil {
		return storage.NotExist("read", name)
	}
	if err := f.begin(ctx); err != nil {
		return err
	}
	f.get.Add(1)
	fd, err := t.openRead(name)
	f.end()
	if err == nil {
		err = closeAfter(fd, f.stream(ctx, fd, w))
	}
	if err != nil {
		return f.readError(name, err)
	}
	return nil
}

// streamBuffer is the size of a read of Stream, in bytes. Larger reads are not faster.
const streamBuffer = 256 << 10

var streamBuffers = sync.Pool{New: func() any { return new([streamBuffer]byte) }}

// stream writes the content of an open file to w. It holds no slot while w writes.
func (f *Store) stream(ctx context.Context, fd int, w io.Writer) error {
	var stat unix.Stat_t
	if err := system.Fstat(fd, &stat); err != nil {
		return err
	}
	if typeOf(&stat) != 0 {
		return storage.ErrNotRegular
	}
	if stat.Size > streamBuffer {
		_ = system.Sequential(fd) // only a hint
	}
	buffer := streamBuffers.Get().(*[streamBuffer]byte)
	defer streamBuffers.Put(buffer)
	for left := stat.Size; left > 0; {
		if err := f.begin(ctx); err != nil {
			return err
		}
		n, err := system.Read(fd, buffer[:])
		f.end()
		if err != nil {
			return err
		}
		if n == 0 {
			return errShrunk
		}
		if _, err := w.Write(buffer[:n]); err != nil {
			return err
		}
		left -= int64(n)
	}
	return nil
}

// Beside stats a file. The file counts as absent only if a listing confirms that.
func (f *Store) Beside(ctx context.Context, name string) (bool, error) {
	if err := f.begin(ctx); err != nil {
		return false, err
	}
	defer f.end()
	f.head.Add(1)
	dir, err := f.openBelowRoot(path.Dir(name))
	if dir < 0 || err != nil {
		return false, err
	}
	_, err = modeOf(dir, path.Base(name))
	isThere := err == nil
	if isAbsent(err) {
		err = confirmAbsentAt(dir, path.Base(name))
	}
	if err = closeAfter(dir, err); err != nil {
		return false, &fs.PathError{Op: "stat", Path: filepath.Join(f.identity.Root, name), Err: err}
	}
	return isThere, nil
}
