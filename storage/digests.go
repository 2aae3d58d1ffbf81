package storage

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"slices"
	"sort"
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

// blob is one stored blob: 40 bytes, of which a registry may have millions.
type blob struct {
	sha256 [32]byte
	// size is in bytes as the storage gave it; or -1, not known; or -2-n where a
	// manifest alone says that it is n.
	size int64
}

// digests interns digests as ids. The table of stored blobs is complete before the
// first ID is given out and never changes again; what is added later goes into a
// map behind a lock.
type digests struct {
	blobs []blob

	mu    sync.RWMutex
	ids   map[digest.Digest]ID
	extra []digest.Digest
}

// seal sorts the blobs, drops those listed twice, and starts giving out ids.
func (d *digests) seal() {
	compare := func(a, b blob) int { return bytes.Compare(a.sha256[:], b.sha256[:]) }
	slices.SortFunc(d.blobs, compare)
	d.blobs = slices.CompactFunc(d.blobs, func(a, b blob) bool { return a.sha256 == b.sha256 })
	d.ids = map[digest.Digest]ID{}
}

// Blobs is the number of stored blobs.
func (d *digests) Blobs() int { return len(d.blobs) }

// Stored reports whether the id is that of a blob which the scan found.
func (d *digests) Stored(id ID) bool { return int(id) < len(d.blobs) }

// Size is a stored blob's size in bytes as the scan learnt it or, failing that, as a
// manifest has it, which exact tells apart; or -1 where nobody knows.
func (d *digests) Size(id ID) (bytes int64, exact bool) {
	if !d.Stored(id) {
		return -1, false
	}
	if size := atomic.LoadInt64(&d.blobs[id].size); size >= -1 {
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
	for {
		// Where manifests disagree the largest counts, whoever came first.
		known := atomic.LoadInt64(&d.blobs[id].size)
		if known >= 0 || known <= -2-bytes || atomic.CompareAndSwapInt64(&d.blobs[id].size, known, -2-bytes) {
			return
		}
	}
}

// Digest is what the id stands for.
func (d *digests) Digest(id ID) digest.Digest {
	if d.Stored(id) {
		return digest.NewDigestFromBytes(digest.SHA256, d.blobs[id].sha256[:])
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.extra[int(id)-len(d.blobs)]
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

// id takes a name that is valid.
func (d *digests) id(n name) ID {
	if n.alg == "sha256" {
		if i, found := d.find(decodeSHA256(n.hex)); found {
			return ID(i)
		}
	}
	return d.intern(n.digest())
}

// decodeSHA256 decodes 64 lower-case digits.
func decodeSHA256(hex string) (sum [32]byte) {
	for i := range sum {
		sum[i] = hexDigits[hex[2*i]]<<4 | hexDigits[hex[2*i+1]]&15
	}
	return sum
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

// find looks a blob up. Digests are spread evenly, so where in the table one lies can be
// told from its first bytes, within a few hundred entries even among millions; the
// search goes on from there in growing steps, and is a binary one in the end.
func (d *digests) find(sum [32]byte) (int, bool) {
	blobs := d.blobs
	guess, _ := bits.Mul64(binary.BigEndian.Uint64(sum[:]), uint64(len(blobs)))
	low, high := 0, len(blobs)
	at := int(guess)
	for step := 8; low < high && at >= low && at < high; step *= 4 {
		switch c := bytes.Compare(blobs[at].sha256[:], sum[:]); {
		case c == 0:
			return at, true
		case c < 0:
			low, at = at+1, at+step
		default:
			high, at = at, at-step
		}
	}
	// By index: a copy of a blob would read its size, which Declare may be writing.
	i := low + sort.Search(high-low, func(i int) bool {
		return bytes.Compare(blobs[low+i].sha256[:], sum[:]) >= 0
	})
	return i, i < high && blobs[i].sha256 == sum
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
	next := len(d.blobs) + len(d.extra)
	if next > maxID {
		panic("more than 2^31 digests")
	}
	// The key may be part of a whole listing page: keep the digest alone.
	of = digest.Digest(bytes.Clone([]byte(of)))
	d.extra = append(d.extra, of)
	d.ids[of] = ID(next)
	return ID(next)
}
