package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
)

// eachEntry calls visit for each entry of a directory, in no order, with a name that is
// valid until visit returns. A directory that has gone meanwhile is empty; any other failure
// would be a hole in the listing.
func (w *walk) eachEntry(ctx context.Context, dir string, visit func(name []byte, mode fs.FileMode)) error {
	if err := w.fs.turn(ctx); err != nil {
		return err
	}
	w.fs.list.Add(1)
	empty := true
	err := eachEntry(w.fs.path(dir), &w.fs.unnoticed, func(name []byte, mode fs.FileMode) {
		empty = false
		visit(name, mode)
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		err = pathErr.Err
	}
	if err != nil {
		return fmt.Errorf("list %s: %w", dir, err)
	}
	if empty {
		return w.reportEmptied(dir)
	}
	return nil
}

// readDir returns the entries of a directory.
func (w *walk) readDir(ctx context.Context, dir string) (entries []dirEntry, err error) {
	err = w.eachEntry(ctx, dir, func(name []byte, mode fs.FileMode) {
		entries = append(entries, dirEntry{string(name), mode})
	})
	return entries, err
}

// digestListing is what lies in a directory that is one of digests: directories whose names are
// SHA-256 digests, which nearly all are, and the rest.
type digestListing struct {
	sums   [][32]byte
	others []dirEntry
}

var digestListings = sync.Pool{New: func() any { return new(digestListing) }}

// readDigests returns the entries of a directory of digests, to be released once they are
// not needed any more.
func (w *walk) readDigests(ctx context.Context, dir string) (*digestListing, error) {
	d := digestListings.Get().(*digestListing)
	err := w.eachEntry(ctx, dir, func(name []byte, mode fs.FileMode) {
		if sum, ok := ParseSHA256(name); ok && mode == fs.ModeDir {
			d.sums = append(d.sums, sum)
		} else {
			d.others = append(d.others, dirEntry{string(name), mode})
		}
	})
	return d, err
}

func (d *digestListing) release() {
	d.sums, d.others = d.sums[:0], nil
	digestListings.Put(d)
}

// directories is how many directories there are.
func (d *digestListing) directories() int {
	n := len(d.sums)
	for _, entry := range d.others {
		if entry.isDir() {
			n++
		}
	}
	return n
}

// reportEmptied reports a directory that a removal has left which was cut off.
func (w *walk) reportEmptied(dir string) error {
	if _, _, ok := emptied(dir); !ok {
		return nil
	}
	return w.emit([]Object{{Path: dir, Dir: true, ModTime: w.file(dir).ModTime}})
}
