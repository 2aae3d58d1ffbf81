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

// Cache is a Store that remembers manifests from one run to the next, in files on the
// machine that it runs on (see files). It is for one run: inventory.Take lists
// through it, mark reads through it, and Close saves what they have learnt.
//
// It answers a Read only for a blob which this run's listing has with the size and the
// ETag that it had when it was read, and only with content that has the blob's digest.
// So what is missing or was written since is met as it is without a cache, and whoever
// writes into the files can at most cause a read.
//
// Reads may be concurrent, with a listing only of what is no blob.
type Cache struct {
	storage.Store
	tagged taggedReader
	files  *files

	listed atomic.Bool // the blobs were, to the end

	hits, reads atomic.Int64
	mu          sync.Mutex // guards all below
	poisoned    int
	first       digest.Digest // of those poisoned
}

// taggedReader is a store whose listing has ETags, and which knows them of what it
// reads too: one of which it can be told whether a blob is what it was.
type taggedReader interface {
	// ReadTagged is Read, and returns the ETag of what was read, without quotes.
	ReadTagged(ctx context.Context, path string, limit int64) (content []byte, etag string, err error)
}

// CanCache reports whether a store can have a cache. A filesystem can't: it has no
// ETags, and a file in it is read as quickly as one elsewhere.
func CanCache(store storage.Store) bool {
	_, ok := store.(taggedReader)
	return ok
}

// Open puts the cache in a directory, which it makes if need be, before a store that
// CanCache. Content that is damaged is no error: Failures will tell. now is when the
// cache is used.
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

// Scan is the store's, and notes which of the blobs that are remembered are unchanged.
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

// Read is the store's, and spared where the answer is remembered.
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
	// Which was met first depends on who ran first; a report should not.
	if c.poisoned++; c.poisoned == 1 || d < c.first {
		c.first = d
	}
}

// Close removes what the storage no longer has, unless the blobs were not listed to the end or ctx
// is done. What goes wrong is among the Failures. Afterwards the store is asked for everything. A
// second Close does nothing.
func (c *Cache) Close(ctx context.Context) { c.files.close(ctx, c.listed.Swap(false)) }

// Use is what a run had of its cache.
type Use struct {
	// Hits are the manifests that were not read from the storage, Reads those that were.
	Hits  int64 `json:"hits"`
	Reads int64 `json:"reads"`
}

// Use tells what the cache was good for so far.
func (c *Cache) Use() Use { return Use{c.hits.Load(), c.reads.Load()} }

// Failure is something that was wrong with a cache. It changes nothing of what a run finds.
type Failure struct {
	// IsDamage is set for something in the cache that was not written there; otherwise the cache
	// can't be written.
	IsDamage bool
	// Path is the cache's directory for the storage.
	Path, Detail string
}

// Failures are what was wrong with the cache, once it is closed.
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
