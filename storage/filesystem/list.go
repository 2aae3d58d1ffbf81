//go:build unix

package filesystem

import (
	"context"
	"fmt"
	"io/fs"
	"sync"

	"regsweep/storage"
	"regsweep/storage/layout"

	"golang.org/x/sys/unix"
)

// eachEntry calls visit for each entry of a directory that was listed, in no order. name is valid
// until visit returns. If the directory can't be read or is gone, the scan would be incomplete, so
// eachEntry returns an error. If the directory is empty and an interrupted removal may have left it,
// eachEntry reports it. expected are the names of entries by which an empty listing is confirmed.
func (w *walk) eachEntry(ctx context.Context, dir string, expected []string, visit func(name []byte, mode fs.FileMode)) error {
	if err := w.fs.begin(ctx); err != nil {
		return err
	}
	w.fs.list.Add(1)
	empty, err := list(func() (int, error) { return w.open(dir, unix.O_RDONLY|unix.O_DIRECTORY) }, expected, visit)
	w.fs.end()
	if err != nil {
		return &callError{fmt.Errorf("list %s: %w", dir, listedError(err))}
	}
	if empty == nil {
		return nil
	}
	if _, ok := layout.Emptied(dir); !ok {
		return nil
	}
	return w.visitObjects([]storage.Object{{Path: dir, Dir: true, ModTime: modTime(empty)}})
}

// readDir returns the entries of a directory. expected are the names by which an empty listing is
// confirmed, or none for layoutNames.
func (w *walk) readDir(ctx context.Context, dir string, expected ...string) (entries []dirEntry, err error) {
	if len(expected) == 0 {
		expected = layoutNames
	}
	err = w.eachEntry(ctx, dir, expected, func(name []byte, mode fs.FileMode) {
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

// readDigests returns the entries of a directory of digests. Only if alg is SHA-256, it returns any
// sums. The caller has to release them.
func (w *walk) readDigests(ctx context.Context, dir, alg string) (*digestListing, error) {
	d := digestListings.Get().(*digestListing)
	err := w.eachEntry(ctx, dir, layoutNames, func(name []byte, mode fs.FileMode) {
		if sum, ok := layout.ParseSHA256(name); ok && mode == fs.ModeDir && alg == "sha256" {
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
