package cache

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"sync/atomic"
	"syscall"
	"time"

	"regsweep/storage"
)

const (
	// cacheLimit bounds the files of a cache's directory together, in bytes. While a
	// run writes there may be as much again.
	cacheLimit = 1 << 30
	// cachedLimit is the largest manifest that is remembered, in bytes: as large as
	// a registry takes one.
	cachedLimit = 4 << 20
	// cachedCount bounds the manifests in one file, and with that the memory, to
	// some 40 MiB.
	cachedCount = 1 << 20
)

// file holds the manifests of one storage: a line that says what it is, and then,
// for each, a head and its content. It is never changed in place. A run reads it from
// the file that it has opened, writes another with what it has confirmed and what is
// new, and puts that in its place by a rename: so several processes need no lock, the
// last one's file stays, and what the registry no longer has is gone with the next file.
//
// Nothing is synced. What a power cut leaves is found out on reading, like everything
// else that is not what was written.
type file struct {
	dir, name string
	now       time.Time
	limits    cacheLimits

	old     *os.File // nil where there is none
	entries []cacheEntry
	damage  string // of what was found there

	next cacheWriter
}

type cacheLimits struct {
	bytes int64
	count int
}

// cacheEntry is a manifest in the old file. Half a digest is enough to find it by, since
// what is read has to have the whole.
type cacheEntry struct {
	key    [16]byte
	etag   [8]byte
	offset uint32 // of the content
	length uint32
	state  uint32 // atomic
}

// The states of an entry.
const (
	cacheUnseen    = iota // not in this run's listing, or with another size or ETag
	cacheConfirmed        // as it is in the listing
	cachePoisoned         // its content does not have its digest
)

// cacheMagic is the first line of a file. Another format will have another file name.
const cacheMagic = "regsweep: manifests, read from a registry's storage\n"

// A file is named for its storage: cacheNameLength hex digits and cacheSuffix.
const (
	cacheSuffix     = ".manifests1"
	cacheNameLength = 32
)

// A head is the digest, the mark of the ETag, the length, and a checksum of these
// three; numbers are big-endian.
const cacheHead = 32 + 8 + 4 + 4

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func cacheHeadOf(sum [32]byte, etag [8]byte, length uint32) (head [cacheHead]byte) {
	copy(head[:], sum[:])
	copy(head[32:], etag[:])
	binary.BigEndian.PutUint32(head[40:], length)
	binary.BigEndian.PutUint32(head[44:], crc32.Checksum(head[:44], castagnoli))
	return head
}

// etagMark stands for an ETag, of which a storage may make any string.
func etagMark(etag string) [8]byte {
	sum := sha256.Sum256([]byte(etag))
	return [8]byte(sum[:8])
}

// openFile reads what is there and begins the file that will replace it, so that a
// directory that can't be written is known at once.
func openFile(dir string, of storage.Identity, now time.Time) (*file, error) {
	identity, err := json.Marshal(of)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(identity)
	c := &file{dir: dir, name: hex.EncodeToString(sum[:cacheNameLength/2]) + cacheSuffix, now: now, limits: cacheLimits{cacheLimit, cachedCount}}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := c.next.begin(dir, c.name); err != nil {
		return nil, err
	}
	if err := c.load(); err != nil {
		c.damage = err.Error()
	}
	return c, nil
}

func (c *file) path() string { return filepath.Join(c.dir, c.name) }

// load reads the heads of the old file, as far as it is whole.
func (c *file) load() error {
	// What a link leads to is not ours, and opening a pipe would wait for its writer.
	file, err := os.OpenFile(c.path(), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, syscall.ELOOP):
		return errors.New("the cache's file is a symbolic link")
	case err != nil:
		return fmt.Errorf("the cache's file can't be read: %w", errors.Unwrap(err))
	}
	c.old = file
	info, err := file.Stat()
	switch {
	case err != nil:
		return fmt.Errorf("the cache's file can't be read: %w", errors.Unwrap(err))
	case !info.Mode().IsRegular():
		return errors.New("the cache's file is not a regular file")
	case info.Size() > c.limits.bytes:
		return errors.New("the cache's file is larger than any that was written")
	}
	err = c.index(info.Size())
	slices.SortFunc(c.entries, func(a, b cacheEntry) int { return bytes.Compare(a.key[:], b.key[:]) })
	return err
}

func (c *file) index(size int64) error {
	r := bufio.NewReaderSize(io.NewSectionReader(c.old, 0, size), 256<<10)
	magic := make([]byte, len(cacheMagic))
	if _, err := io.ReadFull(r, magic); err != nil || string(magic) != cacheMagic {
		return errors.New("the cache's file does not begin as one")
	}
	var head [cacheHead]byte
	for at := int64(len(cacheMagic)); at < size; {
		if len(c.entries) == c.limits.count {
			return errors.New("the cache's file holds more than any that was written")
		}
		_, err := io.ReadFull(r, head[:])
		length := binary.BigEndian.Uint32(head[40:])
		whole := err == nil && crc32.Checksum(head[:44], castagnoli) == binary.BigEndian.Uint32(head[44:]) &&
			length > 0 && length <= cachedLimit
		if whole {
			_, err = r.Discard(int(length))
		}
		if !whole || err != nil {
			return fmt.Errorf("the cache's file is damaged at byte %d of %d", at, size)
		}
		c.entries = append(c.entries, cacheEntry{
			key: [16]byte(head[:16]), etag: [8]byte(head[32:]), offset: uint32(at + cacheHead), length: length,
		})
		at += cacheHead + int64(length)
	}
	return nil
}

// find returns the entry for a digest, or nil.
func (c *file) find(sum [32]byte) *cacheEntry {
	// By index: a copy of an entry would read its state, which somebody may be writing.
	i := sort.Search(len(c.entries), func(i int) bool { return bytes.Compare(c.entries[i].key[:], sum[:16]) >= 0 })
	if i == len(c.entries) || !bytes.Equal(c.entries[i].key[:], sum[:16]) {
		return nil
	}
	return &c.entries[i]
}

// confirm notes that a blob is listed. It may be called concurrently.
func (c *file) confirm(sum [32]byte, size int64, etag string) {
	if e := c.find(sum); e != nil && int64(e.length) == size && e.etag == etagMark(etag) {
		atomic.StoreUint32(&e.state, cacheConfirmed)
	}
}

// read returns what is remembered of a digest that is confirmed; whether it is that is
// for the caller to find out. It may be called concurrently.
func (c *file) read(sum [32]byte, limit int64) (content []byte, found bool) {
	e := c.find(sum)
	if e == nil || atomic.LoadUint32(&e.state) != cacheConfirmed || int64(e.length) > limit {
		return nil, false
	}
	content = make([]byte, e.length)
	n, err := c.old.ReadAt(content, int64(e.offset))
	if err != nil {
		content = content[:n] // which does not have the digest
	}
	return content, true
}

// forget keeps an entry from being read again and from being saved.
func (c *file) forget(sum [32]byte) { atomic.StoreUint32(&c.find(sum).state, cachePoisoned) }
