package inventory

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// BenchmarkFind shows that a lookup among ten million blobs takes as long as among ten thousand,
// except for cache misses. It also shows how much time findEach saves.
func BenchmarkFind(b *testing.B) {
	sum := func(i int) (sum [32]byte) {
		binary.BigEndian.PutUint64(sum[:], uint64(i)*0x9E3779B97F4A7C15)
		return sum
	}
	for _, n := range []int{10_000, 100_000, 1_000_000, 10_000_000} {
		var table blobTable
		for i := range n {
			table.add(blob{sha256: sum(i)})
		}
		table.seal()
		i := 0
		next := func() [32]byte {
			i = (i + 7919) % n
			return sum(i)
		}
		b.Run(fmt.Sprintf("blobs=%d", n), func(b *testing.B) {
			for b.Loop() {
				if _, found := table.find(next()); !found {
					b.Fatal("a blob is not found")
				}
			}
		})
		b.Run(fmt.Sprintf("blobs=%d/together=%d", n, pageBatch), func(b *testing.B) {
			var sums [pageBatch][32]byte
			var places [pageBatch]int
			for b.Loop() {
				for i := range sums {
					sums[i] = next()
				}
				table.findEach(sums[:], places[:])
				if slices.Contains(places[:], -1) {
					b.Fatal("a blob is not found")
				}
			}
		})
	}
}

// In any order of the blobs, and with any distribution of the digests, each blob is in the table
// once.
func TestBlobsAreSorted(t *testing.T) {
	const n = 3000
	even := func(i int) (sum [32]byte) {
		binary.BigEndian.PutUint64(sum[:], uint64(i)*0x9E3779B97F4A7C15)
		return sum
	}
	for name, sum := range map[string]func(i int) [32]byte{
		"even":           even,
		"twice each":     func(i int) [32]byte { return even(i / 2) },
		"in one bucket":  func(i int) [32]byte { s := even(i); s[0] = 7; return s },
		"differing late": func(i int) (sum [32]byte) { binary.BigEndian.PutUint64(sum[24:], uint64(i)); return sum },
		"in two heaps":   func(i int) [32]byte { s := even(i); s[0], s[1], s[2] = 255, byte(255*(i%2)), 0; return s },
		"all the same":   func(int) [32]byte { return even(1) },
	} {
		t.Run(name, func(t *testing.T) {
			var table blobTable
			var want [][32]byte
			for _, i := range rand.New(rand.NewPCG(1, 2)).Perm(n) {
				table.add(blob{sha256: sum(i), size: int64(sum(i)[31])})
				want = append(want, sum(i))
			}
			table.seal()
			slices.SortFunc(want, func(a, b [32]byte) int { return bytes.Compare(a[:], b[:]) })
			want = slices.Compact(want)
			if table.len() != len(want) {
				t.Fatalf("there are %d blobs, want %d", table.len(), len(want))
			}
			places := make([]int, pageBatch)
			for i, sum := range want {
				if at := table.at(i); at.sha256 != sum || at.size != int64(sum[31]) {
					t.Fatalf("at %d: %x of %d bytes, want %x", i, at.sha256, at.size, sum)
				}
				if place, found := table.find(sum); place != i || !found {
					t.Fatalf("%x is found (%t) at %d, want %d", sum, found, place, i)
				}
				if table.findEach([][32]byte{sum}, places); places[0] != i {
					t.Fatalf("%x is found at %d, want %d", sum, places[0], i)
				}
			}
		})
	}
}
