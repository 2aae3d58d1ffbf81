package inventory

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"regsweep/storage/layout"

	"github.com/opencontainers/go-digest"
)

// tableOf makes a sealed table of blobs.
func tableOf(sums ...[32]byte) *digests {
	d := &digests{}
	for _, sum := range sums {
		d.blobs.add(blob{sha256: sum, size: -1})
	}
	d.seal()
	return d
}

// Every stored blob is found under its own id, and no other digest is found. The digests are
// distributed evenly, as real ones are, or are all at one end, or close together.
func TestDigestsAreFound(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	evenly := func(int) (sum [32]byte) {
		for i := range sum {
			sum[i] = byte(random.Uint32())
		}
		return sum
	}
	clumped := func(i int) (sum [32]byte) {
		binary.BigEndian.PutUint64(sum[:], 1<<63+uint64(i/7))
		binary.BigEndian.PutUint64(sum[24:], uint64(2*i+1))
		return sum
	}
	low := func(i int) (sum [32]byte) { sum[31], sum[30] = byte(2*i+1), byte(i>>7); return sum }
	high := func(i int) (sum [32]byte) {
		sum = low(i)
		for i := range 30 {
			sum[i] = 0xff
		}
		return sum
	}
	for name, make1 := range map[string]func(int) [32]byte{"evenly": evenly, "clumped": clumped, "low": low, "high": high} {
		for _, n := range []int{0, 1, 2, 3, 8, 9, 100, 3000} {
			t.Run(fmt.Sprintf("%d lie %s", n, name), func(t *testing.T) {
				sums := [][32]byte{}
				for i := range n {
					sums = append(sums, make1(i))
				}
				d := tableOf(append(sums, sums...)...) // a listing may have a blob twice
				if d.Blobs() != n {
					t.Fatalf("%d blobs", d.Blobs())
				}
				foundTogether(t, d, sums)
				for _, sum := range sums {
					of := digest.NewDigestFromBytes(digest.SHA256, sum[:])
					if id := d.ID(of); !d.Stored(id) || d.Digest(id) != of {
						t.Fatalf("%s is found as %d, which is %s", of, id, d.Digest(id))
					}
					sum[31] ^= 1 // only evenly distributed digests may have this last bit
					sum[0] ^= 0x55
					other := digest.NewDigestFromBytes(digest.SHA256, sum[:])
					if id := d.ID(other); d.Stored(id) || d.Digest(id) != other {
						t.Fatalf("%s, which is not stored, is found as %d", other, id)
					}
				}
			})
		}
	}
}

// foundTogether looks up many digests at once. Every third is changed to a digest that is not
// stored or has another algorithm.
func foundTogether(t *testing.T, d *digests, sums [][32]byte) {
	t.Helper()
	for batch := range slices.Chunk(sums, pageBatch) {
		entries, want := make([]located, len(batch)), make([]digest.Digest, len(batch))
		for i, sum := range batch {
			entries[i].Digest = layout.Name{Alg: "sha256", Hex: hex.EncodeToString(sum[:])}
			switch i % 6 {
			case 2:
				sum[0] ^= 0x55
				sum[31] ^= 1
				entries[i].Digest.Hex = hex.EncodeToString(sum[:])
			case 4:
				entries[i].Digest = layout.Name{Alg: "sha512", Hex: entries[i].Digest.Hex + entries[i].Digest.Hex}
			case 5:
				entries[i] = located{id: 77} // the id of a path without a digest is not changed
			}
			want[i] = entries[i].Digest.Digest()
		}
		d.identify(entries)
		for i, e := range entries {
			if e.Digest.Alg == "" {
				if e.id != 77 {
					t.Fatalf("no digest is given the id %d", e.id)
				}
			} else if d.Digest(e.id) != want[i] || d.ID(want[i]) != e.id {
				t.Fatalf("%s is found as %d, which is %s", want[i], e.id, d.Digest(e.id))
			}
		}
	}
}

func TestDigestsThatAreNotStored(t *testing.T) {
	// Text that is no SHA-256 digest must not count as the digest of zeros.
	d := tableOf(sha256.Sum256([]byte("stored")), [32]byte{})
	named := []digest.Digest{
		digest.FromString("not stored"), digest.SHA512.FromString("long"), digest.SHA384.FromString("mid"),
		// A manifest may contain invalid digests.
		"md5:d41d8cd98f00b204e9800998ecf8427e", digest.Digest("sha256:" + strings.Repeat("A", 64)), "",
	}
	ids := map[ID]bool{}
	var texts [][]byte
	for _, of := range named {
		texts = append(texts, []byte(of))
	}
	together := d.IDs(nil, texts)
	for i, of := range named {
		id := d.ID(of)
		if together[i] != id {
			t.Errorf("%q has the id %d, and %d among others", of, id, together[i])
		}
		if ids[id] || d.Stored(id) || d.Digest(id) != of || d.ID(of) != id {
			t.Errorf("%q has the id %d, of %q", of, id, d.Digest(id))
		}
		ids[id] = true
		if size, exact := d.Size(id); size != -1 || exact {
			t.Errorf("%q has %d bytes", of, size)
		}
	}
}

// The size in the storage overrules the size in a manifest.
func TestSizes(t *testing.T) {
	d := &digests{}
	d.blobs.add(blob{sha256: sha256.Sum256([]byte("listed")), size: 6})
	d.blobs.add(blob{sha256: sha256.Sum256([]byte("named")), size: -1})
	d.seal()
	listed, named := d.ID(digest.FromString("listed")), d.ID(digest.FromString("named"))
	want := func(id ID, bytes int64, exact bool) {
		t.Helper()
		if gotBytes, gotExact := d.Size(id); gotBytes != bytes || gotExact != exact {
			t.Errorf("%d bytes, exact: %v; want %d, %v", gotBytes, gotExact, bytes, exact)
		}
	}
	want(listed, 6, true)
	want(named, -1, false)
	d.Declare(listed, 100)
	d.Declare(named, -1)
	want(listed, 6, true)
	want(named, -1, false)
	// If manifests disagree, the largest size counts, in any order.
	d.Declare(named, 0)
	want(named, 0, false)
	d.Declare(named, 7)
	d.Declare(named, 5)
	want(named, 7, false)
	d.Declare(d.ID(digest.FromString("not stored")), 5)
}

// Manifests are read by many goroutines, which look digests up, intern new ones and
// declare sizes at the same time. The race detector watches.
func TestDigestsConcurrently(t *testing.T) {
	var sums [][32]byte
	for i := range 500 {
		sums = append(sums, sha256.Sum256(fmt.Append(nil, i)))
	}
	d := tableOf(sums...)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 500 {
				id := d.ID(digest.NewDigestFromBytes(digest.SHA256, sums[i][:]))
				d.Declare(id, int64(i))
				d.Size(id)
				d.Digest(d.ID(digest.FromString(fmt.Sprint("new", i))))
			}
		})
	}
	wg.Wait()
	for i, sum := range sums {
		if size, _ := d.Size(d.ID(digest.NewDigestFromBytes(digest.SHA256, sum[:]))); size != int64(i) {
			t.Errorf("%d bytes, want %d", size, i)
		}
	}
}

// Lower-case digits are decoded as by encoding/hex. Any other character, at any place, is an error.
func TestParseSHA256(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 1000 {
		var want [32]byte
		for i := range want {
			want[i] = byte(random.Uint32())
		}
		text := []byte(hex.EncodeToString(want[:]))
		if got, ok := layout.ParseSHA256(text); !ok || got != want || layout.DecodeSHA256(string(text)) != want {
			t.Fatalf("%s is decoded as %x, %t", text, got, ok)
		}
		at := random.IntN(len(text))
		for c := range 256 {
			text[at] = byte(c)
			sum, ok := layout.ParseSHA256(text)
			if isDigit := c >= '0' && c <= '9' || c >= 'a' && c <= 'f'; ok != isDigit {
				t.Fatalf("%q is a digit: %t", rune(c), ok)
			} else if ok && hex.EncodeToString(sum[:]) != string(text) {
				t.Fatalf("%s is decoded as %x", text, sum)
			}
		}
	}
	for _, length := range []int{0, 56, 63, 65, 72} {
		if _, ok := layout.ParseSHA256(bytes.Repeat([]byte("0"), length)); ok {
			t.Errorf("%d digits are a digest", length)
		}
	}
}

// A blob that is stored under another algorithm has an id from the listing on, although no link names it.
func TestBlobsUnderOtherAlgorithmsHaveIDs(t *testing.T) {
	long := digest.SHA512.FromString("a")
	f := &keys{}
	f.put("blobs/sha512/"+long.Encoded()[:2]+"/"+long.Encoded()+"/data", "a", "-")
	inv, err := Take(t.Context(), f, Options{Concurrency: 1})
	if err != nil {
		t.Fatal(err)
	}
	if id, found := inv.Find(long); !found || !inv.Listed(id) || inv.Stored(id) {
		t.Errorf("id %d, found: %t, others: %v", id, found, inv.Others)
	}
}
