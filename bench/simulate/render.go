package main

import (
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"sort"
	"strconv"
)

// The trees of a registry's layout, as keys.
const (
	blobsAt        = "docker/registry/v2/blobs/sha256/"
	repositoriesAt = "docker/registry/v2/repositories/"
)

const linkSize = len("sha256:") + 64

// appendManifest writes the manifest of an image: an OCI image manifest as clients
// write it.
func (s *space) appendManifest(to []byte, family, image int) []byte {
	to = append(to, `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":`...)
	mediaType := "config.v1+json"
	separator := `,"layers":[`
	for j := image; j < s.layers; j += s.images {
		rank := s.layer(family, j)
		sum := s.plainSum(rank)
		to = append(to, `{"mediaType":"application/vnd.oci.image.`...)
		to = append(to, mediaType...)
		to = append(to, `","digest":"sha256:`...)
		to = hex.AppendEncode(to, sum[:])
		to = append(to, `","size":`...)
		to = strconv.AppendInt(to, plainSize(rank), 10)
		to = append(to, '}')
		if j+s.images < s.layers {
			to = append(to, separator...)
		} else if mediaType == "config.v1+json" {
			to = append(to, separator...)
		}
		mediaType, separator = "layer.v1.tar+gzip", ","
	}
	return append(to, "]}"...)
}

// object is one key and what a listing says of it.
type object struct {
	key  []byte
	size int64
	etag [16]byte
	// content is what a link says, or nil for a blob.
	content []byte
	image   int // the manifest that a blob is, or -1
}

// cursor reads the key space from one place on. Its object is valid until the next
// step.
type cursor struct {
	s      *space
	object object

	// Of blobs:
	bucket int
	merged []blobEntry
	// Of repositories:
	repository int
	stem       int // how much of the key is the repository's
}

type blobEntry struct {
	sum   [32]byte
	rank  int // of a plain blob
	image int // of a manifest, else -1
}

// bucketEntries are the blobs of one bucket, manifests among them, in order.
func (s *space) bucketEntries(p int, into []blobEntry) []blobEntry {
	var buffer [bucketLimit]uint64
	into = into[:0]
	images := s.byDigest[s.manifestStarts[p]:s.manifestStarts[p+1]]
	for t, word := range s.bucket(p, buffer[:0]) {
		sum := sumOf(word)
		for len(images) > 0 && string(s.manifests[images[0]].sum[:]) < string(sum[:]) {
			into = append(into, blobEntry{sum: s.manifests[images[0]].sum, image: int(images[0])})
			images = images[1:]
		}
		into = append(into, blobEntry{sum: sum, rank: int(s.starts[p]) + t, image: -1})
	}
	for _, image := range images {
		into = append(into, blobEntry{sum: s.manifests[image].sum, image: int(image)})
	}
	return into
}

// blob makes the object the n-th blob.
func (c *cursor) blob(n int) {
	before := func(p int) int { return int(c.s.starts[p] + c.s.manifestStarts[p]) }
	if c.merged == nil || n < before(c.bucket) || n >= before(c.bucket+1) {
		next := c.bucket + 1
		for next < len(c.s.starts)-1 && before(next+1) == before(next) {
			next++ // it is empty
		}
		if next >= len(c.s.starts)-1 || n < before(next) || n >= before(next+1) {
			next = sort.Search(len(c.s.starts)-2, func(p int) bool { return before(p+1) > n })
		}
		c.bucket = next
		c.merged = c.s.bucketEntries(c.bucket, c.merged)
	}
	entry := &c.merged[n-before(c.bucket)]
	o := &c.object
	c.stem = 0
	o.key = append(o.key[:0], blobsAt...)
	o.key = hex.AppendEncode(o.key, entry.sum[:1])
	o.key = append(o.key, '/')
	o.key = hex.AppendEncode(o.key, entry.sum[:])
	o.key = append(o.key, "/data"...)
	o.image = entry.image
	o.content = nil
	copy(o.etag[:], entry.sum[16:]) // of no content, so of no use
	if entry.image >= 0 {
		o.size = int64(c.s.manifests[entry.image].size)
	} else {
		o.size = plainSize(entry.rank)
	}
}

// link makes the object the n-th key below repositories.
func (c *cursor) link(n int) {
	s, o := c.s, &c.object
	if c.stem == 0 || n < s.keys[c.repository] || n >= s.keys[c.repository+1] {
		c.repository = sort.Search(len(s.keys)-1, func(r int) bool { return s.keys[r+1] > n })
		o.key = append(o.key[:0], repositoriesAt...)
		o.key = append(o.key, s.repositoryName(c.repository)...)
		c.stem = len(o.key)
	}
	family := c.repository / s.copies
	n -= s.keys[c.repository]
	o.key, o.image = o.key[:c.stem], -1
	var sum [32]byte
	switch revisions, tags := s.revisions[family], s.tags[family]; {
	case n < s.layers:
		sum = s.plainSum(s.layer(family, n))
		o.key = append(o.key, "/_layers/sha256/"...)
		o.key = hex.AppendEncode(o.key, sum[:])
		o.key = append(o.key, "/link"...)
	case n < s.layers+len(revisions):
		sum = s.manifestOf(family, int(revisions[n-s.layers])).sum
		o.key = append(o.key, "/_manifests/revisions/sha256/"...)
		o.key = hex.AppendEncode(o.key, sum[:])
		o.key = append(o.key, "/link"...)
	default:
		n -= s.layers + len(revisions)
		image := int(tags[n/2])
		sum = s.manifestOf(family, image).sum
		o.key = append(o.key, "/_manifests/tags/"...)
		o.key = fmt.Appendf(o.key, "v1.%06d", image)
		if n%2 == 0 {
			o.key = append(o.key, "/current/link"...)
		} else {
			o.key = append(o.key, "/index/sha256/"...)
			o.key = hex.AppendEncode(o.key, sum[:])
			o.key = append(o.key, "/link"...)
		}
	}
	o.content = append(o.content[:0], "sha256:"...)
	o.content = hex.AppendEncode(o.content, sum[:])
	o.size = int64(linkSize)
	o.etag = md5.Sum(o.content)
}

// repositoryName names repositories so that their order is that of their names.
func (s *space) repositoryName(r int) string {
	family := r / s.copies
	return fmt.Sprintf("team-%05d/app-%02d/stage-%02d", family/50, family%50, r%s.copies)
}

// upTo is the number of keys, of both trees, up to and including a key.
func (c *cursor) upTo(key string) int {
	blobs := c.s.blobs()
	n := sort.Search(blobs, func(i int) bool { c.blob(i); return string(c.object.key) > key })
	if n == blobs {
		n += sort.Search(c.s.links(), func(i int) bool { c.link(i); return string(c.object.key) > key })
	}
	return n
}

// read makes the object the n-th of both trees; ok is false behind the last.
func (c *cursor) read(n int) (ok bool) {
	switch blobs := c.s.blobs(); {
	case n < blobs:
		c.blob(n)
	case n < blobs+c.s.links():
		c.link(n - blobs)
	default:
		return false
	}
	return true
}

// find makes the object that of a key, if there is one.
func (c *cursor) find(key string) bool {
	n := c.upTo(key)
	return n > 0 && c.read(n-1) && string(c.object.key) == key
}

// from is the number of keys before those with a prefix, or what comes after it.
func (c *cursor) from(prefix string) int {
	n := c.upTo(prefix)
	if n > 0 && c.read(n-1) && string(c.object.key) == prefix {
		n--
	}
	return n
}
