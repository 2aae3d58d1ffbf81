package inventory

import (
	"fmt"
	"path"
	"strings"
	"sync"
	"time"

	"regsweep/storage"
	"regsweep/storage/layout"

	"github.com/opencontainers/go-digest"
)

// builder collects the pages of a scan, which come from several goroutines.
type builder struct {
	store   storage.Store
	options Options
	inv     *Inventory
	ahead   *ahead // nil unless Options.OnRevision is set

	mu           sync.Mutex // guards all fields below, and inv
	noted        noted
	strays       []Problem
	emptyNames   []Problem
	otherProduct string // the first path that only another product writes
	repositories map[string]*repositoryBuilder
}

// noted are facts about listed blobs that have no id yet.
type noted struct {
	recent, hardLinked [][32]byte
	days               []blobDay // only with Options.Sizes
}

// blobDay is the day on which a blob was written, in days since 1970.
type blobDay struct {
	sha256 [32]byte
	day    uint16
}

// add notes facts about a blob.
func (n *noted) add(b *blob, object storage.Object, options Options) {
	if options.isRecent(object) {
		n.recent = append(n.recent, b.sha256)
	}
	if object.HardLinked {
		n.hardLinked = append(n.hardLinked, b.sha256)
	}
	if options.Sizes && !object.ModTime.IsZero() {
		n.days = append(n.days, blobDay{b.sha256, dayOf(object.ModTime)})
	}
}

func (n *noted) addAll(other noted) {
	n.recent = append(n.recent, other.recent...)
	n.hardLinked = append(n.hardLinked, other.hardLinked...)
	n.days = append(n.days, other.days...)
}

// repositoryBuilder collects the objects of a repository.
type repositoryBuilder struct {
	mu      sync.Mutex
	r       *Repository
	tags    tagsBuilder
	uploads map[string]*uploadBuilder
	pending []pendingLink
}

func (b *builder) visitBlobs(page []storage.Object) error {
	blobs := make([]blob, 0, len(page))
	var noted noted
	for _, object := range page {
		e := layout.Parse(object.Path)
		switch {
		case object.Dir:
			if _, ok := layout.Emptied(object.Path); ok && !b.isRecent(object) {
				b.mu.Lock()
				b.inv.Emptied = append(b.inv.Emptied, strings.Clone(object.Path))
				b.mu.Unlock()
			}
		case object.Multipart != "" && e.Kind == layout.Blob:
			b.mu.Lock()
			b.inv.Uploads = append(b.inv.Uploads, looseUpload(object))
			b.mu.Unlock()
		case object.Multipart != "":
			b.strayOutside(object)
		case e.Kind == layout.Blob && e.Digest.Alg == "sha256":
			next := blob{sha256: layout.DecodeSHA256(e.Digest.Hex), size: object.Size}
			blobs = append(blobs, next)
			noted.add(&next, object, b.options)
		default:
			if e.Kind == layout.Blob {
				b.addOther(e.Digest, object.Size)
			}
			b.strayOutside(object)
		}
	}
	b.addBlobs(blobs, noted)
	return nil
}

// addOther records a blob that is stored under another algorithm than sha256.
func (b *builder) addOther(n layout.Name, size int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.inv.Others == nil {
		b.inv.Others = map[digest.Digest]int64{}
	}
	b.inv.Others[digest.NewDigestFromEncoded(digest.Algorithm(strings.Clone(n.Alg)), strings.Clone(n.Hex))] = size
}

// addBlobs adds a page of blobs.
func (b *builder) addBlobs(blobs []blob, noted noted) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.inv.blobs.add(blobs...)
	b.noted.addAll(noted)
	b.countBlobs(len(blobs))
}

func (b *builder) countBlobs(n int) {
	if b.options.OnBlobs != nil {
		b.options.OnBlobs(n)
	}
}

func (b *builder) isRecent(object storage.Object) bool { return b.options.isRecent(object) }

func (o Options) isRecent(object storage.Object) bool {
	return !o.Since.IsZero() && object.ModTime.After(o.Since)
}

// pageBatch is how many objects of a page are looked up together.
const pageBatch = 64

func (b *builder) visitRepositories(page []storage.Object) error {
	links := 0
	var entries [pageBatch]located
	var rb *repositoryBuilder
	defer func() {
		if rb != nil {
			rb.mu.Unlock()
		}
	}()
	for i, object := range page {
		if i%pageBatch == 0 {
			batch := page[i:min(i+pageBatch, len(page))]
			for j := range batch {
				entries[j] = located{Entry: layout.Parse(batch[j].Path)}
			}
			b.inv.identify(entries[:len(batch)])
		}
		e := entries[i%pageBatch]
		repository := e.Repository
		if repository == "" {
			if !object.Dir {
				b.strayOutside(object)
			} else if isName, ok := layout.Emptied(object.Path); ok && isName {
				b.emptyName(object)
			}
			continue
		}
		// Nearly all objects of a repository follow one another in a page.
		if rb == nil || rb.r.Name != repository {
			if rb != nil {
				rb.mu.Unlock()
			}
			rb = b.repository(repository)
			rb.mu.Lock()
		}
		b.add(rb, object, e)
		links++
	}
	b.countLinks(links)
	return nil
}

func (b *builder) countLinks(n int) {
	if b.options.OnLinks != nil {
		b.options.OnLinks(n)
	}
}

// emptyName records an empty directory in which a repository could be. If a disk is not mounted
// there, the blobs of its repositories look like garbage.
func (b *builder) emptyName(object storage.Object) {
	path := strings.Clone(object.Path)
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.emptyNames) < maxNamedStrays {
		b.emptyNames = append(b.emptyNames, Problem{
			Kind: EmptyDirectory, Path: path, Effect: Note,
			Detail: "an empty directory where a repository could be: if a disk belongs here, mount it before anything is removed (--prune-empty removes the directory)",
		})
	}
	if !b.isRecent(object) {
		b.inv.EmptiedNames = append(b.inv.EmptiedNames, path)
	}
}

func (b *builder) repository(name string) *repositoryBuilder {
	b.mu.Lock()
	defer b.mu.Unlock()
	rb := b.repositories[name]
	if rb == nil {
		rb = &repositoryBuilder{r: &Repository{Name: strings.Clone(name)}}
		b.repositories[rb.r.Name] = rb
	}
	return rb
}

// add adds one object to a repository. The caller holds rb.mu.
func (b *builder) add(rb *repositoryBuilder, object storage.Object, e located) {
	if object.Multipart != "" && e.Kind != layout.Upload {
		b.strayIn(rb, object)
		return
	}
	if object.Dir && object.Err != nil {
		rb.upload(path.Base(object.Path)).failure = object.Err
		return
	}
	if object.Dir {
		// A recent empty directory may belong to an upload that has just begun.
		if _, ok := layout.Emptied(object.Path); ok && !b.isRecent(object) {
			rb.r.Emptied = append(rb.r.Emptied, strings.Clone(object.Path))
		}
		return
	}
	if object.ModTime.After(rb.r.Pushed) && isPlausible(object.ModTime) && isPushed(e.Entry) {
		rb.r.Pushed = object.ModTime
	}
	if e.Kind.IsLink() && b.options.Sizes {
		rb.r.LinkBytes += max(object.Size, 0)
	}
	needTime := !b.options.Since.IsZero() && object.ModTime.IsZero()
	switch e.Kind {
	case layout.Repository: // a file or a "folder/" key of that name
		b.strayIn(rb, object)
	case layout.Layer:
		rb.r.LayerDirs = rb.r.LayerDirs || object.Named
		// The content of a sha256 layer link does not matter while the link is kept: if it
		// names another blob, no client accepts that blob for the digest that it requested.
		// The link is read before it is removed.
		if e.Digest.Alg == "sha256" {
			rb.r.Layers = append(rb.r.Layers, newLink(e.id, provesContent(object, e.Digest)))
			if needTime {
				rb.postpone(object, e, false, true)
			} else {
				b.noteRecent(rb, e, object)
			}
			return
		}
		b.addRead(rb, object, e, needTime)
	case layout.Revision:
		if b.ahead != nil && !object.Named && b.inv.Stored(e.id) {
			b.ahead.add(e.id)
		}
		b.addRead(rb, object, e, needTime)
	case layout.Tag:
		b.addCurrent(rb, rb.tags.named(e.Tag), object)
	case layout.TagIndex:
		rb.tags.named(e.Tag).addIndex(e, object)
	case layout.Signature:
		if rb.r.Signatures == nil {
			rb.r.Signatures = map[ID][]ID{}
		}
		of := b.inv.id(e.Revision)
		rb.r.Signatures[of] = append(rb.r.Signatures[of], e.id)
		b.dateAttached(rb, object, e, needTime)
	case layout.Referrer:
		if rb.r.Referrers == nil {
			rb.r.Referrers = map[ID][]ReferrerLink{}
		}
		link := ReferrerLink{Subject: b.inv.id(e.Revision), Type: strings.Clone(e.Artifact)}
		rb.r.Referrers[e.id] = append(rb.r.Referrers[e.id], link)
		b.dateAttached(rb, object, e, needTime)
	case layout.Upload:
		rb.addUpload(object, e)
	case layout.Stray:
		b.strayIn(rb, object)
		if isStrayLink(e, object.Path) {
			rb.postpone(object, e, true, false)
		}
	}
}

// dateAttached records whether a link of a signature or a referrer is recent.
func (b *builder) dateAttached(rb *repositoryBuilder, object storage.Object, e located, needTime bool) {
	if needTime {
		rb.postpone(object, e, false, true)
	} else {
		b.noteRecent(rb, e, object)
	}
}

// addRead adds a link whose content matters.
func (b *builder) addRead(rb *repositoryBuilder, object storage.Object, e located, needTime bool) {
	isVerified := object.Content != nil || provesContent(object, e.Digest)
	if needTime || !isVerified {
		rb.postpone(object, e, !isVerified, needTime)
		return
	}
	b.addKnown(rb, object, e, isVerified)
}

// addKnown adds a link whose content and time are known as far as they matter. Content may be
// nil if the link was verified to contain the digest in its path.
func (b *builder) addKnown(rb *repositoryBuilder, object storage.Object, e located, isVerified bool) {
	b.noteRecent(rb, e, object)
	own := e.id
	if object.Content != nil && !e.Digest.IsSaidBy(object.Content) {
		target, ok, detail := layout.LinkTarget(object.Content)
		if !ok {
			rb.damaged(object.Path, detail)
		}
		if target != "" {
			id := b.inv.ID(target)
			switch {
			case id == own:
			case e.Kind == layout.Revision:
				rb.r.Doubted = append(rb.r.Doubted, id)
				rb.damaged(object.Path, fmt.Sprintf("names %s, another manifest than its path does", target))
			default:
				if rb.r.Aliases == nil {
					rb.r.Aliases = map[ID]ID{}
				}
				rb.r.Aliases[own] = id
			}
		}
	}
	switch e.Kind {
	case layout.Layer:
		rb.r.Layers = append(rb.r.Layers, newLink(own, isVerified))
	case layout.Revision:
		rb.r.Revisions = append(rb.r.Revisions, newLink(own, isVerified))
	}
}

func (rb *repositoryBuilder) damaged(path, detail string) {
	rb.r.Problems = append(rb.r.Problems, Problem{
		Kind: DamagedLink, Repository: rb.r.Name, Path: strings.Clone(path), Effect: KeepsRepository, Detail: detail,
	})
}

func (b *builder) noteRecent(rb *repositoryBuilder, e located, object storage.Object) {
	if !b.isRecent(object) {
		return
	}
	if rb.r.Recent == nil {
		rb.r.Recent = map[ID]time.Time{}
	}
	note := func(id ID) {
		if object.ModTime.After(rb.r.Recent[id]) {
			rb.r.Recent[id] = object.ModTime
		}
	}
	note(e.id)
	if e.Kind == layout.Signature { // the manifest is being pushed
		note(b.inv.id(e.Revision))
	}
}
