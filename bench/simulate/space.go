package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"slices"
)

// shape is what a registry looks like, in numbers.
type shape struct {
	Blobs        int     // manifests among them
	Links        int     // all keys below repositories, about
	Repositories int     // about
	Layers       int     // of one image, its config among them
	Garbage      float64 // share of the images that were deleted and not collected
}

// space is a registry's key space: it knows its n-th key without storing the others.
//
// Images belong to families. Each family has copies, repositories that hold the same
// images as stages of a pipeline do: that is where there are more links than blobs. A
// blob that is no manifest belongs to one image at most.
//
// The digests of such plain blobs are not those of any content, since nobody reads
// them. They are as good as random: which bucket of leading bits each falls in was drawn,
// and counted; the bits below are computed from the bucket. So rank is digest order.
// Manifests are read, and have real digests, which are kept: they are few.
type space struct {
	families, copies int
	layers           int // plain blobs of one family, and layer links of one repository
	images           int // of one family
	layersPerImage   int
	garbage          uint64 // images whose hash is below it were deleted

	plain int // number of plain blobs

	// bucketBits is how many leading bits of a digest its bucket is. starts has, for each
	// bucket, the rank of its first plain blob, and manifestStarts its first place in
	// byDigest; both have an end mark. sixteenth has the bucket of each 16th rank.
	bucketBits     uint
	starts         []uint32
	manifestStarts []uint32
	sixteenth      []uint32

	manifests []manifest // by family, then by image
	byDigest  []uint32   // manifests in the order of their digests

	// By family, the images that were not deleted: in the order of their digests, as
	// revisions are listed, and those of them that have a tag, in the order of tags.
	revisions, tags [][]uint32
	keys            []int // keys below repositories before each repository, with an end mark
}

type manifest struct {
	sum  [32]byte
	size uint32
}

// untaggedEvery is how many images there are for one without a tag.
const untaggedEvery = 8

func newSpace(of shape) (*space, error) {
	if of.Blobs < 1 || of.Layers < 1 || of.Repositories < 1 || of.Links < of.Blobs {
		return nil, errors.New("there must be blobs, layers and repositories, and at least as many links as blobs")
	}
	if of.Blobs > 1<<31 {
		return nil, errors.New("more than 2^31 blobs")
	}
	s := &space{layersPerImage: of.Layers, garbage: uint64(of.Garbage * (1 << 32))}
	s.copies = max(1, (of.Links+of.Blobs/2)/of.Blobs)
	s.families = max(1, of.Repositories/s.copies)
	s.images = max(1, (of.Blobs/(of.Layers+1)+s.families-1)/s.families)
	s.plain = of.Blobs - s.families*s.images
	if s.layers = s.plain / s.families; s.layers < s.images {
		return nil, fmt.Errorf("%d blobs are too few for %d families of %d images", of.Blobs, s.families, s.images)
	}
	if err := s.drawBuckets(); err != nil {
		return nil, err
	}
	s.makeManifests()
	s.listFamilies()
	return s, nil
}

// mix is a hash of 64 bits (the finalizer of splitmix64).
func mix(x uint64) uint64 {
	x += 0x9E3779B97F4A7C15
	x = (x ^ x>>30) * 0xBF58476D1CE4E5B9
	x = (x ^ x>>27) * 0x94D049BB133111EB
	return x ^ x>>31
}

// The hashes for different purposes are those of different ranges of numbers.
const (
	forBucket = iota << 56
	forDigits
	forSize
	forDeleted
	forFamily
)

// bucketLimit is more plain blobs than ever fall into one bucket, of some three on
// average.
const bucketLimit = 40

func (s *space) drawBuckets() error {
	s.bucketBits = uint(max(1, bits.Len(uint(s.plain))-2))
	s.starts = make([]uint32, 1<<s.bucketBits+1)
	for i := range s.plain {
		s.starts[1+mix(forBucket+uint64(i))>>(64-s.bucketBits)]++
	}
	s.sixteenth = make([]uint32, 0, s.plain/16+1)
	for p := range len(s.starts) - 1 {
		if s.starts[p+1] > bucketLimit {
			return fmt.Errorf("%d blobs in one bucket", s.starts[p+1])
		}
		s.starts[p+1] += s.starts[p]
		for 16*len(s.sixteenth) < int(s.starts[p+1]) {
			s.sixteenth = append(s.sixteenth, uint32(p))
		}
	}
	return nil
}

// bucket returns the first words of the plain digests in a bucket, in order.
func (s *space) bucket(p int, into []uint64) []uint64 {
	into = into[:0]
	for t := range s.starts[p+1] - s.starts[p] {
		word := uint64(p)<<(64-s.bucketBits) | mix(forDigits+uint64(p)<<6+uint64(t))>>s.bucketBits
		at := len(into)
		into = append(into, word)
		for ; at > 0 && into[at-1] > word; at-- {
			into[at] = into[at-1]
		}
		into[at] = word
	}
	return into
}

// plainSum is the digest of the plain blob with this rank.
func (s *space) plainSum(rank int) [32]byte {
	p := int(s.sixteenth[rank>>4])
	for int(s.starts[p+1]) <= rank {
		p++
	}
	var buffer [bucketLimit]uint64
	return sumOf(s.bucket(p, buffer[:0])[rank-int(s.starts[p])])
}

func sumOf(word uint64) (sum [32]byte) {
	binary.BigEndian.PutUint64(sum[:], word)
	for i := 8; i < len(sum); i += 8 {
		word = mix(word)
		binary.BigEndian.PutUint64(sum[i:], word)
	}
	return sum
}

// plainSize is the size in bytes of a plain blob.
func plainSize(rank int) int64 { return int64(mix(forSize+uint64(rank))>>40) + 1 }

// layer is the rank of a family's j-th plain blob, in the order of digests. Every
// family takes one blob of each of so many stretches, and no two the same.
func (s *space) layer(family, j int) int {
	return s.plain*j/s.layers + (family+int(mix(forFamily+uint64(j))%uint64(s.families)))%s.families
}

// imageOf is the image that a family's j-th plain blob belongs to.
func (s *space) imageOf(j int) int { return j % s.images }

// deleted tells whether an image was deleted, and its links and blobs left. A family's
// first image never is: a repository without manifests would be worth a note.
func (s *space) deleted(family, image int) bool {
	return image > 0 && mix(forDeleted+uint64(family*s.images+image))>>32 < s.garbage
}

func (s *space) manifestOf(family, image int) *manifest {
	return &s.manifests[family*s.images+image]
}

func (s *space) makeManifests() {
	s.manifests = make([]manifest, s.families*s.images)
	s.byDigest = make([]uint32, len(s.manifests))
	var content []byte
	for i := range s.manifests {
		content = s.appendManifest(content[:0], i/s.images, i%s.images)
		s.manifests[i] = manifest{sum: sha256.Sum256(content), size: uint32(len(content))}
		s.byDigest[i] = uint32(i)
	}
	slices.SortFunc(s.byDigest, func(a, b uint32) int {
		return bytes.Compare(s.manifests[a].sum[:], s.manifests[b].sum[:])
	})
	s.manifestStarts = make([]uint32, len(s.starts))
	for _, i := range s.byDigest {
		s.manifestStarts[1+binary.BigEndian.Uint64(s.manifests[i].sum[:])>>(64-s.bucketBits)]++
	}
	for p := range len(s.manifestStarts) - 1 {
		s.manifestStarts[p+1] += s.manifestStarts[p]
	}
}

func (s *space) listFamilies() {
	s.revisions, s.tags = make([][]uint32, s.families), make([][]uint32, s.families)
	s.keys = append(make([]int, 0, s.families*s.copies+1), 0)
	for f := range s.families {
		for q := range s.images {
			if s.deleted(f, q) {
				continue
			}
			s.revisions[f] = append(s.revisions[f], uint32(q))
			if q%untaggedEvery != untaggedEvery-1 {
				s.tags[f] = append(s.tags[f], uint32(q))
			}
		}
		slices.SortFunc(s.revisions[f], func(a, b uint32) int {
			return bytes.Compare(s.manifestOf(f, int(a)).sum[:], s.manifestOf(f, int(b)).sum[:])
		})
		for range s.copies {
			s.keys = append(s.keys, s.keys[len(s.keys)-1]+s.layers+len(s.revisions[f])+2*len(s.tags[f]))
		}
	}
}

// blobs and links are how many keys there are.
func (s *space) blobs() int { return s.plain + len(s.manifests) }
func (s *space) links() int { return s.keys[len(s.keys)-1] }

// truth is what a dry run must find.
type truth struct {
	Repositories, Tags, Manifests int
	LiveBlobs                     int
	LiveBytes                     int64
	GarbageBlobs                  int
	GarbageBytes                  int64
	GarbageLinks                  int
}

// truth counts by the description above, and does not look at the keys.
func (s *space) truth() truth {
	t := truth{Repositories: s.families * s.copies}
	var all int64
	for rank := range s.plain {
		all += plainSize(rank)
	}
	for f := range s.families {
		for q := range s.images {
			all += int64(s.manifestOf(f, q).size)
			if !s.deleted(f, q) {
				t.Manifests++
				t.LiveBlobs++
				t.LiveBytes += int64(s.manifestOf(f, q).size)
				if q%untaggedEvery != untaggedEvery-1 {
					t.Tags += s.copies
				}
			}
		}
		for j := range s.layers {
			if s.deleted(f, s.imageOf(j)) {
				t.GarbageLinks += s.copies
				continue
			}
			t.LiveBlobs++
			t.LiveBytes += plainSize(s.layer(f, j))
		}
	}
	t.GarbageBlobs, t.GarbageBytes = s.blobs()-t.LiveBlobs, all-t.LiveBytes
	return t
}
