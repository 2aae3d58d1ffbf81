package cache

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"regsweep/storage"
	"regsweep/storage/layout"
)

const (
	// sizeLimit bounds the size of all files of a cache's directory, in bytes. While a run writes, they
	// may take twice as much.
	sizeLimit = 1 << 30
	// manifestLimit is the size of the largest manifest that is remembered, in bytes. Registries accept
	// no larger ones.
	manifestLimit = 4 << 20
	// tempAge is the age at which an unfinished file is removed. A killed run leaves such files.
	tempAge = 24 * time.Hour
)

// files holds the manifests of one storage: a directory with a file for each, named for its
// content. A file is written next to its final path and then renamed. So no file ever changes, and
// several processes need no lock. Nothing is synced: a file that a power cut has damaged does not have
// its digest, and is found when it is read.
//
// After an error nothing more is written, and the run goes on: a full disk must not prevent a
// collection.
type files struct {
	root   *os.Root // the cache's directory
	dir    string   // the storage's directory in it
	now    time.Time
	limit  int64                               // of all files, in bytes
	create func(path string) (*os.File, error) // makes a new file

	mu      sync.Mutex // guards all below
	entries map[sum]entry
	bytes   int64 // of the entries that are confirmed or added
	added   bool  // an entry was added
	damage  error // the first damage that was found
	failure error // the first error of writing
}

// openFiles lists the files of a storage. It also writes and removes a file, so that a directory that
// can't be written is an error at once.
func openFiles(dir string, of storage.Identity, now time.Time, limit int64) (*files, error) {
	name, err := dirName(of)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	f := &files{root: root, dir: name, now: now, limit: limit, entries: map[sum]entry{}}
	f.create = f.createFile
	test := entry{}.path(name, sum{})
	if err := cmp.Or(f.write(test, nil), f.remove(test)); err != nil {
		return nil, cmp.Or(err, root.Close())
	}
	f.damage = f.each(name, func(s sum, e entry) { f.entries[s] = e })
	return f, nil
}

// confirm marks the entries whose blobs are on a page of the listing.
func (f *files) confirm(page []storage.Object) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := 0; i < len(page) && len(f.entries) > 0; i++ {
		object := &page[i]
		if object.ETag == "" || object.Multipart != "" || object.Size > manifestLimit {
			continue
		}
		parsed := layout.Parse(object.Path)
		if parsed.Kind != layout.Blob || parsed.Digest.Alg != "sha256" {
			continue
		}
		s := layout.DecodeSHA256(parsed.Digest.Hex)
		e, found := f.entries[s]
		if found && e.state == unseen && int64(e.size) == object.Size && e.etag == etagMark(object.ETag) {
			e.state = confirmed
			f.entries[s] = e
			f.bytes += e.disk()
		}
	}
}

// read returns the content of a confirmed entry. The caller has to verify it. If the file is damaged,
// found is true and content is nil.
func (f *files) read(s sum, limit int64) (content []byte, found bool) {
	f.mu.Lock()
	e := f.entries[s]
	f.mu.Unlock()
	if e.state != confirmed || int64(e.size) > limit {
		return nil, false
	}
	file, err := f.root.OpenFile(e.path(f.dir, s), os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe would wait for its writer
	if err != nil {
		return nil, !errors.Is(err, fs.ErrNotExist) // another run may have removed it
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || info.Size() != int64(e.size) {
		return nil, true
	}
	content = make([]byte, e.size)
	if _, err := io.ReadFull(file, content); err != nil {
		return nil, true
	}
	return content, true
}

// add remembers a verified manifest if there is room. Confirmed entries are never removed for new ones.
// So if not all manifests fit, each run remembers the same ones.
func (f *files) add(s sum, etag string, content []byte) {
	e := entry{etag: etagMark(etag), size: uint32(len(content)), state: added}
	if len(content) == 0 || len(content) > manifestLimit || !f.reserve(s, e) {
		return
	}
	if err := f.write(e.path(f.dir, s), content); err != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.failure = cmp.Or(f.failure, err)
	}
}

// reserve adds an entry if there is room for it, and removes the file of the entry that it replaces.
func (f *files) reserve(s sum, e entry) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	old, found := f.entries[s]
	if f.failure != nil || old.state == added || f.bytes+e.disk() > f.limit {
		return false
	}
	if found {
		if f.failure = f.remove(old.path(f.dir, s)); f.failure != nil {
			return false
		}
	}
	f.entries[s], f.bytes, f.added = e, f.bytes+e.disk(), true
	return true
}

// forget marks a damaged entry as unseen, so that it is not read again.
func (f *files) forget(s sum) {
	f.mu.Lock()
	defer f.mu.Unlock()
	e := f.entries[s]
	f.bytes -= e.disk()
	e.state = unseen
	f.entries[s] = e
}

// write writes a file next to its path, and renames it to its path.
func (f *files) write(path string, content []byte) error {
	temp := path + tempMark + rand.Text()
	file, err := f.create(temp)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err = cmp.Or(err, file.Close()); err == nil {
		err = f.root.Rename(temp, path)
	}
	if err != nil {
		return cmp.Or(err, f.remove(temp))
	}
	return nil
}

func (f *files) createFile(path string) (*os.File, error) {
	const flags = os.O_WRONLY | os.O_CREATE | os.O_EXCL
	file, err := f.root.OpenFile(path, flags, 0o600)
	if errors.Is(err, fs.ErrNotExist) { // as its directory
		if err := f.root.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return nil, err
		}
		return f.root.OpenFile(path, flags, 0o600)
	}
	return file, err
}

func (f *files) remove(path string) error {
	if err := f.root.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// close removes the files of manifests that were not listed. If the listing did not end, or if ctx is
// done, it removes none.
func (f *files) close(ctx context.Context, listed bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if listed && ctx.Err() == nil {
		f.failure = cmp.Or(f.failure, f.tidy())
	}
	f.failure = cmp.Or(f.failure, f.root.Close())
}

func (f *files) tidy() error {
	for s, e := range f.entries {
		if e.state == unseen {
			if err := f.remove(e.path(f.dir, s)); err != nil {
				return err
			}
		}
	}
	if err := f.root.Chtimes(f.dir, f.now, f.now); err != nil { // the time of the last use, for evict
		return err
	}
	if !f.added {
		return nil
	}
	return f.evict()
}

// evict removes directories of other storages until the cache is within its limit, beginning with the
// one that was not used for the longest time. It leaves other files of the directory alone.
func (f *files) evict() error {
	dirs, err := fs.ReadDir(f.root.FS(), ".")
	if err != nil {
		return err
	}
	var others []fs.FileInfo
	total, bytes := f.bytes, map[string]int64{}
	for _, dir := range dirs {
		info, err := dir.Info()
		if err != nil || !info.IsDir() || !isDirName(dir.Name()) || dir.Name() == f.dir {
			continue // no directory of a storage, or another run has removed it
		}
		err = f.each(dir.Name(), func(_ sum, e entry) { bytes[dir.Name()] += e.disk() })
		if err != nil {
			return err
		}
		others, total = append(others, info), total+bytes[dir.Name()]
	}
	slices.SortFunc(others, func(a, b fs.FileInfo) int { return a.ModTime().Compare(b.ModTime()) })
	for i := 0; i < len(others) && total > f.limit; i++ {
		if err := f.root.RemoveAll(others[i].Name()); err != nil {
			return err
		}
		total -= bytes[others[i].Name()]
	}
	return nil
}
