package storage

import (
	"context"
	"slices"
	"strings"
)

// named are files that are known by the names of their directories: dir/<name>/file for
// each name. Of a filesystem's blobs and layer links a scan learns nothing else, so that
// neither paths nor objects need be made of them.
type named struct {
	dir, file string
	names     []string
}

// namedScanner is a Scanner that can report such files apart from others. visit and
// visitNamed are called as Scan calls visit.
type namedScanner interface {
	scanNamed(ctx context.Context, dir string, visit func([]Object) error, visitNamed func(named) error) error
}

// objects are the files as Scan reports them.
func (n named) objects() []Object {
	page := make([]Object, 0, len(n.names))
	for _, path := range n.paths() {
		page = append(page, Object{Path: path, Size: -1, Named: true})
	}
	return page
}

// paths are the files' paths, all parts of one string.
func (n named) paths() []string {
	var all strings.Builder
	length := 0
	for _, name := range n.names {
		length += len(n.dir) + len(name) + len(n.file) + 2
	}
	all.Grow(length)
	paths := make([]string, len(n.names))
	for i, name := range n.names {
		at := all.Len()
		all.WriteString(n.dir)
		all.WriteByte('/')
		all.WriteString(name)
		all.WriteByte('/')
		all.WriteString(n.file)
		paths[i] = all.String()[at:]
	}
	return paths
}

// scan has the store report files that are known by names apart, if it can.
func (b *inventoryBuilder) scan(ctx context.Context, dir string, visit func([]Object) error, visitNamed func(named) error) error {
	if s, ok := b.store.(namedScanner); ok {
		return s.scanNamed(ctx, dir, visit, visitNamed)
	}
	return b.store.Scan(ctx, dir, visit)
}

// visitNamedBlobs does what visitBlobs does. The names in one directory are digests of
// one algorithm.
func (b *inventoryBuilder) visitNamedBlobs(n named) error {
	if e := n.first(); e.kind != kindBlob || e.digest.alg != "sha256" {
		return b.visitBlobs(n.objects())
	}
	blobs := make([]blob, len(n.names))
	for i, hex := range n.names {
		blobs[i] = blob{sha256: decodeSHA256(hex), size: -1}
	}
	b.addBlobs(blobs, nil)
	return nil
}

// visitNamedLinks does what visitRepositories does, and for all other links but layers',
// which are most, has it done there.
func (b *inventoryBuilder) visitNamedLinks(n named) error {
	e := n.first()
	if e.kind != kindLayer || e.digest.alg != "sha256" || !b.options.Since.IsZero() {
		return b.visitRepositories(n.objects())
	}
	rb := b.repository(e.repository)
	rb.mu.Lock()
	defer rb.mu.Unlock()
	rb.r.Layers = slices.Grow(rb.r.Layers, len(n.names))
	var entries [pageBatch]entry
	for batch := range slices.Chunk(n.names, pageBatch) {
		for i, hex := range batch {
			entries[i] = entry{digest: name{e.digest.alg, hex}}
		}
		b.inv.identify(entries[:len(batch)])
		for _, e := range entries[:len(batch)] {
			rb.r.Layers = append(rb.r.Layers, newLink(e.id, false))
		}
	}
	if b.options.OnLinks != nil {
		b.options.OnLinks(len(n.names))
	}
	return nil
}

// first is what the layout makes of the first file.
func (n named) first() entry {
	if len(n.names) == 0 {
		return entry{}
	}
	return parsePath(n.dir + "/" + n.names[0] + "/" + n.file)
}
