package storage

import (
	"context"
	"encoding/hex"
)

// namedDigests are files that are known by the names of their directories, which are
// SHA-256 digests: dir/<hex>/file for each. Of a filesystem's blobs and of nearly all links
// a scan learns nothing else, so that neither paths nor objects need be made of them.
type namedDigests struct {
	dir, file string
	sums      [][32]byte
	// read is set where each file was read, and is a link that says the digest; absent where
	// there is none, and nothing but the directory.
	read, absent bool
}

// namedTags are tags, dir/<name>, that have nothing but a current link and an index of SHA-256
// digests, as nearly all have.
type namedTags struct {
	dir  string
	tags []namedTag
}

type namedTag struct {
	name   string
	target [32]byte
	// index is nil if it has the target and nothing else.
	index [][32]byte
}

// entries are the digests in the tag's index.
func (t *namedTag) entries() [][32]byte {
	if t.index == nil {
		return [][32]byte{t.target}
	}
	return t.index
}

// nameVisitor takes what a scan knows by names apart from all other objects. Its functions
// are called as Scan calls visit, and what they are given is valid until they return.
type nameVisitor struct {
	objects func([]Object) error
	digests func(namedDigests) error
	tags    func(namedTags) error
}

// nameScanner is a Scanner that can report what it knows by names apart.
type nameScanner interface {
	scanNames(ctx context.Context, dir string, visit nameVisitor) error
}

// objects are the files as Scan reports them.
func (n namedDigests) objects() []Object {
	page := make([]Object, 0, len(n.sums))
	for i := range n.sums {
		o := Object{Path: n.path(i), Size: -1, Named: true}
		if n.read {
			o = readLinkObject(o.Path, &n.sums[i])
		}
		page = append(page, o)
	}
	return page
}

func (n namedDigests) path(i int) string {
	return n.dir + "/" + hex.EncodeToString(n.sums[i][:]) + "/" + n.file
}

// readLinkObject is a link that was read and says a digest.
func readLinkObject(path string, sum *[32]byte) Object {
	content := []byte("sha256:" + hex.EncodeToString(sum[:]))
	return Object{Path: path, Size: int64(len(content)), Content: content}
}

// objects are the tags' links as Scan reports them.
func (n namedTags) objects() []Object {
	page := make([]Object, 0, 2*len(n.tags))
	for _, tag := range n.tags {
		at := n.dir + "/" + tag.name
		page = append(page, readLinkObject(at+"/current/link", &tag.target))
		page = append(page, namedDigests{dir: at + "/index/sha256", file: "link", sums: tag.entries()}.objects()...)
	}
	return page
}
