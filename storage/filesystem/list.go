//go:build unix

package filesystem

import (
	"context"
	"fmt"
	"io/fs"
	"sync"

	"regsweep/storage"
	"regsweep/storage/layout"
)

// eachEntry calls visit for each entry of a directory that was listed, in no order. name is valid
// until visit returns. If the directory can't be read or is gone, the scan would be incomplete, so
// eachEntry returns an error.
func (w *walk) eachEntry(ctx context.Context, dir string, visit func(name []byte, mode fs.FileMode)) error {
	if err := w.fs.begin(ctx); err != nil {
		return err
	}
	w.fs.list.Add(1)
	isEmpty, err := w.tree.list(dir, visit)
	w.fs.end()
	if err != nil {
		return &callError{fmt.Errorf("list %s: %w", dir, listedError(err))}
	}
	if isEmpty {
		return w.reportEmptied(ctx, dir)
	}
	return nil
}

// isListedEmpty reports whether a listing of a directory has no entry. It is for a directory in which
// other calls have found nothing. Elsewhere an empty listing has to be confirmed: see tree.list.
func (w *walk) isListedEmpty(ctx context.Context, dir string) (bool, error) {
	if err := w.fs.begin(ctx); err != nil {
		return false, err
	}
	defer w.fs.end()
	w.fs.list.Add(1)
	fd, err := w.tree.openList(dir)
	isEmpty := false
	if err == nil {
		isEmpty, err = eachEntry(fd, func([]byte, fs.FileMode) {})
		err = closeAfter(fd, err)
	}
	if err != nil {
		return false, &callError{fmt.Errorf("list %s: %w", dir, listedError(err))}
	}
	return isEmpty, nil
}

// readDir returns the entries of a directory.
func (w *walk) readDir(ctx context.Context, dir string) (entries []dirEntry, err error) {
	err = w.eachEntry(ctx, dir, func(name []byte, mode fs.FileMode) {
		entries = append(entries, dirEntry{string(name), mode})
	})
	return entries, err
}

// digestListing is the listing of a directory of digests. sums are the directories whose name is a
// SHA-256 digest. Nearly all entries are such directories. others are all other entries.
type digestListing struct {
	sums   [][32]byte
	others []dirEntry
}

var digestListings = sync.Pool{New: func() any { return new(digestListing) }}

// readDigests returns the entries of a directory of digests. The caller has to release them.
func (w *walk) readDigests(ctx context.Context, dir string) (*digestListing, error) {
	d := digestListings.Get().(*digestListing)
	err := w.eachEntry(ctx, dir, func(name []byte, mode fs.FileMode) {
		if sum, ok := layout.ParseSHA256(name); ok && mode == fs.ModeDir {
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

// directories is the number of directories in the listing.
func (d *digestListing) directories() int {
	n := len(d.sums)
	for _, entry := range d.others {
		if entry.isDir() {
			n++
		}
	}
	return n
}

// reportEmptied reports an empty directory if an interrupted removal may have left it.
func (w *walk) reportEmptied(ctx context.Context, dir string) error {
	if _, ok := layout.Emptied(dir); !ok {
		return nil
	}
	stat, err := w.fs.lstat(ctx, w.tree, dir)
	if err != nil && !isAbsent(err) {
		return &callError{fmt.Errorf("stat %s: %w", dir, err)}
	}
	object := storage.Object{Path: dir, Dir: true}
	if err == nil {
		object.ModTime = modTime(&stat)
	}
	return w.emit([]storage.Object{object})
}
