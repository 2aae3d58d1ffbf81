//go:build unix

package storage

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"

	"regsweep/internal/system"

	"golang.org/x/sys/unix"
)

// Names lists the directories in a directory.
func (f *filesystem) Names(ctx context.Context, dir string) ([]string, error) {
	entries, _, err := f.browse(ctx, dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, entry := range entries {
		if entry.isDir() {
			names = append(names, entry.name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// Below walks a directory.
func (f *filesystem) Below(ctx context.Context, dir string, visit func([]Object) error) error {
	entries, found, err := f.browse(ctx, dir)
	if err != nil || !found {
		return err
	}
	return f.below(ctx, dir, entries, visit)
}

func (f *filesystem) below(ctx context.Context, dir string, entries []dirEntry, visit func([]Object) error) error {
	t, err := f.tree()
	if err != nil {
		return err
	}
	if len(entries) == 0 {
		return visit([]Object{{Path: dir, Dir: true}})
	}
	var page []Object
	for _, entry := range entries {
		name := dir + "/" + entry.name
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
	return visitPage(page, visit)
}

// lstat is tree.lstat, bounded. Its error is fs.ErrNotExist only if a listing agrees.
func (f *filesystem) lstat(ctx context.Context, t *tree, name string) (unix.Stat_t, error) {
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

// browse lists a directory, to which no symbolic link may lead: what is found there is
// moved and removed.
func (f *filesystem) browse(ctx context.Context, dir string) (entries []dirEntry, found bool, err error) {
	if err := f.begin(ctx); err != nil {
		return nil, false, err
	}
	defer f.end()
	t, err := f.tree()
	if t == nil || err != nil {
		return nil, false, err
	}
	for at := dir; at != "."; at = path.Dir(at) {
		mode, err := t.mode(at)
		if isAbsent(err) {
			err = t.confirmAbsent(at)
			if err == nil {
				return nil, false, nil
			}
		}
		if err != nil {
			return nil, false, fmt.Errorf("list %s: %w", dir, err)
		}
		if mode != fs.ModeDir {
			return nil, false, nil
		}
	}
	f.list.Add(1)
	entries, err = t.readDir(dir)
	if err != nil {
		return nil, false, fmt.Errorf("list %s: %w", dir, listedError(err))
	}
	return entries, true, nil
}

// Stream copies a file.
func (f *filesystem) Stream(ctx context.Context, name string, w io.Writer) error {
	t, err := f.tree()
	if err != nil {
		return err
	}
	if t == nil {
		return notExist("read", name)
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
		return readError(name, err)
	}
	return nil
}

// stream writes the content of an open file to w. It holds no slot while w writes.
func (f *filesystem) stream(ctx context.Context, fd int, w io.Writer) error {
	var stat unix.Stat_t
	if err := system.Fstat(fd, &stat); err != nil {
		return err
	}
	if typeOf(&stat) != 0 {
		return ErrNotRegular
	}
	buffer := make([]byte, 64<<10)
	for left := stat.Size; left > 0; {
		if err := f.begin(ctx); err != nil {
			return err
		}
		n, err := system.Read(fd, buffer)
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
