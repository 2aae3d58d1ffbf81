package inventory

import (
	"context"
	"slices"

	"regsweep/storage"
	"regsweep/storage/layout"
)

// scan lists a tree. A storage.NameScanner reports digests without making Objects. With Options.Sizes a
// storage.SizedScanner reports the sizes.
func (b *builder) scan(ctx context.Context, dir string, objects func([]storage.Object) error, digests func(storage.NamedDigests) error) error {
	if s, ok := b.store.(storage.SizedScanner); ok && b.options.Sizes {
		return s.ScanSized(ctx, dir, objects)
	}
	if s, ok := b.store.(storage.NameScanner); ok {
		return s.ScanNames(ctx, dir, objects, digests)
	}
	return b.store.Scan(ctx, dir, objects)
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

// visitNamedLinks is visitRepositories for NamedDigests, which are links of layers or revisions.
func (b *builder) visitNamedLinks(n storage.NamedDigests) error {
	if !b.options.Since.IsZero() { // each link needs a stat
		return b.visitRepositories(n.Objects())
	}
	e := layout.Parse(n.Path(0))
	rb := b.repository(e.Repository)
	rb.mu.Lock()
	defer rb.mu.Unlock()
	links := &rb.r.Revisions
	if e.Kind == layout.Layer {
		links, rb.r.LayerDirs = &rb.r.Layers, true
	}
	*links = slices.Grow(*links, len(n.Digests))
	for batch := range slices.Chunk(n.Digests, pageBatch) {
		for _, id := range b.inv.sha256IDs(batch) {
			*links = append(*links, newLink(id, n.Verified))
		}
	}
	b.countLinks(len(n.Digests))
	return nil
}
