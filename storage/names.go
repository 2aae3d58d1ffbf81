package storage

import (
	"context"
	"encoding/hex"
)

// NamedDigests are files with the paths Dir/<hex>/File, one for each SHA-256 digest. A scan of a
// filesystem learns no more about blobs and about the links of layers and revisions, which are most
// of a registry.
type NamedDigests struct {
	Dir, File string
	Digests   [][32]byte
	// Verified is set if each file was read and is a link to the digest of its directory. Otherwise
	// only the directories were listed (see Object.Named).
	Verified bool
}

// NameScanner is a Scanner that can report digests without making Objects.
type NameScanner interface {
	// ScanNames is Scanner.Scan that reports each object either to objects or to digests. It
	// calls both as Scan calls visit. Their arguments are valid until they return.
	ScanNames(ctx context.Context, dir string, objects func(page []Object) error, digests func(NamedDigests) error) error
}

// Objects returns the files as Scan reports them.
func (n NamedDigests) Objects() []Object {
	page := make([]Object, 0, len(n.Digests))
	for i := range n.Digests {
		o := Object{Path: n.Path(i), Size: -1, Named: true}
		if n.Verified {
			o.Content = []byte("sha256:" + hex.EncodeToString(n.Digests[i][:]))
			o.Size, o.Named = int64(len(o.Content)), false
		}
		page = append(page, o)
	}
	return page
}

// Path returns the path of the file of digest i.
func (n NamedDigests) Path(i int) string {
	return n.Dir + "/" + hex.EncodeToString(n.Digests[i][:]) + "/" + n.File
}
