package storage

import (
	"encoding/binary"
	"fmt"
	"testing"
)

// BenchmarkFind shows that a lookup among ten million blobs costs what it does among ten
// thousand, but for what lies in no cache.
func BenchmarkFind(b *testing.B) {
	sum := func(i int) (sum [32]byte) {
		binary.BigEndian.PutUint64(sum[:], uint64(i)*0x9E3779B97F4A7C15)
		return sum
	}
	for _, n := range []int{10_000, 1_000_000, 10_000_000} {
		b.Run(fmt.Sprintf("blobs=%d", n), func(b *testing.B) {
			var table blobTable
			for i := range n {
				table.add(blob{sha256: sum(i)})
			}
			table.seal()
			i := 0
			for b.Loop() {
				i = (i + 7919) % n
				if _, found := table.find(sum(i)); !found {
					b.Fatal("a blob is not found")
				}
			}
		})
	}
}
