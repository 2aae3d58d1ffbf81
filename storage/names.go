package storage

import (
	"context"
	"encoding/hex"
)

// NamedDigests are files that are known by the names of their directories, which are
// SHA-256 digests: dir/<hex>/file for each. Of a filesystem's blobs and of nearly all links
// a scan learns nothing else, so that neither paths nor objects need be made of them.
type NamedDigests struct {
	Dir, File string
	Digests   [][32]byte
	// Read is set where each file was read, and is a link that says the digest; absent where
	// there is none, and nothing but the directory.
	Read, Absent bool
}

// NamedTags are tags, dir/<name>, that have nothing but a current link and an index of SHA-256
// digests, as nearly all have.
type NamedTags struct {
	Dir  string
	Tags []NamedTag
}

type NamedTag struct {
	Name   string
	Target [32]byte
	// Index is nil if it has the target and nothing else.
	Index [][32]byte
}

// entries are the digests in the tag's index.
func (t *NamedTag) entries() [][32]byte {
	if t.Index == nil {
		return [][32]byte{t.Target}
	}
	return t.Index
}

// NameVisitor takes what a scan knows by names apart from all other objects. Its functions
// are called as Scan calls visit, and what they are given is valid until they return.
type NameVisitor struct {
	Objects func([]Object) error
	Digests func(NamedDigests) error
	Tags    func(NamedTags) error
}

// NameScanner is a Scanner that can report what it knows by names apart.
type NameScanner interface {
	ScanNames(ctx context.Context, dir string, visit NameVisitor) error
}

// Objects are the files as Scan reports them.
func (n NamedDigests) Objects() []Object {
	page := make([]Object, 0, len(n.Digests))
	for i := range n.Digests {
		o := Object{Path: n.Path(i), Size: -1, Named: true}
		if n.Read {
			o = readLinkObject(o.Path, &n.Digests[i])
		}
		page = append(page, o)
	}
	return page
}

func (n NamedDigests) Path(i int) string {
	return n.Dir + "/" + hex.EncodeToString(n.Digests[i][:]) + "/" + n.File
}

// readLinkObject is a link that was read and says a digest.
func readLinkObject(path string, sum *[32]byte) Object {
	content := []byte("sha256:" + hex.EncodeToString(sum[:]))
	return Object{Path: path, Size: int64(len(content)), Content: content}
}

// Objects are the tags' links as Scan reports them.
func (n NamedTags) Objects() []Object {
	page := make([]Object, 0, 2*len(n.Tags))
	for _, tag := range n.Tags {
		at := n.Dir + "/" + tag.Name
		page = append(page, readLinkObject(at+"/current/link", &tag.Target))
		page = append(page, NamedDigests{Dir: at + "/index/sha256", File: "link", Digests: tag.entries()}.Objects()...)
	}
	return page
}
