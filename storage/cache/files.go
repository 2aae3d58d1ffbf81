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
	// sizeLimit bounds the files of a cache's directory together, in bytes. While a run writes
	// there may be as much again.
	sizeLimit = 1 << 30
	// manifestLimit is the largest manifest that is remembered, in bytes: as large as a registry
	// takes one.
	manifestLimit = 4 << 20
	// tempAge is when a file that a killed run has left unfinished is removed.
	tempAge = 24 * time.Hour
)

// files holds the manifests of one storage: a directory with a file for each, named for its
// content. A file is written next to its place and then renamed. So no file ever changes, and
// several processes need no lock. Nothing is synced: what a power cut leaves is found out on
// reading, like everything else that does not have its digest.
//
// An error ends the writing for good, and nothing else: a disk that is full must not keep anybody
// from collecting garbage.
type files struct {
	root   *os.Root // the cache's directory
	dir    string   // the storage's directory in it
	now    time.Time
	limit  int64                               // of all files, in bytes
	create func(path string) (*os.File, error) // makes a new file

	mu      sync.Mutex // guards all below
	entries map[sum]entry
	bytes   int64 // of those that are confirmed or added
	added   bool
	damage  error // the first one of what was found
	failure error // the first one of writing
}

// openFiles lists what is there, and writes and removes a file, so that a directory that can't be
// written is known at once.
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

// confirm notes which entries are listed. A page has blobs.
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

// read returns the content of a confirmed entry. Whether it is the one that was written is for the
// caller to find out.
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

// add remembers a manifest that was verified, if there is room. What is confirmed has its room: so
// a registry with more manifests than fit has some of them remembered, always the same.
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

// reserve makes room for an entry. The one that it replaces is removed.
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

// forget keeps an entry that was confirmed from being read again.
func (f *files) forget(s sum) {
	f.mu.Lock()
	defer f.mu.Unlock()
	e := f.entries[s]
	f.bytes -= e.disk()
	e.state = unseen
	f.entries[s] = e
}

// write writes a file next to its place, and puts it there.
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

// close removes what the registry no longer has, if the listing has come to its end and nobody has
// interrupted the run.
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
	if err := f.root.Chtimes(f.dir, f.now, f.now); err != nil { // when it was used
		return err
	}
	if !f.added {
		return nil
	}
	return f.evict()
}

// evict keeps the cache within its limit: the storages that were not used for the longest time go
// first. Whatever else is in the directory is not ours.
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
			continue // not ours, or another run was quicker
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
