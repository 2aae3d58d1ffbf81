// Package cache keeps manifests from one run to the next, on the machine that regsweep runs on.
package cache

import (
	"context"
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"regsweep/storage"
	"regsweep/storage/layout"

	"github.com/opencontainers/go-digest"
)

// Cache is a Store that remembers manifests from one run to the next, in files on the machine that it
// runs on (see files). It is for one run: inventory.Take lists through it, and mark reads through it. A
// manifest is written to a file when it is read. Close removes files that are not needed any more.
//
// A Read is answered from a file only if this run has listed the blob with the size and the ETag that it
// had when the file was written, and only if the content has the digest of the blob. A blob that is
// missing or has changed is read from the storage, as without a cache. So somebody who changes the files
// can only cause more reads.
//
// Read may be called concurrently. The Scan of the blobs must have returned before the first Read.
type Cache struct {
	storage.Store
	tagged taggedReader
	files  *files

	listed atomic.Bool // all blobs were listed

	hits, reads atomic.Int64
	mu          sync.Mutex // guards all below
	poisoned    int
	first       digest.Digest // the first of the poisoned manifests, in the order of digests
}

// taggedReader is a store that returns ETags when it lists and when it reads. Equal ETags show that a
// blob has not changed.
type taggedReader interface {
	// ReadTagged is Read, and returns the ETag of what was read, without quotes.
	ReadTagged(ctx context.Context, path string, limit int64) (content []byte, etag string, err error)
}

// CanCache reports whether a store can have a cache. A filesystem cannot: it has no ETags, and a file in
// the cache would not be read faster.
func CanCache(store storage.Store) bool {
	_, ok := store.(taggedReader)
	return ok
}

// Open returns a store that reads through the cache in a directory. It makes the directory if it does
// not exist. The store must be one that CanCache. A damaged file in the directory is not an error:
// Failures reports it. now is the time of the run.
func Open(store storage.Store, dir string, now time.Time) (*Cache, error) {
	return open(store, dir, now, sizeLimit)
}

func open(store storage.Store, dir string, now time.Time, limit int64) (*Cache, error) {
	tagged, ok := store.(taggedReader)
	if !ok {
		return nil, fmt.Errorf("a %s storage tells nothing by which a cache could know that a manifest is unchanged", store.Identity().Driver)
	}
	files, err := openFiles(dir, store.Identity(), now, limit)
	if err != nil {
		return nil, err
	}
	return &Cache{Store: store, tagged: tagged, files: files}, nil
}

// Scan lists the store, and notes which remembered blobs are unchanged.
func (c *Cache) Scan(ctx context.Context, dir string, visit func(page []storage.Object) error) error {
	if dir != storage.BlobsDir {
		return c.Store.Scan(ctx, dir, visit)
	}
	err := c.Store.Scan(ctx, dir, func(page []storage.Object) error {
		c.files.confirm(page)
		return visit(page)
	})
	if err == nil {
		c.listed.Store(true)
	}
	return err
}

// Read returns the content of a remembered blob, and otherwise reads the store.
func (c *Cache) Read(ctx context.Context, path string, limit int64) ([]byte, error) {
	e := layout.Parse(path)
	if e.Kind != layout.Blob || e.Digest.Alg != "sha256" || !c.listed.Load() {
		return c.Store.Read(ctx, path, limit)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	sum := layout.DecodeSHA256(e.Digest.Hex)
	content, found := c.files.read(sum, limit)
	if found && sha256.Sum256(content) == sum {
		c.hits.Add(1)
		return content, nil
	}
	if found {
		c.files.forget(sum)
		c.notePoisoned(e.Digest.Digest())
	}
	c.reads.Add(1)
	content, etag, err := c.tagged.ReadTagged(ctx, path, limit)
	if err == nil && etag != "" && sha256.Sum256(content) == sum {
		c.files.add(sum, etag, content)
	}
	return content, err
}

func (c *Cache) notePoisoned(d digest.Digest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	// Reads are concurrent. The smallest digest makes the report the same in each run.
	if c.poisoned++; c.poisoned == 1 || d < c.first {
		c.first = d
	}
}

// Close removes the files of manifests that the storage no longer has, unless the listing of the blobs
// did not end or ctx is done. Failures has its errors. After Close each Read reads the store. A second
// Close does nothing.
func (c *Cache) Close(ctx context.Context) { c.files.close(ctx, c.listed.Swap(false)) }

// Use counts how a run used its cache.
type Use struct {
	// Hits counts the manifests that were not read from the storage, Reads the manifests that were.
	Hits  int64 `json:"hits"`
	Reads int64 `json:"reads"`
}

// Use returns the counts so far.
func (c *Cache) Use() Use { return Use{c.hits.Load(), c.reads.Load()} }

// Failure is an error of a cache. It does not change what a run finds.
type Failure struct {
	// IsDamage is set if a file has another content than was written. Otherwise the cache could not be
	// written.
	IsDamage bool
	// Path is the cache's directory for the storage.
	Path, Detail string
}

// Failures returns the errors of the cache. It must be closed.
func (c *Cache) Failures() []Failure {
	c.mu.Lock()
	defer c.mu.Unlock()
	var failures []Failure
	path := filepath.Join(c.files.root.Name(), c.files.dir)
	if c.files.damage != nil {
		failures = append(failures, Failure{true, path, fmt.Sprintf("%v: what it held is read from the storage", c.files.damage)})
	}
	if c.poisoned > 0 {
		failures = append(failures, Failure{true, path,
			fmt.Sprintf("of the manifests in it %d did not match their digest and were read from the storage, the first %s", c.poisoned, c.first)})
	}
	if c.files.failure != nil {
		failures = append(failures, Failure{false, path, fmt.Sprintf("the cache was not saved: %v", c.files.failure)})
	}
	return failures
}
