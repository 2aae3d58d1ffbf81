package storage

import (
	"bytes"
	"encoding/hex"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
)

// ID stands for a digest within one Inventory. The blobs that are stored have the
// ids 0 to Blobs()-1, in the order of their digests; digests that are only named
// (by a link or a manifest) have the ids above, in the order of their coming.
type ID uint32

// maxID leaves the highest bit of an ID to Link.
const maxID = 1<<31 - 1

// digests interns digests as ids. The table of stored blobs is complete before the
// first ID is given out and never changes again; what is added later goes into a
// map behind a lock.
type digests struct {
	blobs blobTable

	mu    sync.RWMutex
	ids   map[digest.Digest]ID
	extra []digest.Digest
}

// seal ends the adding of blobs, and starts giving out ids.
func (d *digests) seal() {
	d.blobs.seal()
	d.ids = map[digest.Digest]ID{}
}

// Blobs is the number of stored blobs.
func (d *digests) Blobs() int { return d.blobs.len() }

// Digests is the number of digests that have ids. It may be called concurrently.
func (d *digests) Digests() int {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.blobs.len() + len(d.extra)
}

// Stored reports whether the id is that of a blob which the scan found.
func (d *digests) Stored(id ID) bool { return int(id) < d.blobs.len() }

// Size is a stored blob's size in bytes as the scan learnt it or, failing that, as a
// manifest has it, which exact tells apart; or -1 where nobody knows.
func (d *digests) Size(id ID) (bytes int64, exact bool) {
	if !d.Stored(id) {
		return -1, false
	}
	if size := atomic.LoadInt64(&d.blobs.at(int(id)).size); size >= -1 {
		return size, size >= 0
	} else {
		return -2 - size, false
	}
}

// Declare notes the size in bytes that a manifest gives for a digest; below 0 it gives
// none. It may be called concurrently.
func (d *digests) Declare(id ID, bytes int64) {
	if bytes < 0 || !d.Stored(id) {
		return
	}
	size := &d.blobs.at(int(id)).size
	for {
		// Where manifests disagree the largest counts, whoever came first.
		known := atomic.LoadInt64(size)
		if known >= 0 || known <= -2-bytes || atomic.CompareAndSwapInt64(size, known, -2-bytes) {
			return
		}
	}
}

// Digest is what the id stands for.
func (d *digests) Digest(id ID) digest.Digest {
	if d.Stored(id) {
		return sha256Digest(&d.blobs.at(int(id)).sha256)
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.extra[int(id)-d.blobs.len()]
}

// ID returns the id of a digest, giving it one if it is new. It may be called
// concurrently.
func (d *digests) ID(of digest.Digest) ID {
	n, ok := splitDigest(string(of))
	if !ok {
		return d.intern(of)
	}
	return d.id(n)
}

// IDs returns the ids of many digests, in their order, in less time than ID does for each
// of them. It may be called concurrently.
func (d *digests) IDs(of []digest.Digest) []ID {
	ids := make([]ID, 0, len(of))
	for batch := range slices.Chunk(of, pageBatch) {
		var entries [pageBatch]entry
		for i, digest := range batch {
			if n, ok := splitDigest(string(digest)); ok {
				entries[i].digest = n
			} else {
				entries[i].id = d.intern(digest)
			}
		}
		d.identify(entries[:len(batch)])
		for _, e := range entries[:len(batch)] {
			ids = append(ids, e.id)
		}
	}
	return ids
}

// Find returns the id of a digest that has one, and gives none. It may be called
// concurrently.
func (d *digests) Find(of digest.Digest) (id ID, found bool) {
	if n, ok := splitDigest(string(of)); ok && n.alg == "sha256" {
		if i, found := d.blobs.find(decodeSHA256(n.hex)); found {
			return ID(i), true
		}
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	id, found = d.ids[of]
	return id, found
}

// id takes a name that is valid.
func (d *digests) id(n name) ID {
	if n.alg == "sha256" {
		if i, found := d.blobs.find(decodeSHA256(n.hex)); found {
			return ID(i)
		}
	}
	return d.intern(n.digest())
}

// identify gives entries, at most pageBatch, the ids of the digests in their paths.
func (d *digests) identify(entries []entry) {
	var sums [pageBatch][32]byte
	var places, of [pageBatch]int
	n := 0
	for i := range entries {
		if entries[i].digest.alg == "sha256" {
			sums[n], of[n] = decodeSHA256(entries[i].digest.hex), i
			n++
		} else if entries[i].digest.alg != "" {
			entries[i].id = d.intern(entries[i].digest.digest())
		}
	}
	d.blobs.findEach(sums[:n], places[:n])
	for i, place := range places[:n] {
		e := &entries[of[i]]
		if place >= 0 {
			e.id = ID(place)
		} else {
			e.id = d.intern(e.digest.digest())
		}
	}
}

// decodeSHA256 decodes 64 lower-case digits.
func decodeSHA256(hex string) (sum [32]byte) {
	for i := range sum {
		sum[i] = hexDigits[hex[2*i]]<<4 | hexDigits[hex[2*i+1]]&15
	}
	return sum
}

// sha256Digest is the digest of such a sum, without go-digest's allocations.
func sha256Digest(sum *[32]byte) digest.Digest {
	const algorithm = "sha256:"
	var text [len(algorithm) + 2*len(sum)]byte
	copy(text[:], algorithm)
	hex.Encode(text[len(algorithm):], sum[:])
	return digest.Digest(text[:])
}

// hexDigits has the values of lower-case hex digits, and notHex elsewhere.
var hexDigits = func() (table [256]byte) {
	for i := range table {
		table[i] = notHex
	}
	for value, digit := range []byte("0123456789abcdef") {
		table[digit] = byte(value)
	}
	return table
}()

const notHex = 0xff

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
	// The key may be part of a whole listing page: keep the digest alone.
	of = digest.Digest(bytes.Clone([]byte(of)))
	d.extra = append(d.extra, of)
	d.ids[of] = ID(next)
	return ID(next)
}
