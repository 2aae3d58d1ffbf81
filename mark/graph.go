package mark

import (
	"iter"

	"regsweep/inventory"
	"regsweep/manifest"
)

// Graph has the manifests of an inventory and their references. Read makes it. After that it is
// immutable, and may be used concurrently.
//
// A manifest takes 16 bytes, and each of its references 4.
type Graph struct {
	inv       *inventory.Inventory
	manifests nodes
	edges     edges
	details   map[inventory.ID]string // the problem of a damaged manifest or of an unknown type
	unlisted  []inventory.ID          // manifests that were read but are not in the listing of blobs
	claims    map[inventory.ID][]Claim
	refused   map[inventory.ID]string // few

	// tried are the digests from lists that no repository has a link to, and that were read. A
	// digest that is not in manifests is plain content.
	tried map[inventory.ID]bool
}

// state is the result of reading a manifest.
type state uint8

const (
	intact    state = iota
	missing         // no object is stored under its digest
	damaged         // an object is stored, but it is not the manifest
	malformed       // the object has the right content, or is too large for a manifest, but is no manifest
)

// node is a manifest in memory. It has no pointers, because there may be millions.
type node struct {
	edges      span
	subject    inventory.ID // if hasSubject is set
	state      state
	kind       manifest.Kind
	hasSubject bool
	purpose    manifest.Purpose
}

// isDamaged reports whether an object is stored and can't be used as the manifest.
func (n node) isDamaged() bool { return n.state == damaged || n.state == malformed }

// isKnown reports whether the manifest is intact and has a known type.
func (n node) isKnown() bool { return n.state == intact && n.kind != manifest.Unknown }

// Form is the form of an intact manifest.
type Form struct {
	Kind    manifest.Kind
	Purpose manifest.Purpose
}

// Manifests yields all intact manifests that were read, in the order of their ids.
func (g *Graph) Manifests() iter.Seq2[inventory.ID, Form] {
	return func(yield func(inventory.ID, Form) bool) {
		for _, id := range g.manifests.read.ids() {
			if n, _ := g.manifests.at(id); n.state == intact && !yield(id, Form{n.kind, n.purpose}) {
				return
			}
		}
	}
}

// Form returns the form of an intact manifest. found is false for all other digests.
func (g *Graph) Form(id inventory.ID) (form Form, found bool) {
	n, found := g.manifests.at(id)
	return Form{n.kind, n.purpose}, found && n.state == intact
}

// Claim is what a manifest says about one of its references, if the reference needs care.
type Claim struct {
	// Of is the digest that the manifest refers to.
	Of inventory.ID
	// Bytes is the size that the manifest gives for a stored blob of another size. Otherwise it is -1.
	Bytes int64
	// HasURLs is set if the content need not be stored.
	HasURLs bool
}

// Claims returns the claims of a manifest. It has those with a wrong size only if the inventory was taken
// with Options.Sizes, or the listing has sizes.
func (g *Graph) Claims(id inventory.ID) []Claim { return g.claims[id] }

// Refused returns why registries do not serve an intact manifest of a known type, or "".
func (g *Graph) Refused(id inventory.ID) string { return g.refused[id] }

// Damage returns why a digest that was read as a manifest can't be used as one, although an object is
// stored under it. isContent is set if the content has the digest, and is no manifest or one that is too
// large. damaged is false for all other digests.
func (g *Graph) Damage(id inventory.ID) (detail string, isContent, damaged bool) {
	n, _ := g.manifests.at(id)
	return g.details[id], n.state == malformed, n.isDamaged()
}

// Missing reports whether a digest was to be read as a manifest, and no blob is stored under it.
func (g *Graph) Missing(id inventory.ID) bool {
	n, found := g.manifests.at(id)
	return found && n.state == missing
}

// Edges yields the references of a manifest in their order, and whether each is a reference to a
// manifest. It yields nothing for other digests and for damaged manifests.
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

// Subject returns the subject of a manifest. found is false if the manifest is no referrer.
func (g *Graph) Subject(id inventory.ID) (subject inventory.ID, found bool) {
	n, _ := g.manifests.at(id)
	return n.subject, n.hasSubject
}

// edgesOf returns the references of a manifest in their order.
func (g *Graph) edgesOf(n node) []vertex { return g.edges.of(n.edges) }

// detailOf returns the problem of a manifest, "" if it has none.
func (g *Graph) detailOf(id inventory.ID, n node) string {
	if detail, found := g.details[id]; found || n.state != missing {
		return detail
	}
	return "its blob is missing"
}

// edges has the edges of all manifests in pages. The edges of one manifest are in one page. Adding a
// page copies no edges.
type edges struct{ pages [][]vertex }

// span is the position of a manifest's edges. The high bits of from are the number of the page.
type span struct{ from, count uint32 }

const (
	pageBits = 12
	pageSize = 1 << pageBits
)

// add copies a manifest's edges into a page. If they do not fit in any page, they get a page of their
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

// of returns the edges in a span.
func (e *edges) of(s span) []vertex {
	if s.count == 0 {
		return nil
	}
	at := s.from % pageSize
	return e.pages[s.from>>pageBits][at : at+s.count : at+s.count]
}

// builder makes a Graph. The manifests may be added in any order.
type builder struct {
	graph *Graph
	// children are the stored references to manifests. untyped are the stored references without
	// a type: their targets are manifests if they can be parsed as one.
	children, untyped []inventory.ID
	// untypedEdges are the edges to the digests in untyped.
	untypedEdges []*vertex
}

func newBuilder(inv *inventory.Inventory) *builder {
	return &builder{graph: &Graph{inv: inv, details: map[inventory.ID]string{}}}
}

// add adds a manifest. It keeps no reference to the slices in f.
func (b *builder) add(f found) {
	g, n := b.graph, f.node
	n.edges = g.edges.add(f.edges)
	edges := g.edgesOf(n)
	for _, to := range edges {
		if to.isManifest() {
			b.children = append(b.children, to.id())
		}
	}
	for _, i := range f.untyped {
		b.untyped = append(b.untyped, edges[i].id())
		b.untypedEdges = append(b.untypedEdges, &edges[i])
	}
	if f.detail != "" {
		g.details[f.id] = f.detail
	}
	if len(f.claims) > 0 {
		if g.claims == nil {
			g.claims = map[inventory.ID][]Claim{}
		}
		g.claims[f.id] = f.claims
	}
	if f.refused != "" {
		if g.refused == nil {
			g.refused = map[inventory.ID]string{}
		}
		g.refused[f.id] = f.refused
	}
	g.manifests.set(f.id, n)
}

// finish returns the graph after all manifests were added. It sets asManifest in the untyped edges
// whose target was parsed as a manifest.
func (b *builder) finish() *Graph {
	for _, to := range b.untypedEdges {
		if n, found := b.graph.manifests.at(to.id()); found && n.isKnown() {
			*to |= asManifest
		}
	}
	return b.graph
}
