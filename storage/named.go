package storage

import (
	"context"
	"path"
	"slices"
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
	return n.dir + "/" + hexOfSum(n.sums[i]) + "/" + n.file
}

// readLinkObject is a link that was read and says a digest.
func readLinkObject(path string, sum *[32]byte) Object {
	content := []byte(sha256Digest(sum))
	return Object{Path: path, Size: int64(len(content)), Content: content}
}

// objects are the tags' links as Scan reports them.
func (n namedTags) objects() []Object {
	page := make([]Object, 0, 2*len(n.tags))
	for _, tag := range n.tags {
		at := n.dir + "/" + tag.name
		page = append(page, readLinkObject(at+"/current/"+linkFile, &tag.target))
		page = append(page, namedDigests{dir: at + "/index/sha256", file: linkFile, sums: tag.entries()}.objects()...)
	}
	return page
}

// scan has the store report what it knows by names apart, if it can.
func (b *inventoryBuilder) scan(ctx context.Context, dir string, visit nameVisitor) error {
	if s, ok := b.store.(nameScanner); ok {
		return s.scanNames(ctx, dir, visit)
	}
	return b.store.Scan(ctx, dir, visit.objects)
}

// blobVisitor and repositoryVisitor make the inventory of what a scan of either tree brings.
func (b *inventoryBuilder) blobVisitor() nameVisitor {
	return nameVisitor{objects: b.visitBlobs, digests: b.visitNamedBlobs}
}

func (b *inventoryBuilder) repositoryVisitor() nameVisitor {
	return nameVisitor{objects: b.visitRepositories, digests: b.visitNamedLinks, tags: b.visitNamedTags}
}

// visitNamedBlobs does what visitBlobs does.
func (b *inventoryBuilder) visitNamedBlobs(n namedDigests) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range n.sums {
		b.inv.blobs.put(blob{sha256: n.sums[i], size: -1}, len(n.sums)-i)
	}
	b.countBlobs(len(n.sums))
	return nil
}

// visitNamedLinks does what visitRepositories does, and for all other links but layers' and
// revisions', which are most, has it done there.
func (b *inventoryBuilder) visitNamedLinks(n namedDigests) error {
	e := parsePath(n.path(0))
	isRevision := e.kind == kindRevision && (n.read || n.absent)
	if !isRevision && e.kind != kindLayer || !b.options.Since.IsZero() {
		return b.visitRepositories(n.objects())
	}
	rb := b.repository(e.repository)
	rb.mu.Lock()
	defer rb.mu.Unlock()
	b.countLinks(len(n.sums))
	if n.absent {
		for i := range n.sums {
			rb.r.Emptied = append(rb.r.Emptied, path.Dir(n.path(i)))
		}
		return nil
	}
	links := &rb.r.Layers
	if isRevision {
		links = &rb.r.Revisions
	}
	rb.r.LayerDirs = rb.r.LayerDirs || !isRevision
	*links = slices.Grow(*links, len(n.sums))
	for batch := range slices.Chunk(n.sums, pageBatch) {
		for _, id := range b.inv.sha256IDs(batch) {
			*links = append(*links, newLink(id, n.read))
		}
	}
	return nil
}

// visitNamedTags does what visitRepositories does.
func (b *inventoryBuilder) visitNamedTags(n namedTags) error {
	e := parsePath(n.dir + "/" + n.tags[0].name + "/current/" + linkFile)
	if e.kind != kindTag {
		return b.visitRepositories(n.objects())
	}
	rb := b.repository(e.repository)
	rb.mu.Lock()
	defer rb.mu.Unlock()
	links := 0
	for batch := range slices.Chunk(n.tags, pageBatch) {
		var sums [pageBatch][32]byte
		for i := range batch {
			sums[i] = batch[i].target
		}
		for i, id := range b.inv.sha256IDs(sums[:len(batch)]) {
			t := rb.tags.named(batch[i].name)
			t.hasCurrent, t.target, t.hasTarget = true, id, true
			if batch[i].index == nil {
				t.addEntry(newLink(id, false))
			}
			for entries := range slices.Chunk(batch[i].index, pageBatch) {
				for _, id := range b.inv.sha256IDs(entries) {
					t.addEntry(newLink(id, false))
				}
			}
			links += 1 + max(1, len(batch[i].index))
		}
	}
	b.countLinks(links)
	return nil
}

func (b *inventoryBuilder) countLinks(n int) {
	if b.options.OnLinks != nil {
		b.options.OnLinks(n)
	}
}
