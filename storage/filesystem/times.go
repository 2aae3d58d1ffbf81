//go:build unix

package filesystem

import (
	"context"
	"io/fs"
	"path"
	"time"

	"regsweep/internal/system"
	"regsweep/storage/layout"

	"golang.org/x/sys/unix"
)

// ChangedAfter implements storage.DirTimes.
func (f *Store) ChangedAfter(ctx context.Context, dir string, after time.Time) (bool, error) {
	t, err := f.tree()
	if t == nil || err != nil {
		return false, err
	}
	f.head.Add(1)
	stat, err := f.lstat(ctx, t, dir)
	if isAbsent(err) {
		return false, nil
	}
	if err != nil {
		return false, &fs.PathError{Op: "stat", Path: dir, Err: err}
	}
	return modTime(&stat).After(after), nil
}

// Dirs implements storage.DirTimes.
func (f *Store) Dirs(ctx context.Context, dir string) (names []string, err error) {
	entries, _, err := f.browse(ctx, dir)
	for _, entry := range entries {
		if entry.isDir() {
			names = append(names, entry.name)
		}
	}
	return names, err
}

// LinkedAfter implements storage.DirTimes.
func (f *Store) LinkedAfter(ctx context.Context, dir, below string, after time.Time, may func(name string) bool) (touched time.Time, err error) {
	t, err := f.tree()
	if t == nil || err != nil {
		return time.Time{}, err
	}
	entries, err := f.readDir(ctx, t, dir)
	if isAbsent(err) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, &fs.PathError{Op: "list", Path: dir, Err: err}
	}
	if err := f.begin(ctx); err != nil {
		return time.Time{}, err
	}
	defer f.end()
	fd, err := t.openDir(dir)
	if err != nil {
		return time.Time{}, &fs.PathError{Op: "open", Path: dir, Err: listedError(err)}
	}
	defer closeDir(fd)
	for _, entry := range entries {
		if !entry.isDir() || !may(entry.name) {
			continue
		}
		for _, name := range []string{path.Join(entry.name, below), path.Join(entry.name, below, layout.LinkFile)} {
			var stat unix.Stat_t
			err := system.Lstatat(fd, name, &stat)
			if isAbsent(err) {
				break
			}
			if err != nil {
				return time.Time{}, &fs.PathError{Op: "stat", Path: dir + "/" + name, Err: err}
			}
			if touched = modTime(&stat); !touched.After(after) {
				break
			}
			if path.Base(name) == layout.LinkFile {
				return touched, nil
			}
		}
	}
	return time.Time{}, nil
}
