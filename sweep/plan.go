package sweep

import (
	"iter"
	"time"

	"regsweep/inventory"
	"regsweep/mark"
	"regsweep/storage"
	"regsweep/storage/layout"

	"github.com/opencontainers/go-digest"
)

// Options are the zero value for a storage that nobody writes to.
type Options struct {
	// Now is the time of the run, against which ages are reckoned.
	Now time.Time
	// MinAge keeps blobs that were written less than this before Now. Links of
	// that age are the mark's to keep (inventory.Options.Since).
	MinAge time.Duration
	// UploadAge keeps uploads that were begun less than this before Now.
	UploadAge time.Duration
	// DeleteUntagged must be what the mark was run with. It is recorded.
	DeleteUntagged bool
	// DeleteUnlinked must be what the mark was run with. It is recorded.
	DeleteUnlinked bool
	// PruneEmpty removes repositories in which nothing is left, and empty directories where
	// a repository could be.
	PruneEmpty bool
	// Quarantine is for a plan whose removals are moved and can be undone: what can't be
	// moved stays.
	Quarantine bool
	// AllowEmpty accepts a registry in which no tag is to be found.
	AllowEmpty bool
	// Concurrency is how many candidates are looked at at once; 32 if it is 0.
	Concurrency int
	// Roots and KeepDigests are the checksums of the lists that the mark was run with, "" for
	// none. They are recorded.
	Roots, KeepDigests string
	// Only, if set, is all that may go of what would go otherwise. The mark must have
	// been run with its MayGo.
	Only *Selection
}

// Plan is what goes, in order. It can be executed once.
type Plan struct {
	// Garbage counts what goes, by kind.
	Garbage map[Kind]Tally
	// ByRepository counts what is removed from each repository, if anything is.
	ByRepository []RepositoryGarbage
	// Unlinked counts those of the blobs that go to which no repository has a link. They are
	// what a repository that is missing leaves.
	Unlinked Tally
	// HardLinked counts the blobs and uploads that go while their files have other hard links,
	// and the bytes that are not freed for that.
	HardLinked Tally
	// Live counts what stays.
	Live Totals
	// Kept says what might have gone, and why it does not.
	Kept []Kept
	// Problems are all that were met.
	Problems []inventory.Problem
	// Options are what the plan was made with.
	Options Options

	inv  *inventory.Inventory
	live *mark.Live

	tagEntries   []tagEntry
	revisions    links
	orphans      []orphan
	tags         []place
	layers       links
	uploads      []upload
	repositories []int
	blobs        []inventory.ID
	looked       []int64  // their sizes in bytes, where the storage had to be asked for them; or nil
	empty        []string // directories in which a candidate was not to be found
	emptyNames   []string // directories where a repository could be, with Options.PruneEmpty
	young        bits     // blobs that stay for their age; filled where Options.Only is set
	linked       bits     // stored blobs that a link leads to which goes but for Options.Only

	executed bool
}

// Totals count what a mark has found alive. A blob counts once however many
// repositories share it.
type Totals struct {
	Repositories int   `json:"repositories"`
	Tags         int   `json:"tags"`
	Manifests    int   `json:"manifests"`
	Blobs        int   `json:"blobs"`
	Bytes        int64 `json:"bytes"`
	// ClaimedBytes are those of Bytes that manifests claim and nobody has measured.
	ClaimedBytes int64 `json:"claimed_bytes"`
}

// The plan in memory: ids, not paths, since there may be millions.
type (
	tagEntry struct {
		repository, tag int
		id              inventory.ID
	}
	// orphan is a link of a deleted manifest: the signature, or the referrer link if there
	// is one.
	orphan struct {
		repository    int
		of, signature inventory.ID
		referrer      *inventory.ReferrerLink
	}
	upload struct{ repository, at int } // repository is -1 for one of no repository
)

// blobBytes is the size of the i-th blob that goes.
func (p *Plan) blobBytes(i int) int64 {
	if p.looked != nil {
		return p.looked[i]
	}
	bytes, _ := p.inv.Size(p.blobs[i])
	return bytes
}

// All yields the removals in their order.
func (p *Plan) All() iter.Seq[Removal] {
	return func(yield func(Removal) bool) {
		for _, kind := range Kinds {
			for i := range p.len(kind) {
				if !yield(p.removal(kind, i)) {
					return
				}
			}
		}
	}
}

// Refs yields the objects that the removals consist of.
func (p *Plan) Refs() iter.Seq[storage.Ref] {
	return func(yield func(storage.Ref) bool) {
		for _, kind := range Kinds {
			for i := range p.len(kind) {
				for _, ref := range p.refs(kind, i) {
					if !yield(ref) {
						return
					}
				}
			}
		}
	}
}

// Idle reports whether executing the plan would do nothing at all: there is nothing to
// remove, nor an empty directory to clear up.
func (p *Plan) Idle() bool { return !p.HasGarbage() && len(p.empty) == 0 }

// HasGarbage reports whether the plan removes anything that it counts.
func (p *Plan) HasGarbage() bool { return p.Len()+len(p.emptyNames) > 0 }

// Len is the number of removals.
func (p *Plan) Len() int {
	n := 0
	for _, kind := range Kinds {
		n += p.len(kind)
	}
	return n
}

func (p *Plan) len(kind Kind) int {
	switch kind {
	case TagIndexEntry:
		return len(p.tagEntries)
	case Revision:
		return p.revisions.len()
	case OrphanLink:
		return len(p.orphans)
	case Tag:
		return len(p.tags)
	case LayerLink:
		return p.layers.len()
	case Upload:
		return len(p.uploads)
	case Repository:
		return len(p.repositories)
	default:
		return len(p.blobs)
	}
}

// removal writes out the i-th removal of a kind.
func (p *Plan) removal(kind Kind, i int) Removal {
	removal := Removal{Kind: kind}
	switch kind {
	case TagIndexEntry:
		entry := p.tagEntries[i]
		r := p.inv.Repositories[entry.repository]
		removal.Repository, removal.Tag, removal.Digest = r.Name, r.Tags[entry.tag].Name, p.inv.Digest(entry.id)
		removal.Path = layout.TagIndexPath(r.Name, removal.Tag, removal.Digest)
		removal.Reason = "its revision is gone"
		at, found := inventory.FindLink(r.Revisions, entry.id)
		switch {
		case found && p.live.Repositories[entry.repository].Revisions.At(at) != mark.Dead:
			removal.Reason = "its tag is removed"
		case found:
			removal.Reason = "its revision goes"
		}
	case Revision:
		link := p.revisions.get(i)
		r := p.inv.Repositories[link.repository]
		id := r.Revisions[link.at].ID()
		removal.Repository, removal.Digest, removal.Signatures = r.Name, p.inv.Digest(id), len(r.Signatures[id])
		for _, signature := range r.Signatures[id] {
			removal.SignatureDigests = append(removal.SignatureDigests, p.inv.Digest(signature))
		}
		for _, link := range r.Referrers[id] {
			removal.Referrers = append(removal.Referrers, p.referrer(link))
		}
		removal.Path = layout.RevisionPath(r.Name, removal.Digest)
		removal.Reason = "untagged"
	case OrphanLink:
		o := p.orphans[i]
		removal.Repository, removal.Digest = p.inv.Repositories[o.repository].Name, p.inv.Digest(o.of)
		if o.referrer != nil {
			removal.Referrers = []Referrer{p.referrer(*o.referrer)}
		} else {
			removal.Signatures, removal.SignatureDigests = 1, []digest.Digest{p.inv.Digest(o.signature)}
		}
		removal.Path = removal.Links()[0].Path
		removal.Reason = "its manifest was deleted"
	case Tag:
		r := p.inv.Repositories[p.tags[i].repository]
		tag := r.Tags[p.tags[i].tag]
		removal.Repository, removal.Tag, removal.Digest = r.Name, tag.Name, p.inv.Digest(tag.Target)
		removal.Path = layout.TagPath(r.Name, tag.Name)
		removal.Reason = "no root reaches its manifest"
	case LayerLink:
		link := p.layers.get(i)
		r := p.inv.Repositories[link.repository]
		id := r.Layers[link.at].ID()
		removal.Repository, removal.Digest = r.Name, p.inv.Digest(id)
		removal.Path = layout.LayerPath(r.Name, removal.Digest)
		removal.Reason = "no live manifest of the repository reaches it"
		if to, alias := r.Aliases[id]; alias {
			removal.Target = p.inv.Digest(to)
		} else if !p.inv.Stored(id) {
			removal.Reason = "no live manifest of the repository reaches it, and its blob is missing"
		}
	case Upload:
		u, repository := p.upload(i)
		removal.Repository, removal.Upload, removal.Bytes = repository, u.ID, u.Bytes
		removal.Path = u.Objects[0].Path
		if repository != "" {
			removal.Path = layout.UploadPath(repository, u.ID)
		}
		removal.Reason = "begun " + u.Started.UTC().Format(time.RFC3339)
	case Repository:
		r := p.inv.Repositories[p.repositories[i]]
		removal.Repository, removal.Path = r.Name, layout.RepositoryPath(r.Name)
		removal.Reason = "nothing is left in it"
	case Blob:
		removal.Digest, removal.Bytes = p.inv.Digest(p.blobs[i]), p.blobBytes(i)
		removal.Path = layout.BlobPath(removal.Digest)
		removal.Reason = "no live manifest of any repository reaches it"
	}
	removal.Path = "/" + storage.Root + "/" + removal.Path
	return removal
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

// refs are the objects that the i-th removal of a kind consists of.
func (p *Plan) refs(kind Kind, i int) []storage.Ref {
	switch kind {
	case Upload:
		u, _ := p.upload(i)
		return u.Objects
	case Repository:
		return nil
	case Blob:
		return []storage.Ref{{Path: layout.BlobPath(p.inv.Digest(p.blobs[i]))}}
	}
	links := p.removal(kind, i).Links()
	refs := make([]storage.Ref, len(links))
	for n, link := range links {
		refs[n].Path = link.Path
	}
	if last := len(links) - 1; p.isKnown(kind, i) {
		refs[last].Content = string(links[last].Target)
	}
	return refs
}

// isKnown reports whether the i-th link of a kind is known to say what its removal has
// as its target, and leads to a blob. The mark has read the links of layers and
// revisions that go, unless they were verified.
func (p *Plan) isKnown(kind Kind, i int) bool {
	switch kind {
	case TagIndexEntry:
		entry := p.tagEntries[i]
		index := p.inv.Repositories[entry.repository].Tags[entry.tag].Index
		at, found := inventory.FindLink(index, entry.id)
		return found && index[at].Verified() && p.inv.Stored(entry.id)
	case Revision:
		link := p.revisions.get(i)
		return p.inv.Stored(p.inv.Repositories[link.repository].Revisions[link.at].ID())
	case OrphanLink:
		return false
	case Tag:
		return p.inv.Stored(p.inv.Repositories[p.tags[i].repository].Tags[p.tags[i].tag].Target)
	}
	link := p.layers.get(i)
	r := p.inv.Repositories[link.repository]
	id := r.Layers[link.at].ID()
	if to, isAlias := r.Aliases[id]; isAlias {
		id = to
	}
	return p.inv.Stored(id)
}
