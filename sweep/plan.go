package sweep

import (
	"iter"
	"slices"
	"time"

	"regsweep/inventory"
	"regsweep/mark"
	"regsweep/storage"
	"regsweep/storage/layout"

	"github.com/opencontainers/go-digest"
)

// Options configure NewPlan. The zero value is for a storage that nobody writes to.
type Options struct {
	// Now is the time of the run. Ages are relative to it.
	Now time.Time
	// MinAge keeps blobs that were written less than this before Now. The mark keeps the
	// links of that age (inventory.Options.Since).
	MinAge time.Duration
	// UploadAge keeps uploads that were begun less than this before Now.
	UploadAge time.Duration
	// DeleteUntagged must have the value that the mark was run with. It is recorded.
	DeleteUntagged bool
	// DeleteUnlinkedChildren must have the value that the mark was run with. It is recorded.
	DeleteUnlinkedChildren bool
	// PruneEmpty removes repositories without any object, and empty directories at paths
	// that a repository could have.
	PruneEmpty bool
	// PruneOnly, if set, limits PruneEmpty to some repositories, and to repositories.
	PruneOnly func(repository string) bool
	// Quarantine is set if garbage is moved to a quarantine. Objects that can't be moved are
	// then kept.
	Quarantine bool
	// MaxBytes, if it is not 0, limits the bytes of the blobs and uploads in the plan. Plan.Left
	// counts the others.
	MaxBytes int64
	// AllowEmpty accepts a registry without any tag.
	AllowEmpty bool
	// Concurrency is the number of candidates that are statted concurrently; 0 means 32.
	Concurrency int
	// Roots and KeepDigests are the checksums of the lists that the mark was run with, "" for
	// none. They are recorded.
	Roots, KeepDigests string
	// RemovesTags is set if a policy removes tags whose manifests may be alive. It is recorded.
	RemovesTags bool
	// TagReason, if set, returns why a tag is removed.
	TagReason func(repository, tag int) string
	// Protected, if set, reports whether a policy keeps the untagged manifests of a repository.
	Protected func(repository int) bool
	// Only, if set, limits the plan to the selected garbage. The mark must have been run with
	// its Roots.
	Only *Selection
}

// Plan has the removals in their order, and the totals for the report. It can be executed once.
type Plan struct {
	// Garbage counts the removals, by kind.
	Garbage map[Kind]Tally
	// ByRepository has the repositories with garbage.
	ByRepository []RepositoryGarbage
	// Unlinked counts the garbage blobs to which no repository has a link. The loss of a
	// repository leaves such blobs.
	Unlinked Tally
	// HardLinked counts the garbage blobs and uploads whose files have other hard links. Bytes
	// are the bytes that are not freed because of these links.
	HardLinked Tally
	// Left counts the garbage that Options.MaxBytes keeps out of the plan.
	Left Left
	// Live counts the kept objects.
	Live Totals
	// Kept counts the objects that no tag reaches and that are kept, with the reasons.
	Kept []Kept
	// Problems are those of the inventory, the mark and the plan.
	Problems []inventory.Problem
	// Options are the options that the plan was made with.
	Options Options

	inv  *inventory.Inventory
	live *mark.Live

	tagEntries     []tagEntry
	earlierEntries []tagEntry
	revisions      links
	orphans        []orphan
	tags           []place
	layers         links
	uploads        []upload
	repositories   []int
	blobs          []inventory.ID
	blobSizes      []int64  // sizes of blobs in bytes, from stat; nil if the listing has all sizes
	hardLinked     bits     // indexes of blobs whose files have other hard links
	empty          []string // directories of candidates that do not exist
	emptyNames     []string // empty directories at paths of repositories, with Options.PruneEmpty
	young          bits     // blobs that are kept for their age; only set if Options.Only is
	leftBlobs      bits     // blobs that Options.MaxBytes keeps out of the plan
	leftUploads    map[upload]bool
	linked         bits // stored blobs with a dead link that Options.Only does not select

	executed bool
}

// Totals count live objects. A blob that several repositories share counts once.
type Totals struct {
	Repositories int   `json:"repositories"`
	Tags         int   `json:"tags"`
	Manifests    int   `json:"manifests"`
	Blobs        int   `json:"blobs"`
	Bytes        int64 `json:"bytes"`
	// ClaimedBytes is the part of Bytes that comes from manifests, not from the storage.
	ClaimedBytes int64 `json:"claimed_bytes"`
}

// A plan in memory has ids instead of paths, because there may be millions of removals.
type (
	tagEntry struct {
		repository, tag int
		id              inventory.ID
	}
	// orphan is a link of a deleted manifest: the referrer link if it is set, otherwise the
	// link to the signature.
	orphan struct {
		repository    int
		of, signature inventory.ID
		referrer      *inventory.ReferrerLink
	}
	upload struct{ repository, at int } // repository is -1 for an upload outside of repositories
)

// blobBytes returns the size of the i-th garbage blob in bytes.
func (p *Plan) blobBytes(i int) int64 {
	if p.blobSizes != nil {
		return p.blobSizes[i]
	}
	bytes, _ := p.inv.Size(p.blobs[i])
	return bytes
}

// Frees returns the bytes that the removal of a blob frees: 0 for garbage that the plan keeps, and
// for a file that has other hard links. The size of a blob
// that is alive is from a manifest, unless the listing has it.
func (p *Plan) Frees(id inventory.ID) int64 {
	if p.live.Blob(id) != mark.Dead {
		bytes, _ := p.inv.Size(id)
		return max(bytes, 0)
	}
	if i, found := slices.BinarySearch(p.blobs, id); found && !p.hardLinked.has(i) {
		return p.blobBytes(i)
	}
	return 0
}

// All yields the removals in their order.
func (p *Plan) All() iter.Seq[Removal] {
	return func(yield func(Removal) bool) {
		for k := range table {
			for i := range table[k].len(p) {
				if !yield(p.removalOf(&table[k], i)) {
					return
				}
			}
		}
	}
}

// Refs yields the objects of all removals, in their order.
func (p *Plan) Refs() iter.Seq[storage.Ref] {
	return func(yield func(storage.Ref) bool) {
		for k := range table {
			for i := range table[k].len(p) {
				for _, ref := range p.refs(&table[k], i) {
					if !yield(ref) {
						return
					}
				}
			}
		}
	}
}

// Idle reports whether executing the plan would do nothing: it has no removals and no empty
// directories.
func (p *Plan) Idle() bool { return !p.HasGarbage() && len(p.empty) == 0 }

// HasGarbage reports whether the report of the plan counts any garbage.
func (p *Plan) HasGarbage() bool { return p.Len()+len(p.emptyNames) > 0 }

// Len returns the number of removals, without empty directories.
func (p *Plan) Len() int {
	n := 0
	for _, kind := range table {
		n += kind.len(p)
	}
	return n
}

// removalOf returns the i-th removal of a kind.
func (p *Plan) removalOf(kind *row, i int) Removal {
	removal := kind.removal(p, i)
	removal.Kind = kind.kind
	removal.Path = "/" + storage.Root + "/" + removal.Path
	return removal
}

// refs returns the objects of the i-th removal of a kind.
func (p *Plan) refs(kind *row, i int) []storage.Ref {
	switch {
	case kind.objects != nil:
		return kind.objects(p, i)
	case kind.links == nil:
		return nil
	}
	links := kind.links(kind.removal(p, i))
	refs := make([]storage.Ref, len(links))
	for n, link := range links {
		refs[n].Path = link.Path
	}
	if last := len(links) - 1; kind.isKnown != nil && kind.isKnown(p, i) {
		refs[last].Content = string(links[last].Target)
	}
	return refs
}

func (p *Plan) entryRemoval(entry tagEntry) Removal {
	r := p.inv.Repositories[entry.repository]
	removal := Removal{Repository: r.Name, Tag: r.Tags[entry.tag].Name, Digest: p.inv.Digest(entry.id)}
	removal.Path = layout.TagIndexPath(r.Name, removal.Tag, removal.Digest)
	removal.Reason = "its revision is gone"
	at, found := inventory.FindLink(r.Revisions, entry.id)
	switch {
	case found && p.live.Repositories[entry.repository].Revisions.At(at) != mark.Dead:
		removal.Reason = "its tag is removed"
	case found:
		removal.Reason = "its revision goes"
	}
	return removal
}

func (p *Plan) revisionRemoval(i int) Removal {
	link := p.revisions.get(i)
	r := p.inv.Repositories[link.repository]
	id := r.Revisions[link.at].ID()
	removal := Removal{Repository: r.Name, Digest: p.inv.Digest(id), Signatures: len(r.Signatures[id]), Reason: "untagged"}
	for _, signature := range r.Signatures[id] {
		removal.SignatureDigests = append(removal.SignatureDigests, p.inv.Digest(signature))
	}
	for _, link := range r.Referrers[id] {
		removal.Referrers = append(removal.Referrers, p.referrer(link))
	}
	removal.Path = layout.RevisionPath(r.Name, removal.Digest)
	return removal
}

func (p *Plan) orphanRemoval(i int) Removal {
	o := p.orphans[i]
	removal := Removal{
		Repository: p.inv.Repositories[o.repository].Name, Digest: p.inv.Digest(o.of),
		Path: o.path(p.inv), Reason: "its manifest was deleted",
	}
	if o.referrer != nil {
		removal.Referrers = []Referrer{p.referrer(*o.referrer)}
	} else {
		removal.Signatures, removal.SignatureDigests = 1, []digest.Digest{p.inv.Digest(o.signature)}
	}
	return removal
}

func (p *Plan) tagRemoval(i int) Removal {
	r, tag := p.tag(i)
	removal := Removal{
		Repository: r.Name, Tag: tag.Name, Digest: p.inv.Digest(tag.Target),
		Path: layout.TagPath(r.Name, tag.Name), Reason: "no root reaches its manifest",
		Pushed: r.TagPushed(p.tags[i].at).UTC(),
	}
	if p.Options.TagReason != nil {
		removal.Reason = p.Options.TagReason(p.tags[i].repository, p.tags[i].at)
	}
	return removal
}

func (p *Plan) layerRemoval(i int) Removal {
	link := p.layers.get(i)
	r := p.inv.Repositories[link.repository]
	id := r.Layers[link.at].ID()
	removal := Removal{Repository: r.Name, Digest: p.inv.Digest(id), Reason: "no live manifest of the repository reaches it"}
	removal.Path = layout.LayerPath(r.Name, removal.Digest)
	if to, alias := r.Aliases[id]; alias {
		removal.Target = p.inv.Digest(to)
	} else if !p.inv.Stored(id) {
		removal.Reason = "no live manifest of the repository reaches it, and its blob is missing"
	}
	return removal
}

func (p *Plan) uploadRemoval(i int) Removal {
	u, repository := p.upload(i)
	path := u.Objects[0].Path
	if repository != "" {
		path = layout.UploadPath(repository, u.ID)
	}
	return Removal{Repository: repository, Upload: u.ID, Bytes: u.Bytes, Path: path, Reason: "begun " + u.Started.UTC().Format(time.RFC3339)}
}

func (p *Plan) repositoryRemoval(i int) Removal {
	r := p.inv.Repositories[p.repositories[i]]
	return Removal{Repository: r.Name, Path: layout.RepositoryPath(r.Name), Reason: "nothing is left in it"}
}

func (p *Plan) blobRemoval(i int) Removal {
	d := p.inv.Digest(p.blobs[i])
	return Removal{Digest: d, Bytes: p.blobBytes(i), Path: layout.BlobPath(d), Reason: "no live manifest of any repository reaches it"}
}

func (p *Plan) referrer(link inventory.ReferrerLink) Referrer {
	return Referrer{Subject: p.inv.Digest(link.Subject), Type: link.Type}
}

func (p *Plan) upload(i int) (u inventory.Upload, repository string) { return p.uploadAt(p.uploads[i]) }

func (p *Plan) uploadAt(at upload) (u inventory.Upload, repository string) {
	if at.repository < 0 {
		return p.inv.Uploads[at.at], ""
	}
	r := p.inv.Repositories[at.repository]
	return r.Uploads[at.at], r.Name
}

func (p *Plan) tag(i int) (*inventory.Repository, inventory.Tag) {
	r := p.inv.Repositories[p.tags[i].repository]
	return r, r.Tags[p.tags[i].at]
}

// isEntryKnown implements row.isKnown. Of the index entries only the verified ones were read.
func (p *Plan) isEntryKnown(entry tagEntry) bool {
	index := p.inv.Repositories[entry.repository].Tags[entry.tag].Index
	at, found := inventory.FindLink(index, entry.id)
	return found && index[at].Verified() && p.inv.Stored(entry.id)
}

// isLayerKnown implements row.isKnown. The mark has read all dead links of layers and revisions
// that were not verified.
func (p *Plan) isLayerKnown(i int) bool {
	link := p.layers.get(i)
	r := p.inv.Repositories[link.repository]
	id := r.Layers[link.at].ID()
	if to, isAlias := r.Aliases[id]; isAlias {
		id = to
	}
	return p.inv.Stored(id)
}

// Keeps reports whether a blob is stored, and the plan does not remove it.
func (p *Plan) Keeps(blob digest.Digest) bool {
	id := p.inv.ID(blob)
	_, removed := slices.BinarySearch(p.blobs, id)
	return p.inv.Stored(id) && !removed
}
