package inventory

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math/bits"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// blob is one stored blob. It takes 40 bytes, because a registry may have millions.
type blob struct {
	sha256 [32]byte
	// size is the size in bytes if the storage has reported it. It is -1 if it is unknown, and
	// -2-n if only a manifest has reported the size n.
	size int64
}

// blobTable is a table of the stored blobs, sorted by digest. It finds the place of a digest. It is
// filled by one goroutine at a time, then sealed. After that only sizes change, and it may be used
// concurrently.
//
// There is a bucket for each value of a digest's first byte. A single slice of millions of blobs
// would be copied each time it grows, and needs the memory of both copies meanwhile. A bucket is a
// small part of it.
type blobTable struct {
	buckets [256][]blob
	// first is the place of the first blob of each bucket, and at the end the number of all blobs.
	first [257]uint32
	// radix is an index of each bucket. For each value of a digest's leading bits it has the
	// position of the first blob with that value or a larger one, and at the end the length of the
	// bucket. About three blobs share a value, so finding a digest among millions takes two
	// accesses to memory.
	radix []uint32
	// shift moves the leading bits of a digest's first eight bytes to the lowest place.
	shift uint
}

// add adds a page of blobs.
func (t *blobTable) add(page ...blob) {
	for i, b := range page {
		t.put(b, len(page)-i)
	}
}

// put adds a blob of a page. left is how many blobs of the page are left, with this one: nearly all
// blobs of a page have the same first byte.
func (t *blobTable) put(b blob, left int) {
	bucket := &t.buckets[b.sha256[0]]
	if len(*bucket) == cap(*bucket) {
		*bucket = slices.Grow(*bucket, left)
	}
	*bucket = append(*bucket, b)
}

// seal sorts the blobs. If a blob was added twice, one of the two is removed.
func (t *blobTable) seal() {
	added := 0
	for i := range t.buckets {
		added += len(t.buckets[i])
	}
	radixBits := uint(max(8, bits.Len(uint(added))-2)) // at least the eight bits that choose a bucket
	t.shift = 64 - radixBits
	values := 1 << radixBits / len(t.buckets)
	t.radix = make([]uint32, len(t.buckets)*(values+1))

	var g errgroup.Group // of functions that can't fail
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i := range t.buckets { // a range over a copy of the array would keep the replaced slices
		g.Go(func() error {
			bucket := t.buckets[i]
			if !slices.IsSortedFunc(bucket, compareBlobs) { // a listing in the order of digests
				t.sort(bucket, values)
			}
			bucket = slices.CompactFunc(bucket, func(a, b blob) bool { return a.sha256 == b.sha256 })
			if cap(bucket)-len(bucket) > len(bucket)/32+64 {
				bucket = slices.Clone(bucket) // to free the capacity that is not used
			}
			t.buckets[i] = bucket
			t.mark(bucket, t.radix[i*(values+1):][:values+1])
			return nil
		})
	}
	_ = g.Wait()
	n := uint32(0)
	for i := range t.buckets {
		t.first[i] = n
		n += uint32(len(t.buckets[i]))
	}
	t.first[len(t.buckets)] = n
}

// mark sets radix to the positions in a sorted bucket where the blobs with each value begin.
func (t *blobTable) mark(bucket []blob, radix []uint32) {
	value := 0
	for i := range bucket {
		for ; value <= t.valueOf(&bucket[i], len(radix)-1); value++ {
			radix[value] = uint32(i)
		}
	}
	for ; value < len(radix); value++ {
		radix[value] = uint32(len(bucket))
	}
}

// valueOf returns the value of a blob's leading bits within its bucket. values is the number of
// values.
func (t *blobTable) valueOf(b *blob, values int) int {
	return int(b.leading()>>t.shift) & (values - 1)
}

// sorting are the buffers for sorting a bucket.
type sorting struct {
	blobs []blob
	ends  []int
}

// largeBucket is the largest number of blobs that are sorted with a second buffer. A table of 250
// million blobs has smaller buckets.
const largeBucket = 1 << 20

var sortings = sync.Pool{New: func() any { return new(sorting) }}

// sort sorts a bucket. Digests are evenly distributed unless somebody has chosen them. So they are
// first distributed by their leading bits, and then few blobs with the same bits have to be sorted.
// That takes as much memory as the bucket. A very large bucket is sorted in place instead.
func (t *blobTable) sort(bucket []blob, values int) {
	if len(bucket) > largeBucket {
		slices.SortFunc(bucket, compareBlobs)
		return
	}
	buffers := sortings.Get().(*sorting)
	defer sortings.Put(buffers)
	buffers.blobs = append(buffers.blobs[:0], bucket...)
	buffers.ends = append(buffers.ends[:0], make([]int, values)...)
	for i := range bucket {
		buffers.ends[t.valueOf(&bucket[i], values)]++
	}
	next := 0
	for i, count := range buffers.ends {
		buffers.ends[i] = next // the beginning; the next loop moves it to the end
		next += count
	}
	for i := range buffers.blobs {
		end := &buffers.ends[t.valueOf(&buffers.blobs[i], values)]
		bucket[*end] = buffers.blobs[i]
		*end++
	}
	begin := 0
	for _, end := range buffers.ends {
		slices.SortFunc(bucket[begin:end], compareBlobs)
		begin = end
	}
}

func compareBlobs(a, b blob) int {
	if x, y := a.leading(), b.leading(); x != y { // nearly always
		return cmp.Compare(x, y)
	}
	return bytes.Compare(a.sha256[:], b.sha256[:])
}

// bytes returns the blob's size, or -1 if it is unknown. exact is true if the storage has reported it.
func (b *blob) bytes() (bytes int64, exact bool) {
	size := atomic.LoadInt64(&b.size)
	if size < -1 {
		return -2 - size, false
	}
	return size, size >= 0
}

// leading returns a digest's first eight bytes.
func (b *blob) leading() uint64 { return binary.BigEndian.Uint64(b.sha256[:]) }

func (t *blobTable) len() int { return int(t.first[len(t.buckets)]) }

// at returns the blob at a place. If digests were distributed exactly evenly, the bucket could be
// computed from the place. They nearly are, so the right bucket is close to the computed one.
func (t *blobTable) at(place int) *blob {
	bucket := int(uint64(place) * uint64(len(t.buckets)) / uint64(t.len()))
	for place < int(t.first[bucket]) {
		bucket--
	}
	for place >= int(t.first[bucket+1]) {
		bucket++
	}
	return &t.buckets[bucket][place-int(t.first[bucket])]
}

// find returns the place of a digest.
func (t *blobTable) find(sum [32]byte) (place int, found bool) {
	low, high := t.between(sum)
	return t.search(sum, low, high)
}

// findEach finds the places of many digests. The place of a missing digest is -1. It takes a third
// of the time of separate calls of find, because their cache misses overlap.
func (t *blobTable) findEach(sums [][32]byte, places []int) {
	var bounds [pageBatch][2]int
	for i := range sums {
		bounds[i][0], bounds[i][1] = t.between(sums[i])
	}
	for i := range sums {
		place, found := t.search(sums[i], bounds[i][0], bounds[i][1])
		if !found {
			place = -1
		}
		places[i] = place
	}
}

// between returns where in its bucket a digest can be: at low or later, and before high.
func (t *blobTable) between(sum [32]byte) (low, high int) {
	// radix has one more entry for each bucket than there are values, so sum[0] entries come first.
	at := binary.BigEndian.Uint64(sum[:])>>t.shift + uint64(sum[0])
	return int(t.radix[at]), int(t.radix[at+1])
}

// search finds a digest in its bucket, at low or later and before high. Digests may have been chosen
// so that many have the same leading bits. Then the search is a binary one.
func (t *blobTable) search(sum [32]byte, low, high int) (place int, found bool) {
	bucket := t.buckets[sum[0]]
	for high-low > 8 {
		// This does not copy a blob: another goroutine may be writing its size.
		if middle := (low + high) / 2; bytes.Compare(bucket[middle].sha256[:], sum[:]) <= 0 {
			low = middle
		} else {
			high = middle
		}
	}
	leading := binary.BigEndian.Uint64(sum[:])
	for ; low < high; low++ {
		if bucket[low].leading() == leading && bucket[low].sha256 == sum {
			return int(t.first[sum[0]]) + low, true
		}
	}
	return 0, false
}
