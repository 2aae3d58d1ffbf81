//go:build unix

package filesystem

import (
	"context"
	"fmt"

	"regsweep/internal/system"
	"regsweep/storage"

	"golang.org/x/sys/unix"
)

// ScanSized implements storage.SizedScanner. It stats every file.
func (f *Store) ScanSized(ctx context.Context, dir string, visit func([]storage.Object) error) error {
	return f.ScanNames(ctx, dir, func(page []storage.Object) error {
		t, err := f.tree()
		if err != nil {
			return err
		}
		for i := range page {
			if err := f.addSize(ctx, &page[i], t.lstat); err != nil {
				return err
			}
		}
		return visit(page)
	}, func(n storage.NamedDigests) error {
		page := n.Objects()
		if err := f.addSizes(ctx, n.Dir, page); err != nil {
			return err
		}
		return visit(page)
	})
}

// addSizes adds the sizes of files below a directory. Their paths begin with it.
func (f *Store) addSizes(ctx context.Context, dir string, page []storage.Object) error {
	t, err := f.tree()
	if err != nil {
		return err
	}
	in, err := (&walk{fs: f, tree: t}).openBase(ctx, dir, 0)
	if err != nil {
		return err
	}
	defer closeDir(in.base.fd)
	for i := range page {
		err := f.addSize(ctx, &page[i], func(name string) (stat unix.Stat_t, err error) {
			err = system.Lstatat(in.base.fd, name[len(in.base.prefix):], &stat)
			return stat, err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// addSize adds the size and the time of a file that the scan has not statted. An object that is no
// regular file, or does not exist, remains as the scan reported it.
func (f *Store) addSize(ctx context.Context, o *storage.Object, lstat func(name string) (unix.Stat_t, error)) error {
	if o.Dir || o.Err != nil || !o.ModTime.IsZero() {
		return nil
	}
	if err := f.begin(ctx); err != nil {
		return err
	}
	defer f.end()
	f.head.Add(1)
	stat, err := lstat(o.Path)
	switch {
	case isAbsent(err):
		return nil // only the directory exists, or somebody has removed the file since
	case err != nil:
		return fmt.Errorf("stat %s: %w", o.Path, listedError(err))
	case typeOf(&stat) == 0:
		file := fileObject(o.Path, &stat)
		o.Size, o.ModTime, o.HardLinked, o.Named = file.Size, file.ModTime, file.HardLinked, false
	}
	return nil
}
