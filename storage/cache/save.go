package cache

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"regsweep/storage/layout"
)

const (
	// cacheTemp is in the name of a file that is being written.
	cacheTemp = ".tmp-"
	// cacheTempAge is when one that a killed run has left is removed.
	cacheTempAge = 24 * time.Hour
)

// cacheWriter writes the file that will replace a file. Its methods may be called
// concurrently. An error ends it for good, and nothing else: a disk that is full must
// not keep anybody from collecting garbage.
type cacheWriter struct {
	mu      sync.Mutex // guards all below
	file    *os.File   // nil once it was put in place, or given up
	w       *bufio.Writer
	bytes   int64 // written, and reserved for what is confirmed
	count   int   // likewise
	added   int
	failure error
}

// begin creates the file, for nobody but the user to read.
func (w *cacheWriter) begin(dir, name string) (err error) {
	if w.file, err = os.CreateTemp(dir, name+cacheTemp+"*"); err != nil {
		return err
	}
	w.w = bufio.NewWriterSize(w.file, 256<<10)
	w.bytes = int64(len(cacheMagic))
	if _, err := w.w.WriteString(cacheMagic); err != nil {
		w.abandon(err)
	}
	return nil
}

// abandon removes the file, because of err or because it is not wanted. The caller
// holds w.mu, or is alone.
func (w *cacheWriter) abandon(err error) {
	if w.file == nil {
		return
	}
	closed, removed := w.file.Close(), os.Remove(w.file.Name())
	w.file = nil
	w.failure = cmp.Or(w.failure, err, closed, removed)
}

// put writes one manifest. The caller holds w.mu.
func (w *cacheWriter) put(head, content []byte) error {
	if _, err := w.w.Write(head); err != nil {
		return err
	}
	_, err := w.w.Write(content)
	return err
}

// finish gives the file its name.
func (w *cacheWriter) finish(path string) error {
	if err := w.w.Flush(); err != nil {
		return err
	}
	if err := os.Rename(w.file.Name(), path); err != nil {
		return err
	}
	err := w.file.Close()
	w.file = nil
	return err
}

// reserve makes room for what is confirmed, so that what is new does not take it: a
// registry with more manifests than fit has some of them remembered, always the same.
func (c *file) reserve() {
	c.next.mu.Lock()
	defer c.next.mu.Unlock()
	for _, e := range c.confirmed() {
		c.next.bytes += cacheHead + int64(e.length)
		c.next.count++
	}
}

func (c *file) confirmed() (entries []*cacheEntry) {
	for i := range c.entries {
		if e := &c.entries[i]; atomic.LoadUint32(&e.state) == cacheConfirmed {
			entries = append(entries, e)
		}
	}
	return entries
}

// add remembers a manifest that has been verified, if there is room.
func (c *file) add(sum [32]byte, etag string, content []byte) {
	size := cacheHead + int64(len(content))
	if len(content) == 0 || len(content) > cachedLimit {
		return
	}
	head := cacheHeadOf(sum, etagMark(etag), uint32(len(content)))
	w := &c.next
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.file == nil || w.bytes+size > c.limits.bytes || w.count == c.limits.count {
		return
	}
	w.bytes, w.count, w.added = w.bytes+size, w.count+1, w.added+1
	if err := w.put(head[:], content); err != nil {
		w.abandon(err)
	}
}

// close saves what is worth it, if the listing has come to its end.
func (c *file) close(ctx context.Context, listed bool) {
	w := &c.next
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.file != nil && listed {
		w.failure = c.save(ctx)
	}
	w.abandon(nil)
	w.failure = cmp.Or(w.failure, c.closeOld())
}

// save puts the new file in the place of the old where they differ. Otherwise it notes
// that the old one was used.
func (c *file) save(ctx context.Context) error {
	confirmed := c.confirmed()
	switch {
	case c.next.added == 0 && c.damage == "" && 2*len(confirmed) >= len(c.entries):
		if c.old == nil {
			return nil
		}
		if err := os.Chtimes(c.path(), c.now, c.now); err != nil {
			return err
		}
		return c.tidy()
	case len(confirmed) > 0:
		err := c.copy(ctx, confirmed)
		if ctx.Err() != nil {
			return nil // who interrupts a run wants it to end
		}
		if err != nil {
			return err
		}
	}
	if err := c.closeOld(); err != nil { // some systems do not replace a file that is open
		return err
	}
	if err := c.next.finish(c.path()); err != nil {
		return err
	}
	return c.tidy()
}

func (c *file) closeOld() error {
	if c.old == nil {
		return nil
	}
	err := c.old.Close()
	c.old = nil
	return err
}

// copy takes over what is confirmed.
func (c *file) copy(ctx context.Context, entries []*cacheEntry) error {
	slices.SortFunc(entries, func(a, b *cacheEntry) int { return cmp.Compare(a.offset, b.offset) })
	var record []byte
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		length := cacheHead + int(e.length)
		record = slices.Grow(record[:0], length)[:length]
		if _, err := c.old.ReadAt(record, int64(e.offset)-cacheHead); err != nil {
			return err
		}
		if err := c.next.put(record[:cacheHead], record[cacheHead:]); err != nil {
			return err
		}
	}
	return nil
}

// tidy keeps the directory within its bound: the files of storages that were not looked
// at for the longest time go first, and what killed runs have left goes too. Whatever
// else is in the directory is not ours.
func (c *file) tidy() error {
	files, err := os.ReadDir(c.dir)
	if err != nil {
		return err
	}
	var others []fs.FileInfo
	var total int64
	for _, file := range files {
		info, err := file.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // another run was quicker
		}
		if err != nil {
			return err
		}
		name, temporary := file.Name(), false
		if before, _, cut := strings.Cut(name, cacheTemp); cut {
			name, temporary = before, true
		}
		id, isOurs := strings.CutSuffix(name, cacheSuffix)
		switch {
		case !isOurs || len(id) != cacheNameLength || !layout.IsHex(id) || !info.Mode().IsRegular():
		case temporary && c.now.Sub(info.ModTime()) > cacheTempAge:
			if err := remove(filepath.Join(c.dir, file.Name())); err != nil {
				return err
			}
		case temporary:
		case name == c.name:
			total += info.Size()
		default:
			total += info.Size()
			others = append(others, info)
		}
	}
	slices.SortFunc(others, func(a, b fs.FileInfo) int { return a.ModTime().Compare(b.ModTime()) })
	for i := 0; i < len(others) && total > c.limits.bytes; i++ {
		if err := remove(filepath.Join(c.dir, others[i].Name())); err != nil {
			return err
		}
		total -= others[i].Size()
	}
	return nil
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
