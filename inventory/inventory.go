// Package inventory is what a registry's storage holds, by name: blobs as dense ids, and the tags,
// links and uploads of each repository. It also finds what was pushed since, and what a listing
// lacks.
package inventory

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"regsweep/storage"

	"github.com/opencontainers/go-digest"
)

// Inventory is what a registry's storage holds, by name. Blobs are listed before
// repositories, so a blob that is pushed meanwhile is not in it and can never be
// taken for garbage. It costs some 40 bytes a blob and 4 a link.
//
// It is not changed once made, but for new digests being interned, and may be used
// concurrently.
type Inventory struct {
	digests
	Identity storage.Identity
	// Repositories are sorted by name.
	Repositories []*Repository
	// Strays counts the objects that are not part of the layout, below
	// blobs and repositories, and Problems names the first of them, and those that lie in no
	// repository. They are kept.
	Strays   Strays
	Problems []Problem
	// Uploads are unfinished multipart uploads that belong to no repository's
	// uploads: copies into place that were cut off.
	Uploads []Upload
	// Emptied are empty directories of blobs that a removal has left which was cut off,
	// and EmptiedNames those in which the last repository was removed.
	Emptied, EmptiedNames []string

	// others are the digests of blobs that are stored under another algorithm than sha256. They are
	// strays: no registry of today writes them, but it serves them.
	others map[digest.Digest]bool
	recent []bool // by blob; nil unless Options.Since was set
}

// Listed reports whether a blob was listed. One under another algorithm than sha256 is not Stored: it
// is never a candidate.
func (inv *Inventory) Listed(id ID) bool { return inv.Stored(id) || inv.others[inv.Digest(id)] }

// Strays counts what is not part of the layout.
type Strays struct {
	Count int
	Bytes int64
}

// Repository is what one repository's directory holds. Its slices are sorted: tags
// by name, the others by ID.
type Repository struct {
	Name      string
	Tags      []Tag
	Revisions []Link
	Layers    []Link
	Uploads   []Upload
	// Signatures are the signature links below a revision of schema 1.
	Signatures map[ID][]ID
	// Referrers are the links by which newer registries find a referrer, by its digest.
	Referrers map[ID][]ReferrerLink
	// Aliases holds, for a layer link whose content names another digest than its
	// path, what the content names.
	Aliases map[ID]ID
	// Recent has the digests of links that were written after
	// Options.Since.
	Recent map[ID]bool
	// Pinned are digests named by links whose path is not understood.
	Pinned []ID
	// Doubted are manifests named by links below _manifests whose path is not
	// understood, or names another manifest. A problem keeps the repository then.
	Doubted []ID
	// Emptied are directories, below the layout's root, in which there was no link and no
	// file of an upload: a deletion through the registry's API leaves a revision's, and a
	// removal that is cut off leaves any.
	Emptied []string
	// Problems were met while listing and reading links.
	Problems []Problem
	// LayerDirs is set where the listing has directories of layer links, and not the links: one
	// without a link in it may be there.
	LayerDirs bool
	// Strays counts the objects in this repository that are not part of the layout.
	Strays int
	// Pushed is the newest time of the links, as far as the listing had times.
	Pushed time.Time
}

// ReferrerLink says that a manifest refers to a subject. Only newer or forked registries
// have them: _manifests/revisions/<alg>/<subject>/_referrers/<type>/<alg>/<referrer>/link, or
// _refs/subjects/<alg>/<subject>/<alg>/<referrer>/link.
type ReferrerLink struct {
	Subject ID
	// Type is the name of the directory for the artifact's type, or "" below _refs.
	Type string
}

// Tag is a name for a manifest, with those that it once named.
type Tag struct {
	Name string
	// Target is what the tag points at. It is valid if HasTarget is set; a tag
	// without it has lost its current link, or has a damaged one.
	Target    ID
	HasTarget bool
	Index     []Link
}

// Link is the digest that a link's path names, and whether its content was seen to
// name the same.
type Link uint32

// verified is the lowest bit, and the id lies above it: links are sorted by their ids.
const verified Link = 1

func newLink(id ID, isVerified bool) Link {
	if isVerified {
		return Link(id<<1) | verified
	}
	return Link(id << 1)
}

// ID is the digest in the link's path.
func (l Link) ID() ID { return ID(l >> 1) }

// Verified reports whether the link is known to exist and to say what its path says.
func (l Link) Verified() bool { return l&verified != 0 }

// HasRevision reports whether the repository has a revision link for the digest.
func (r *Repository) HasRevision(id ID) bool { return has(r.Revisions, id) }

// HasTag reports whether anything of a tag was listed.
func (r *Repository) HasTag(name string) bool {
	_, found := slices.BinarySearchFunc(r.Tags, name, func(t Tag, name string) int { return strings.Compare(t.Name, name) })
	return found
}

// HasLayer reports whether the repository has a layer link for the digest.
func (r *Repository) HasLayer(id ID) bool { return has(r.Layers, id) }

func has(links []Link, id ID) bool {
	_, found := FindLink(links, id)
	return found
}

// FindLink finds a digest's place among links.
func FindLink(links []Link, id ID) (at int, found bool) {
	return slices.BinarySearchFunc(links, id, func(l Link, id ID) int { return cmp.Compare(l.ID(), id) })
}

// Kept reports whether a problem met so far keeps all that the repository holds.
func (r *Repository) Kept() bool {
	return slices.ContainsFunc(r.Problems, func(p Problem) bool { return p.Effect == KeepsRepository })
}

// Misnamed reports whether no registry could serve a repository of this name.
func (r *Repository) Misnamed() bool {
	return slices.ContainsFunc(r.Problems, func(p Problem) bool { return p.Kind == BadRepositoryName })
}

// Upload is an upload that was begun and not finished.
type Upload struct {
	ID string
	// Started is what the upload's startedat says or, where that is missing or
	// malformed, when it was last written; zero where nothing is known.
	Started time.Time
	// Touched is when any part of it was last written; zero where unknown.
	Touched time.Time
	// Bytes is the size of its objects; parts of a multipart upload are not counted.
	Bytes int64
	// HardLinkedBytes are those of Bytes in files that have other hard links.
	HardLinkedBytes int64
	Objects         []storage.Ref
}

// Recent reports whether the scan saw that a blob was written after
// Options.Since.
func (inv *Inventory) Recent(id ID) bool {
	return int(id) < len(inv.recent) && inv.recent[id]
}

// Options are the zero value for a storage that nobody writes to.
type Options struct {
	// Since, if set, makes the inventory note links and blobs written after it.
	Since time.Time
	// Concurrency is how many links are read at once; 32 if it is 0.
	Concurrency int
	// OnBlobs and OnLinks, if set, are told how many more were listed. They are
	// called from several goroutines at once.
	OnBlobs, OnLinks func(n int)
	// OnRevision, if set, is called for stored blobs that revisions name while
	// repositories are still being listed, by up to half of Concurrency at once: for none
	// twice, and for those alone for which there was time. On a filesystem it is not called.
	// Of inv only what is said of digests is known by then. An error is Take's.
	OnRevision func(ctx context.Context, inv *Inventory, id ID) error
}

// Take lists the storage: one pass over the names, and a read for each
// link whose content is neither at hand nor proved by its ETag.
func Take(ctx context.Context, store storage.Store, options Options) (*Inventory, error) {
	b := &builder{
		store: store, options: options,
		inv:          &Inventory{Identity: store.Identity()},
		repositories: map[string]*repositoryBuilder{},
	}
	if b.options.Concurrency == 0 {
		b.options.Concurrency = 32
	}
	if err := b.scan(ctx, storage.BlobsDir, b.blobVisitor()); err != nil {
		return nil, err
	}
	b.sealBlobs()
	if err := b.listRepositories(ctx); err != nil {
		return nil, err
	}
	if b.otherProduct != "" {
		return nil, fmt.Errorf("%w: it has %s, and links of that kind say nothing that regsweep understands: nothing is removed", ErrOtherProduct, b.otherProduct)
	}
	if err := b.readLinks(ctx); err != nil {
		return nil, err
	}
	b.seal()
	return b.inv, nil
}

// StatBlob is Reader.Stat of a stored blob. A storage.BlobStater leaves the object's path empty.
func StatBlob(ctx context.Context, reader storage.Reader, inv *Inventory, id ID) (storage.Object, error) {
	if s, ok := reader.(storage.BlobStater); ok {
		object, ok, err := s.StatBlob(ctx, &inv.blobs.at(int(id)).sha256)
		if ok || err != nil {
			return object, err
		}
	}
	return reader.Stat(ctx, inv.BlobPath(id))
}
