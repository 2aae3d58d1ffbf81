package inventory

import (
	"context"
	"path"
	"slices"

	"regsweep/storage"
	"regsweep/storage/layout"
)

// scan lists a tree. A storage.NameScanner reports digests and tags without making Objects.
func (b *builder) scan(ctx context.Context, dir string, visit storage.NameVisitor) error {
	if s, ok := b.store.(storage.NameScanner); ok {
		return s.ScanNames(ctx, dir, visit)
	}
	return b.store.Scan(ctx, dir, visit.Objects)
}

// blobVisitor adds the objects of a scan of the blobs to the inventory.
func (b *builder) blobVisitor() storage.NameVisitor {
	return storage.NameVisitor{Objects: b.visitBlobs, Digests: b.visitNamedBlobs}
}

// repositoryVisitor adds the objects of a scan of the repositories to the inventory.
func (b *builder) repositoryVisitor() storage.NameVisitor {
	return storage.NameVisitor{Objects: b.visitRepositories, Digests: b.visitNamedLinks, Tags: b.visitNamedTags}
}

// visitNamedBlobs is visitBlobs for NamedDigests.
func (b *builder) visitNamedBlobs(n storage.NamedDigests) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range n.Digests {
		b.inv.blobs.put(blob{sha256: n.Digests[i], size: -1}, len(n.Digests)-i)
	}
	b.countBlobs(len(n.Digests))
	return nil
}

// visitNamedLinks is visitRepositories for NamedDigests. It adds the links of layers and revisions,
// which are most links, and passes all other links to visitRepositories.
func (b *builder) visitNamedLinks(n storage.NamedDigests) error {
	e := layout.Parse(n.Path(0))
	isRevision := e.Kind == layout.Revision && (n.Read || n.Absent)
	if !isRevision && e.Kind != layout.Layer || !b.options.Since.IsZero() {
		return b.visitRepositories(n.Objects())
	}
	rb := b.repository(e.Repository)
	rb.mu.Lock()
	defer rb.mu.Unlock()
	b.countLinks(len(n.Digests))
	if n.Absent {
		for i := range n.Digests {
			rb.r.Emptied = append(rb.r.Emptied, path.Dir(n.Path(i)))
		}
		return nil
	}
	links := &rb.r.Layers
	if isRevision {
		links = &rb.r.Revisions
	}
	rb.r.LayerDirs = rb.r.LayerDirs || !isRevision
	*links = slices.Grow(*links, len(n.Digests))
	for batch := range slices.Chunk(n.Digests, pageBatch) {
		for _, id := range b.inv.sha256IDs(batch) {
			*links = append(*links, newLink(id, n.Read))
		}
	}
	return nil
}

// visitNamedTags is visitRepositories for NamedTags.
func (b *builder) visitNamedTags(n storage.NamedTags) error {
	e := layout.Parse(n.Dir + "/" + n.Tags[0].Name + "/current/" + layout.LinkFile)
	if e.Kind != layout.Tag {
		return b.visitRepositories(n.Objects())
	}
	rb := b.repository(e.Repository)
	rb.mu.Lock()
	defer rb.mu.Unlock()
	links := 0
	for batch := range slices.Chunk(n.Tags, pageBatch) {
		var sums [pageBatch][32]byte
		for i := range batch {
			sums[i] = batch[i].Target
		}
		for i, id := range b.inv.sha256IDs(sums[:len(batch)]) {
			t := rb.tags.named(batch[i].Name)
			t.hasCurrent, t.target, t.hasTarget = true, id, true
			if batch[i].Index == nil {
				t.addEntry(newLink(id, false))
			}
			for entries := range slices.Chunk(batch[i].Index, pageBatch) {
				for _, id := range b.inv.sha256IDs(entries) {
					t.addEntry(newLink(id, false))
				}
			}
			links += 1 + max(1, len(batch[i].Index))
		}
	}
	b.countLinks(links)
	return nil
}

func (b *builder) countLinks(n int) {
	if b.options.OnLinks != nil {
		b.options.OnLinks(n)
	}
}
