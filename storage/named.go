package storage

import (
	"context"
	"path"
	"slices"
)

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
