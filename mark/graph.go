package mark

import (
	"iter"

	"regsweep/inventory"
	"regsweep/manifest"
)

// Graph is what was learnt by reading the manifests of an inventory: which digests are manifests,
// and what each of them refers to. Read makes it. It is not changed then, and may be used
// concurrently.
//
// A manifest takes 16 bytes, and each of its references 4.
type Graph struct {
	inv       *inventory.Inventory
	manifests nodes
	edges     edges
	details   map[inventory.ID]string // what is wrong with a damaged manifest, or with an unknown type
	unlisted  []inventory.ID          // manifests that were read, and that the listing of blobs lacks

	// tried are digests that a list names, that no repository has a link to, and that were read.
	// They are manifests, or no manifest can be read there: then they are plain content.
	tried map[inventory.ID]bool
}

// state is what became of reading a manifest.
type state uint8

const (
	intact  state = iota
	missing       // nothing is stored under its digest
	damaged       // something is, but not the manifest
)

// node is a manifest in memory. It has no pointers, since there may be millions.
type node struct {
	edges      span
	subject    inventory.ID // if hasSubject is set
	state      state
	kind       manifest.Kind
	hasSubject bool
	isContent  bool // of a damaged one: its content is what its digest says, or too large for a manifest
}

// isKnown reports whether it is whole, and of a type that is known.
func (n node) isKnown() bool { return n.state == intact && n.kind != manifest.Unknown }

// Edges yields the digests that a manifest refers to, in its order, and whether each is referred to
// as a manifest. A digest that was not read as a manifest has none, nor has a damaged manifest.
func (g *Graph) Edges(id inventory.ID) iter.Seq2[inventory.ID, bool] {
	return func(yield func(inventory.ID, bool) bool) {
		n, _ := g.manifests.at(id)
		for _, to := range g.edgesOf(n) {
			if !yield(to.id(), to.isManifest()) {
				return
			}
		}
	}
}

// Subject is the manifest that a manifest is a referrer of, if it is one.
func (g *Graph) Subject(id inventory.ID) (subject inventory.ID, found bool) {
	n, _ := g.manifests.at(id)
	return n.subject, n.hasSubject
}

// edgesOf are what a manifest refers to, in the order in which it does.
func (g *Graph) edgesOf(n node) []vertex { return g.edges.of(n.edges) }

// detailOf says what is wrong with a manifest.
func (g *Graph) detailOf(id inventory.ID, n node) string {
	if detail, found := g.details[id]; found || n.state != missing {
		return detail
	}
	return "its blob is missing"
}

// edges hold the edges of all manifests in pages, each manifest's in one page. So nothing is copied
// when there are more.
type edges struct{ pages [][]vertex }

// span says which edges are a manifest's: the page is in the high bits of from.
type span struct{ from, count uint32 }

const (
	pageBits = 12
	pageSize = 1 << pageBits
)

// add copies a manifest's edges into a page. One that has more than a page holds gets a page of its
// own.
func (e *edges) add(to []vertex) span {
	if len(to) == 0 {
		return span{}
	}
	last := len(e.pages) - 1
	if last < 0 || len(e.pages[last])+len(to) > cap(e.pages[last]) {
		if last++; last > 1<<(32-pageBits)-1 {
			panic("more than 2^32 references")
		}
		e.pages = append(e.pages, make([]vertex, 0, max(pageSize, len(to))))
	}
	at := len(e.pages[last])
	e.pages[last] = append(e.pages[last], to...)
	return span{uint32(last<<pageBits | at), uint32(len(to))}
}

// of are the edges in a span.
func (e *edges) of(s span) []vertex {
	if s.count == 0 {
		return nil
	}
	at := s.from % pageSize
	return e.pages[s.from>>pageBits][at : at+s.count : at+s.count]
}

// builder makes a Graph of manifests in the order of their being read.
type builder struct {
	graph *Graph
	// children are what the manifests that were added refer to as manifests, as far as it is
	// stored, and perhaps are the stored references that are manifests if they read like one.
	children, perhaps []inventory.ID
	// doubtful are the edges to what is in perhaps.
	doubtful []*vertex
}

func newBuilder(inv *inventory.Inventory) *builder {
	return &builder{graph: &Graph{inv: inv, details: map[inventory.ID]string{}}}
}

// add adds a manifest, of which it copies what it needs.
func (b *builder) add(f found) {
	g, n := b.graph, f.node
	n.edges = g.edges.add(f.edges)
	edges := g.edgesOf(n)
	for _, to := range edges {
		if to.isManifest() {
			b.children = append(b.children, to.id())
		}
	}
	for _, i := range f.perhaps {
		b.perhaps = append(b.perhaps, edges[i].id())
		b.doubtful = append(b.doubtful, &edges[i])
	}
	if f.detail != "" {
		g.details[f.id] = f.detail
	}
	g.manifests.set(f.id, n)
}

// finish decides the doubtful edges, once all manifests have been read.
func (b *builder) finish() *Graph {
	for _, to := range b.doubtful {
		if n, found := b.graph.manifests.at(to.id()); found && n.isKnown() {
			*to |= asManifest
		}
	}
	return b.graph
}
