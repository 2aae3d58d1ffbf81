package mark

import (
	"slices"

	"regsweep/inventory"
	"regsweep/manifest"
)

// View reads a graph as one repository reaches its digests: see vertex. It must not be used
// concurrently.
type View struct{ m *marker }

// View returns the view of a repository. repository is its index in the inventory. followers are the tags
// that a subject keeps alive.
func (g *Graph) View(repository int, followers ...Follower) *View {
	r := g.inv.Repositories[repository]
	m := &marker{inv: g.inv, graph: g, r: r, named: map[inventory.ID]bool{}, follows: true}
	for _, tag := range r.Tags {
		for _, id := range tag.Roots() {
			m.named[id] = true
		}
	}
	for _, id := range r.Doubted {
		m.named[id] = true
	}
	m.follow(followers)
	m.findReferrers()
	return &View{m}
}

// Pulled returns the digests that a pull of a manifest fetches: all that it keeps alive, without referrers.
// A registry serves the signatures of schema 1 as parts of their manifest. Each digest is there once. Not
// all of them need be stored.
func (v *View) Pulled(id inventory.ID) []inventory.ID {
	return v.reach([]vertex{v.m.asReached(plain(id) | asManifest)}, func(from vertex) []vertex {
		edges := v.m.edges(from)
		return edges[:len(edges)-len(v.m.referrers[from.id()])] // the referrers are the last ones
	})
}

// Kept returns the digests that manifests keep alive: the digests that they reach by references, all
// their referrers, and so on. Each digest is there once.
func (v *View) Kept(roots ...inventory.ID) []inventory.ID {
	from := make([]vertex, len(roots))
	for i, id := range roots {
		from[i] = v.m.asReached(plain(id))
	}
	return v.reach(from, v.m.edges)
}

func (v *View) reach(from []vertex, edges func(vertex) []vertex) []inventory.ID {
	reached := Reach(MapSet[vertex]{}, from, edges)
	ids := make([]inventory.ID, len(reached))
	for i, at := range reached {
		ids[i] = at.id()
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// EdgeKind is the way in which one digest keeps another alive.
type EdgeKind string

// The kinds of edges.
const (
	EntryEdge     EdgeKind = "entry"     // from an index to one of its manifests
	ConfigEdge    EdgeKind = "config"    // from an image to its config
	LayerEdge     EdgeKind = "layer"     // from an image to a layer, and any other reference to plain content
	SignatureEdge EdgeKind = "signature" // from a manifest of schema 1 to its signature
	AliasEdge     EdgeKind = "alias"     // from the digest in the path of a layer link to the digest in the link
	ReferrerEdge  EdgeKind = "referrer"  // from a subject to its referrer
)

// Edge leads to a digest that another digest keeps alive.
type Edge struct {
	To   inventory.ID
	Kind EdgeKind
	// IsManifest is set if To is reached as a manifest.
	IsManifest bool
}

// Edges returns the edges of a digest in their order: references, signatures, alias, referrers.
// isManifest says whether the digest is reached as a manifest: only a manifest has references.
func (v *View) Edges(id inventory.ID, isManifest bool) []Edge {
	from, of := plain(id), node{}
	if isManifest {
		from |= asManifest
		of, _ = v.m.graph.manifests.at(id)
	}
	edges := v.m.edges(from)
	references := len(v.m.graph.edgesOf(of))
	alias := references + len(v.m.r.Signatures[id])
	referrers := len(edges) - len(v.m.referrers[id])
	kind := func(at int) EdgeKind {
		switch {
		case at >= referrers:
			return ReferrerEdge
		case at >= alias:
			return AliasEdge
		case at >= references:
			return SignatureEdge
		case of.kind == manifest.Index:
			return EntryEdge
		case of.kind == manifest.Image && at == 0:
			return ConfigEdge
		}
		return LayerEdge
	}
	out := make([]Edge, len(edges))
	for at, to := range edges {
		out[at] = Edge{to.id(), kind(at), to.isManifest()}
	}
	return out
}

// IsManifest reports whether a root of this repository is reached as a manifest.
func (v *View) IsManifest(id inventory.ID) bool { return v.m.asReached(plain(id)).isManifest() }

// Named returns the digests that the repository has links to, and those that its manifests reach. A digest
// may be there several times.
func (v *View) Named() []inventory.ID {
	linked := slices.Concat(v.m.allLinked(), v.m.r.Pinned, v.m.r.Doubted)
	return append(linked, v.Kept(linked...)...)
}

// Linked returns the digests that damage would keep: all that links of the repository name. A digest
// may be there several times.
func (v *View) Linked() []inventory.ID { return v.m.allLinked() }
