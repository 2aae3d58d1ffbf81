// Package inventory lists a registry's storage: the blobs, as dense ids, and the tags, links and
// uploads of each repository. It also finds later pushes, and links that a listing lacks.
package inventory

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"regsweep/storage"

	"github.com/opencontainers/go-digest"
)

// Inventory is the listing of a registry's storage. Blobs are listed before repositories, so
// a blob that is pushed meanwhile is not in the inventory and is never garbage. It takes about
// 40 bytes for a blob and 4 for a link.
//
// Once it is made, it may be used concurrently, and digests that manifests name are added to it. Only DateTags
// and Measure change it in another way: nothing else may run at the same time.
type Inventory struct {
	digests
	Identity storage.Identity
	// Repositories are sorted by name.
	Repositories []*Repository
	// Strays counts the objects below blobs and repositories that are not part of the layout.
	// Problems names the first of them, and the problems outside of repositories. Strays are
	// kept.
	Strays   Strays
	Problems []Problem
	// Uploads are unfinished multipart uploads outside of the repositories' uploads:
	// interrupted copies of a finished upload to its blob.
	Uploads []Upload
	// Others are the blobs that are stored under another algorithm than sha256, with their sizes in bytes, or
	// -1 if the listing has no sizes. They have ids. They count as strays: today no registry writes such blobs, but
	// registries serve them.
	Others map[digest.Digest]int64
	// Emptied are empty directories of blobs that an interrupted removal has left. EmptiedNames
	// are empty directories in which a repository could be.
	Emptied, EmptiedNames []string

	recent []bool // by blob; nil unless Options.Since was set
	// hardLinked are the blobs that the scan has reported as hard linked.
	hardLinked map[ID]bool
	days       []uint16 // by blob: when it was written, in days since 1970, or 0; nil unless Options.Sizes was set
}

// HardLinked reports whether the file of a blob is known to have other hard links. On a filesystem only
// Options.Sizes makes that known.
func (inv *Inventory) HardLinked(id ID) bool { return inv.hardLinked[id] }

// BlobDay returns the day on which a blob was written, in UTC. It is zero if it is unknown, and without
// Options.Sizes.
func (inv *Inventory) BlobDay(id ID) time.Time {
	if inv.days == nil || inv.days[id] == 0 {
		return time.Time{}
	}
	return time.Unix(int64(inv.days[id])*secondsOfDay, 0).UTC()
}

const secondsOfDay = 24 * 60 * 60

// dayOf returns the day of a time, in days since 1970. Times before 1970 count as its first day.
func dayOf(at time.Time) uint16 {
	return uint16(min(max(at.Unix()/secondsOfDay, 1), math.MaxUint16))
}

// FindRepository returns the index of a repository in Repositories.
func (inv *Inventory) FindRepository(name string) (at int, found bool) {
	return slices.BinarySearchFunc(inv.Repositories, name, func(r *Repository, name string) int { return strings.Compare(r.Name, name) })
}

// Repository returns the repository with this name, or nil.
func (inv *Inventory) Repository(name string) *Repository {
	at, found := inv.FindRepository(name)
	if !found {
		return nil
	}
	return inv.Repositories[at]
}

// Listed reports whether a blob was listed. A blob under another algorithm than sha256 is Listed and
// not Stored: it is never removed.
func (inv *Inventory) Listed(id ID) bool {
	_, isOther := inv.Others[inv.Digest(id)]
	return inv.Stored(id) || isOther
}

// Strays counts objects that are not part of the layout.
type Strays struct {
	Count int
	Bytes int64
}

// Repository is the listing of one repository's directory. Its slices are sorted: tags
// by name, the others by ID.
type Repository struct {
	Name      string
	Tags      []Tag
	Revisions []Link
	Layers    []Link
	Uploads   []Upload
	// Signatures are the signature links below a revision of schema 1.
	Signatures map[ID][]ID
	// Referrers are the links that newer registries use to find a referrer. The key is the digest
	// of the referrer.
	Referrers map[ID][]ReferrerLink
	// Aliases has the layer links whose content is another digest than their path has. It maps
	// the digest in the path to the digest in the content.
	Aliases map[ID]ID
	// Recent has the digests of links that were written after Options.Since, with the newest of their times.
	Recent map[ID]time.Time
	// Pinned are the digests in links whose path is not understood.
	Pinned []ID
	// Doubted are the manifests in links below _manifests whose path is not understood or has
	// another digest. In this case a problem keeps the repository.
	Doubted []ID
	// Emptied are directories, below the layout's root, without a link and without a file of an
	// upload. A deletion through the registry's API leaves the directory of a revision, and an
	// interrupted removal may leave any directory.
	Emptied []string
	// Problems were found while listing and reading links.
	Problems []Problem
	// LayerDirs is set if the listing has only the directories of layer links. Some of these
	// directories may have no link.
	LayerDirs bool
	// Strays counts the objects in this repository that are not part of the layout.
	Strays int
	// LinkBytes is the size of the links. It is only set with Options.Sizes.
	LinkBytes int64
	// Pushed is the newest time of the links. It is zero if the listing had no times.
	Pushed time.Time

	tagTimes []int64 // in nanoseconds since 1970, or 0, by tag; nil without Options.TagTimes
}

// ReferrerLink says that a manifest refers to a subject. Only newer or forked registries
// have them: _manifests/revisions/<alg>/<subject>/_referrers/<type>/<alg>/<referrer>/link, or
// _refs/subjects/<alg>/<subject>/<alg>/<referrer>/link.
type ReferrerLink struct {
	Subject ID
	// Type is the name of the directory for the artifact's type, or "" below _refs.
	Type string
}

// Tag is a name for a manifest. Index has the manifests that it points at or once pointed at.
type Tag struct {
	Name string
	// Target is the manifest that the tag points at. It is valid if HasTarget is set. Otherwise
	// the current link is missing or damaged.
	Target    ID
	HasTarget bool
	Index     []Link
}

// Roots returns the manifests that the tag keeps alive: its target or, if it has none, all manifests in
// its index.
func (t Tag) Roots() []ID {
	if t.HasTarget {
		return []ID{t.Target}
	}
	ids := make([]ID, len(t.Index))
	for i, link := range t.Index {
		ids[i] = link.ID()
	}
	return ids
}

// Link is the digest in a link's path, and whether the link's content was verified to be the
// same digest.
type Link uint32

// verified is the lowest bit. The id is in the higher bits, so links sort by their ids.
const verified Link = 1

func newLink(id ID, isVerified bool) Link {
	if isVerified {
		return Link(id<<1) | verified
	}
	return Link(id << 1)
}

// ID returns the id of the digest in the link's path.
func (l Link) ID() ID { return ID(l >> 1) }

// Verified reports whether the link is known to exist and to contain the digest in its path.
func (l Link) Verified() bool { return l&verified != 0 }

// HasRevision reports whether the repository has a revision link for the digest.
func (r *Repository) HasRevision(id ID) bool { return has(r.Revisions, id) }

// FindTag returns the index of a tag in Tags. It is found if any of its links was listed.
func (r *Repository) FindTag(name string) (at int, found bool) {
	return slices.BinarySearchFunc(r.Tags, name, func(t Tag, name string) int { return strings.Compare(t.Name, name) })
}

// HasTag reports whether any link of a tag was listed.
func (r *Repository) HasTag(name string) bool {
	_, found := r.FindTag(name)
	return found
}

// HasLayer reports whether the repository has a layer link for the digest.
func (r *Repository) HasLayer(id ID) bool { return has(r.Layers, id) }

func has(links []Link, id ID) bool {
	_, found := FindLink(links, id)
	return found
}

// FindLink returns the index of the link to a digest.
func FindLink(links []Link, id ID) (at int, found bool) {
	return slices.BinarySearchFunc(links, id, func(l Link, id ID) int { return cmp.Compare(l.ID(), id) })
}

// Kept reports whether a known problem keeps the whole repository.
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
	// Started is the time in the upload's startedat. If that file is missing or malformed, it is
	// the time of the last write. It is zero if it is unknown.
	Started time.Time
	// Touched is when any part of it was last written. It is zero if it is unknown.
	Touched time.Time
	// Bytes is the size of its objects. Parts of a multipart upload are not counted.
	Bytes int64
	// HardLinkedBytes is the part of Bytes in files that have other hard links.
	HardLinkedBytes int64
	Objects         []storage.Ref
}

// Recent reports whether a blob was written after Options.Since, according to the listing.
func (inv *Inventory) Recent(id ID) bool {
	return int(id) < len(inv.recent) && inv.recent[id]
}

// Options of Take. The zero value is for a storage that nobody writes to.
type Options struct {
	// Since, if set, makes the inventory record which links and blobs were written after it.
	Since time.Time
	// Concurrency is the number of links that are read at once. 0 means 32.
	Concurrency int
	// TagTimes makes the inventory know when each tag was pushed: see Repository.TagPushed. If the
	// listing has no times, as on a filesystem, each tag takes a stat.
	TagTimes bool
	// Sizes makes the size and the day of each blob known, and sets Repository.LinkBytes. If the listing has no
	// sizes, as on a filesystem, each file takes a stat.
	Sizes bool
	// OnBlobs and OnLinks, if set, are called with the number of newly listed blobs or links.
	// They are called from several goroutines at once.
	OnBlobs, OnLinks func(n int)
	// OnRevision, if set, is called for the manifests of revision links while the repositories
	// are still being listed. It is called at most once for each manifest, and not for all of
	// them: the calls end with the listing. Up to half of Concurrency calls run at once. It is
	// not called on a filesystem. At that time inv has only the blobs and the ids of digests.
	// If OnRevision returns an error, Take returns it.
	OnRevision func(ctx context.Context, inv *Inventory, id ID) error
}

// Take lists the storage. It lists all names once, and reads each link whose content is not
// known from the listing and not verified by its ETag.
func Take(ctx context.Context, store storage.Store, options Options) (*Inventory, error) {
	b := &builder{
		store: store, options: options,
		inv:          &Inventory{Identity: store.Identity()},
		repositories: map[string]*repositoryBuilder{},
	}
	if b.options.Concurrency == 0 {
		b.options.Concurrency = 32
	}
	if err := b.scan(ctx, storage.BlobsDir, b.visitBlobs, b.visitNamedBlobs); err != nil {
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
	if err := b.dateTags(ctx); err != nil {
		return nil, err
	}
	return b.inv, nil
}
