package inventory

import (
	"bytes"
	"crypto/sha256"
	"iter"
	"slices"
	"sync"
	"sync/atomic"

	"regsweep/storage/layout"

	"github.com/opencontainers/go-digest"
)

// ID is the number of a digest within one Inventory. The stored blobs have the ids 0 to
// Blobs()-1, in the order of their digests. Digests that occur only in a link or a manifest
// have higher ids, in the order in which they were found.
type ID uint32

// maxID leaves one bit for Link.
const maxID = 1<<31 - 1

// digests interns digests as ids. The table of stored blobs is complete before the
// first ID is assigned, and never changes again. Digests that are added later are in a
// map that a mutex guards.
type digests struct {
	blobs blobTable

	mu    sync.RWMutex
	ids   map[digest.Digest]ID
	extra []digest.Digest
}

// seal completes the table of blobs. From then on digests have ids.
func (d *digests) seal() {
	d.blobs.seal()
	d.ids = map[digest.Digest]ID{}
}

// Blobs returns the number of stored blobs.
func (d *digests) Blobs() int { return d.blobs.len() }

// Digests returns the number of digests that have ids. It may be called concurrently.
func (d *digests) Digests() int {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.blobs.len() + len(d.extra)
}

// Stored reports whether the scan has found a blob with this id.
func (d *digests) Stored(id ID) bool { return int(id) < d.blobs.len() }

// Size returns the size of a stored blob in bytes. exact is true if the storage has reported it. Otherwise
// the size is from a manifest, or -1 if it is unknown.
func (d *digests) Size(id ID) (bytes int64, exact bool) {
	if !d.Stored(id) {
		return -1, false
	}
	return d.blobs.at(int(id)).bytes()
}

// Sizes yields the size of each stored blob, as Size returns it.
func (d *digests) Sizes() iter.Seq2[ID, int64] {
	return func(yield func(ID, int64) bool) {
		id := ID(0)
		for _, bucket := range &d.blobs.buckets {
			for i := range bucket {
				if size, _ := bucket[i].bytes(); !yield(id, size) {
					return
				}
				id++
			}
		}
	}
}

// maxClaim is larger than any object of a storage, in bytes. A manifest may contain any number.
const maxClaim = 1 << 43

// Declare records the size in bytes that a manifest gives for a digest. It ignores a negative
// size. It may be called concurrently.
func (d *digests) Declare(id ID, bytes int64) {
	if bytes < 0 || !d.Stored(id) {
		return
	}
	bytes = min(bytes, maxClaim)
	size := &d.blobs.at(int(id)).size
	for {
		// If manifests disagree, the largest size counts, in any order of the calls.
		known := atomic.LoadInt64(size)
		if known >= 0 || known <= -2-bytes || atomic.CompareAndSwapInt64(size, known, -2-bytes) {
			return
		}
	}
}

// SetSize records the size in bytes that the storage has given for a stored blob: from then on it is
// exact. It may be called concurrently.
func (d *digests) SetSize(id ID, bytes int64) {
	if bytes >= 0 {
		atomic.StoreInt64(&d.blobs.at(int(id)).size, bytes)
	}
}

// Digest returns the digest with this id.
func (d *digests) Digest(id ID) digest.Digest {
	if d.Stored(id) {
		return layout.DigestOf(&d.blobs.at(int(id)).sha256)
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.extra[int(id)-d.blobs.len()]
}

// BlobPath returns the path of a stored blob.
func (d *digests) BlobPath(id ID) string {
	var buffer [128]byte
	return string(layout.AppendBlobPath(buffer[:0], &d.blobs.at(int(id)).sha256))
}

// IsContent reports whether content has the digest of a stored blob.
func (d *digests) IsContent(id ID, content []byte) bool {
	return sha256.Sum256(content) == d.blobs.at(int(id)).sha256
}

// ID returns the id of a digest, and assigns one if the digest is new. It may be called
// concurrently.
func (d *digests) ID(of digest.Digest) ID {
	n, ok := layout.ParseDigest(string(of))
	if !ok {
		return d.intern(of)
	}
	return d.id(n)
}

// IDs appends the ids of many digests, in their order. It is faster than a call of ID for each
// of them. It does not keep their text, and may be called concurrently.
func (d *digests) IDs(to []ID, of [][]byte) []ID {
	for batch := range slices.Chunk(of, pageBatch) {
		var sums [pageBatch][32]byte
		var places [pageBatch]int
		var isSum [pageBatch]bool
		for i, text := range batch {
			if hex, found := bytes.CutPrefix(text, []byte("sha256:")); found {
				sums[i], isSum[i] = layout.ParseSHA256(hex)
			}
		}
		d.blobs.findEach(sums[:len(batch)], places[:])
		for i, text := range batch {
			if isSum[i] && places[i] >= 0 {
				to = append(to, ID(places[i]))
			} else {
				to = append(to, d.intern(digest.Digest(text)))
			}
		}
	}
	return to
}

// Find returns the id of a digest if it has one. It assigns none. It may be called
// concurrently.
func (d *digests) Find(of digest.Digest) (id ID, found bool) {
	if n, ok := layout.ParseDigest(string(of)); ok && n.Alg == "sha256" {
		if i, found := d.blobs.find(layout.DecodeSHA256(n.Hex)); found {
			return ID(i), true
		}
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	id, found = d.ids[of]
	return id, found
}

// id returns the ID of a valid name.
func (d *digests) id(n layout.Name) ID {
	if n.Alg == "sha256" {
		if i, found := d.blobs.find(layout.DecodeSHA256(n.Hex)); found {
			return ID(i)
		}
	}
	return d.intern(n.Digest())
}

// located is a parsed path, and the id of its digest once identify has set it.
type located struct {
	layout.Entry
	id ID
}

// identify sets the ids of at most pageBatch entries.
func (d *digests) identify(entries []located) {
	var sums [pageBatch][32]byte
	var of [pageBatch]int
	n := 0
	for i := range entries {
		if entries[i].Digest.Alg == "sha256" {
			sums[n], of[n] = layout.DecodeSHA256(entries[i].Digest.Hex), i
			n++
		} else if entries[i].Digest.Alg != "" {
			entries[i].id = d.intern(entries[i].Digest.Digest())
		}
	}
	for i, id := range d.sha256IDs(sums[:n]) {
		entries[of[i]].id = id
	}
}

// sha256IDs yields the ids of at most pageBatch SHA-256 digests, in their order.
func (d *digests) sha256IDs(sums [][32]byte) iter.Seq2[int, ID] {
	return func(yield func(int, ID) bool) {
		var places [pageBatch]int
		d.blobs.findEach(sums, places[:])
		for i := range sums {
			id := ID(places[i])
			if places[i] < 0 {
				id = d.intern(layout.DigestOf(&sums[i]))
			}
			if !yield(i, id) {
				return
			}
		}
	}
}

func (d *digests) intern(of digest.Digest) ID {
	d.mu.RLock()
	id, found := d.ids[of]
	d.mu.RUnlock()
	if found {
		return id
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if id, found := d.ids[of]; found {
		return id
	}
	next := d.blobs.len() + len(d.extra)
	if next > maxID {
		panic("more than 2^31 digests")
	}
	// The text may be part of a whole page of a listing. The copy does not keep that page in memory.
	of = digest.Digest(bytes.Clone([]byte(of)))
	d.extra = append(d.extra, of)
	d.ids[of] = ID(next)
	return ID(next)
}
