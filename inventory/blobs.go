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

// blob is one stored blob: 40 bytes, of which a registry may have millions.
type blob struct {
	sha256 [32]byte
	// size is in bytes as the storage gave it; or -1, not known; or -2-n where a
	// manifest alone says that it is n.
	size int64
}

// blobTable has the stored blobs in the order of their digests, and finds a digest's
// place among them. It is filled, sealed, and then never changes but for sizes; only
// then, and concurrently, may it be asked.
//
// The blobs lie on shelves by their first byte. A slice that grows to millions is copied
// over and over, and beside its copy while that is made; a shelf is a small part of it.
type blobTable struct {
	shelves [256][]blob
	// first is the place of each shelf's first blob, and then the number of all.
	first [257]uint32
	// lead has, for each shelf and each value of a digest's leading bits there, where on the
	// shelf the first blob lies that has them, or more; and then how many it holds. Some
	// three blobs share a value, so that a digest is found in two looks at memory, among
	// millions too.
	lead []uint32
	// unlead is how far a digest's first eight bytes are shifted for its leading bits.
	unlead uint
}

// add adds a page of blobs.
func (t *blobTable) add(page ...blob) {
	for i, b := range page {
		t.put(b, len(page)-i)
	}
}

// put adds one of a page of blobs, of which so many are left with it: nearly all of one page
// have the same first byte.
func (t *blobTable) put(b blob, left int) {
	shelf := &t.shelves[b.sha256[0]]
	if len(*shelf) == cap(*shelf) {
		*shelf = slices.Grow(*shelf, left)
	}
	*shelf = append(*shelf, b)
}

// seal sorts the blobs and drops those that were added twice, of which any remains.
func (t *blobTable) seal() {
	added := 0
	for i := range t.shelves {
		added += len(t.shelves[i])
	}
	leadBits := uint(max(8, bits.Len(uint(added))-2)) // at least those that make a shelf
	t.unlead = 64 - leadBits
	values := 1 << leadBits / len(t.shelves)
	t.lead = make([]uint32, len(t.shelves)*(values+1))

	var g errgroup.Group // of functions that can't fail
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i := range t.shelves { // and not over a copy of it, which would keep all that is replaced
		g.Go(func() error {
			shelf := t.shelves[i]
			if !slices.IsSortedFunc(shelf, compareBlobs) { // an even listing needs no sorting
				t.sort(shelf, values)
			}
			shelf = slices.CompactFunc(shelf, func(a, b blob) bool { return a.sha256 == b.sha256 })
			if cap(shelf)-len(shelf) > len(shelf)/32+64 {
				shelf = slices.Clone(shelf) // without the room to grow
			}
			t.shelves[i] = shelf
			t.mark(shelf, t.lead[i*(values+1):][:values+1])
			return nil
		})
	}
	_ = g.Wait()
	n := uint32(0)
	for i := range t.shelves {
		t.first[i] = n
		n += uint32(len(t.shelves[i]))
	}
	t.first[len(t.shelves)] = n
}

// mark notes in lead where on a sorted shelf the blobs with each value begin.
func (t *blobTable) mark(shelf []blob, lead []uint32) {
	value := 0
	for i := range shelf {
		for ; value <= t.valueOf(&shelf[i], len(lead)-1); value++ {
			lead[value] = uint32(i)
		}
	}
	for ; value < len(lead); value++ {
		lead[value] = uint32(len(shelf))
	}
}

// valueOf is the value of a blob's leading bits beside others on its shelf, where there are so
// many.
func (t *blobTable) valueOf(b *blob, values int) int {
	return int(b.leading()>>t.unlead) & (values - 1)
}

// sorting is the room that it takes to sort a shelf.
type sorting struct {
	blobs []blob
	ends  []int
}

// largeShelf is more blobs than a shelf has of 250 million.
const largeShelf = 1 << 20

var sortings = sync.Pool{New: func() any { return new(sorting) }}

// sort sorts a shelf. Digests lie evenly, if nobody has chosen them: put down by their leading
// bits, of which a shelf has so many values, few are left to be sorted. That takes the room of
// another shelf, which one with a good part of millions of blobs does not get.
func (t *blobTable) sort(shelf []blob, values int) {
	if len(shelf) > largeShelf {
		slices.SortFunc(shelf, compareBlobs)
		return
	}
	room := sortings.Get().(*sorting)
	defer sortings.Put(room)
	room.blobs = append(room.blobs[:0], shelf...)
	room.ends = append(room.ends[:0], make([]int, values)...)
	for i := range shelf {
		room.ends[t.valueOf(&shelf[i], values)]++
	}
	next := 0
	for i, count := range room.ends {
		room.ends[i] = next // where they begin, for now
		next += count
	}
	for i := range room.blobs {
		end := &room.ends[t.valueOf(&room.blobs[i], values)]
		shelf[*end] = room.blobs[i]
		*end++
	}
	begin := 0
	for _, end := range room.ends {
		slices.SortFunc(shelf[begin:end], compareBlobs)
		begin = end
	}
}

func compareBlobs(a, b blob) int {
	if x, y := a.leading(), b.leading(); x != y { // as nearly always
		return cmp.Compare(x, y)
	}
	return bytes.Compare(a.sha256[:], b.sha256[:])
}

// bytes is the blob's size, which the storage gave if it is exact, or -1 where it is not known.
func (b *blob) bytes() (bytes int64, exact bool) {
	size := atomic.LoadInt64(&b.size)
	if size < -1 {
		return -2 - size, false
	}
	return size, size >= 0
}

// leading are a digest's first eight bytes.
func (b *blob) leading() uint64 { return binary.BigEndian.Uint64(b.sha256[:]) }

func (t *blobTable) len() int { return int(t.first[len(t.shelves)]) }

// at is the blob at a place. Digests lie evenly, if nobody has chosen them, so that its shelf
// is the one that it would have if they did, or one near by.
func (t *blobTable) at(place int) *blob {
	shelf := int(uint64(place) * uint64(len(t.shelves)) / uint64(t.len()))
	for place < int(t.first[shelf]) {
		shelf--
	}
	for place >= int(t.first[shelf+1]) {
		shelf++
	}
	return &t.shelves[shelf][place-int(t.first[shelf])]
}

// find is a digest's place.
func (t *blobTable) find(sum [32]byte) (place int, found bool) {
	low, high := t.between(sum)
	return t.search(sum, low, high)
}

// findEach finds digests, -1 standing for one that is not there. It takes a third of the
// time that find does for each of them: a look at memory that no cache has is long, and
// these don't wait for one another.
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

// between is where on its shelf a digest can lie: from which blob on, and up to which.
func (t *blobTable) between(sum [32]byte) (low, high int) {
	at := binary.BigEndian.Uint64(sum[:])>>t.unlead + uint64(sum[0])
	return int(t.lead[at]), int(t.lead[at+1])
}

// search looks for a digest on its shelf, from one blob on, up to another. Nobody
// need choose digests that lie evenly: where there are many the search is a binary one.
func (t *blobTable) search(sum [32]byte, low, high int) (place int, found bool) {
	shelf := t.shelves[sum[0]]
	for high-low > 8 {
		// By index: a copy of a blob would read its size, which may be being written.
		if middle := (low + high) / 2; bytes.Compare(shelf[middle].sha256[:], sum[:]) <= 0 {
			low = middle
		} else {
			high = middle
		}
	}
	leading := binary.BigEndian.Uint64(sum[:])
	for ; low < high; low++ {
		if shelf[low].leading() == leading && shelf[low].sha256 == sum {
			return int(t.first[sum[0]]) + low, true
		}
	}
	return 0, false
}
