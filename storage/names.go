package storage

import (
	"context"
	"encoding/hex"
)

// NamedDigests are files with the paths Dir/<hex>/File, one for each SHA-256 digest. A scan of a
// filesystem learns only the digest of each blob and of nearly all links. A NamedDigests reports
// them without a path and an Object for each.
type NamedDigests struct {
	Dir, File string
	Digests   [][32]byte
	// Read is set if each file was read and is a link to the digest of its directory.
	// Absent is set if no file exists, and its directory is empty.
	Read, Absent bool
}

// NamedTags are tags with the paths Dir/<name>. Each has a current link, an index of SHA-256
// digests, and nothing else. Nearly all tags are like this.
type NamedTags struct {
	Dir  string
	Tags []NamedTag
}

// NamedTag is a tag, the digest that it points at, and the digests in its index.
type NamedTag struct {
	Name   string
	Target [32]byte
	// Index is nil if the index has only Target.
	Index [][32]byte
}

// entries returns the digests in the tag's index.
func (t *NamedTag) entries() [][32]byte {
	if t.Index == nil {
		return [][32]byte{t.Target}
	}
	return t.Index
}

// NameVisitor takes digests, tags, and all other objects separately. Its functions are called
// as Scan calls visit. Their arguments are valid until they return.
type NameVisitor struct {
	Objects func([]Object) error
	Digests func(NamedDigests) error
	Tags    func(NamedTags) error
}

// NameScanner is a Scanner that can report digests and tags without making Objects.
type NameScanner interface {
	// ScanNames is Scanner.Scan with a NameVisitor.
	ScanNames(ctx context.Context, dir string, visit NameVisitor) error
}

// Objects returns the files as Scan reports them.
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

// Path returns the path of the file of digest i.
func (n NamedDigests) Path(i int) string {
	return n.Dir + "/" + hex.EncodeToString(n.Digests[i][:]) + "/" + n.File
}

// readLinkObject returns a link that was read and contains this digest.
func readLinkObject(path string, sum *[32]byte) Object {
	content := []byte("sha256:" + hex.EncodeToString(sum[:]))
	return Object{Path: path, Size: int64(len(content)), Content: content}
}

// Objects returns the tags' links as Scan reports them.
func (n NamedTags) Objects() []Object {
	page := make([]Object, 0, 2*len(n.Tags))
	for _, tag := range n.Tags {
		at := n.Dir + "/" + tag.Name
		page = append(page, readLinkObject(at+"/current/link", &tag.Target))
		page = append(page, NamedDigests{Dir: at + "/index/sha256", File: "link", Digests: tag.entries()}.Objects()...)
	}
	return page
}
