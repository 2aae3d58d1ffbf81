package audit

import (
	"time"

	"regsweep/inventory"
	"regsweep/manifest"
	"regsweep/mark"

	"github.com/opencontainers/go-digest"
)

// Picture is the graph of a repository, or of what one of its tags reaches.
type Picture struct {
	Repository string `json:"repository"`
	// Tags are sorted by name.
	Tags []PictureTag `json:"tags"`
	// Nodes has each digest once, those that are reached in fewer steps first.
	Nodes []*Node `json:"nodes"`
	// Edges are in the order of the manifests: the config, the layers, and then the referrers.
	Edges []PictureEdge `json:"edges"`
	// Bases says which image is based on which other.
	Bases []Base `json:"bases"`

	view  *mark.View
	nodes map[inventory.ID]*Node
}

// PictureTag is a tag and the manifest that it points at.
type PictureTag struct {
	Name   string        `json:"name"`
	Digest digest.Digest `json:"digest"` // "" if its current link is missing
	Pushed time.Time     `json:"pushed,omitzero"`

	tag int // index in the repository
}

// Node is a digest of a picture.
type Node struct {
	Digest digest.Digest `json:"digest"`
	Kind   LinkKind      `json:"kind"`
	Stored bool          `json:"stored"`
	Bytes  int64         `json:"bytes"`
	// Pulled are the bytes that a pull fetches, of a manifest or an index.
	Pulled int64 `json:"pulled,omitempty"`
	// Purpose is the kind of a manifest that is not for an image, such as "attestation".
	Purpose  Kind   `json:"purpose,omitempty"`
	Platform string `json:"platform,omitempty"` // as an index says
	// Tags point at it. Untagged is set if the repository has a revision link for it, and no tag reaches it.
	Tags     []string `json:"tags,omitempty"`
	Untagged bool     `json:"untagged,omitempty"`

	id inventory.ID
}

// PictureEdge leads from a digest to one that it keeps in the repository.
type PictureEdge struct {
	From digest.Digest `json:"from"`
	To   digest.Digest `json:"to"`
	Kind string        `json:"kind"`
}

// edgeNames has the names of the kinds of edges.
var edgeNames = map[mark.EdgeKind]string{
	mark.EntryEdge: "entry", mark.ConfigEdge: "config", mark.LayerEdge: "layer",
	mark.SignatureEdge: "signature", mark.AliasEdge: "alias", mark.ReferrerEdge: "referrer",
}

// ReferrerEdge is the PictureEdge.Kind from a subject to its referrer.
const ReferrerEdge = "referrer"

// NewPicture returns an empty picture.
func NewPicture(repository string) *Picture {
	return &Picture{
		Repository: repository, Tags: []PictureTag{}, Nodes: []*Node{}, Edges: []PictureEdge{}, Bases: []Base{},
		nodes: map[inventory.ID]*Node{},
	}
}

// AllTags makes Draw show a whole repository.
const AllTags = -1

// Draw makes the picture of a repository, or of one of its tags. Blobs of the result says which sizes Sum
// needs.
func (f Facts) Draw(repository, tag int) *Picture {
	r := f.Inventory.Repositories[repository]
	p := NewPicture(r.Name)
	p.view = f.Graph.View(repository)
	var queue []vertex
	met := mark.MapSet[vertex]{}
	add := func(v vertex, by mark.EdgeKind) *Node {
		n := p.nodes[v.id]
		if n == nil {
			n = &Node{Digest: f.Inventory.Digest(v.id), Stored: f.Inventory.Listed(v.id), Kind: f.kindReached(v, by), id: v.id}
			if form, found := f.Graph.Form(v.id); found && v.isManifest {
				n.Purpose = byPurpose[form.Purpose]
			}
			p.nodes[v.id] = n
			p.Nodes = append(p.Nodes, n)
		}
		if met.Add(v) {
			queue = append(queue, v)
		}
		return n
	}
	root := func(id inventory.ID) *Node { return add(vertex{id, p.view.IsManifest(id)}, mark.EntryEdge) }
	for at, t := range r.Tags {
		if tag != AllTags && tag != at {
			continue
		}
		shown := PictureTag{Name: t.Name, tag: at}
		if t.HasTarget {
			shown.Digest = f.Inventory.Digest(t.Target)
		}
		p.Tags = append(p.Tags, shown)
		for _, id := range t.Roots() {
			n := root(id)
			n.Tags = append(n.Tags, t.Name)
		}
	}
	if tag == AllTags {
		for at, link := range r.Revisions {
			if cause := f.Live.Repositories[repository].Revisions.At(at); cause == mark.Untagged || cause == mark.Damage {
				root(link.ID()).Untagged = true
			}
		}
	}
	for next := 0; next < len(queue); next++ {
		v := queue[next]
		for _, e := range uniqueEdges(p.view.Edges(v.id, v.isManifest)) {
			to := add(vertex{e.To, e.IsManifest}, e.Kind)
			p.Edges = append(p.Edges, PictureEdge{f.Inventory.Digest(v.id), to.Digest, edgeNames[e.Kind]})
		}
	}
	p.Bases = f.findBases(repository, p.Nodes)
	return p
}

// Blobs returns the blobs whose sizes Sum needs.
func (p *Picture) Blobs(f Facts) (ids []inventory.ID) {
	for _, n := range p.Nodes {
		if f.Inventory.Stored(n.id) {
			ids = append(ids, n.id)
		}
	}
	return ids
}

// TagPlaces returns the tags whose times Sum needs.
func (p *Picture) TagPlaces(f Facts) (places []inventory.TagPlace) {
	repository, _ := f.Inventory.FindRepository(p.Repository)
	for _, tag := range p.Tags {
		places = append(places, inventory.TagPlace{Repository: repository, Tag: tag.tag})
	}
	return places
}

// Indexes returns the indexes that were read. SetPlatforms takes their platforms.
func (p *Picture) Indexes(f Facts) (ids []inventory.ID) {
	for _, n := range p.Nodes {
		if form, found := f.Graph.Form(n.id); found && form.Kind == manifest.Index {
			ids = append(ids, n.id)
		}
	}
	return ids
}

// SetPlatforms adds the platforms of the entries of an index. content is the index.
func (p *Picture) SetPlatforms(f Facts, content []byte) {
	for of, platform := range manifest.Platforms(content) {
		if id, found := f.Inventory.Find(of); found && p.nodes[id] != nil && p.nodes[id].Platform == "" {
			p.nodes[id].Platform = platform
		}
	}
}

// Sum adds the sizes and the times of the tags. absent has the blobs that Inventory.Measure has not found.
func (p *Picture) Sum(f Facts, absent map[inventory.ID]bool) {
	for _, n := range p.Nodes {
		if absent[n.id] || !f.Inventory.Stored(n.id) {
			n.Stored = n.Stored && !absent[n.id]
			continue
		}
		n.Bytes = f.size(n.id)
		if p.view.IsManifest(n.id) {
			n.Pulled = f.sum(p.view.Pulled(n.id))
		}
	}
	r := f.Inventory.Repository(p.Repository)
	for i, tag := range p.Tags {
		if pushed := r.TagPushed(tag.tag); !pushed.IsZero() {
			p.Tags[i].Pushed = pushed.UTC()
		}
	}
}
