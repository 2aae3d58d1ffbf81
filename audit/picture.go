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
	// Edges has the edges of each node in turn: the config, the layers, and then the referrers.
	Edges []PictureEdge `json:"edges"`
	// Bases says which image is based on which other.
	Bases []Base `json:"bases"`

	view      *mark.View
	places    []inventory.TagPlace // of Tags
	nodes     map[digest.Digest]*Node
	platforms []map[digest.Digest]string // by the index in Indexes
}

// PictureTag is a tag and the manifest that it points at.
type PictureTag struct {
	Name   string        `json:"name"`
	Digest digest.Digest `json:"digest"` // "" if its current link is missing
	Pushed time.Time     `json:"pushed,omitzero"`
}

// Node is a digest of a picture.
type Node struct {
	Digest digest.Digest `json:"digest"`
	Kind   LinkKind      `json:"kind"`
	Stored bool          `json:"stored"`
	// Damaged is set for a blob that was to be a manifest and can't be read as one.
	Damaged bool  `json:"damaged,omitempty"`
	Bytes   int64 `json:"bytes"`
	// Pulled are the bytes that a pull fetches, of a manifest or an index.
	Pulled int64 `json:"pulled,omitempty"`
	// Purpose is the kind of a manifest that is not for an image, such as "attestation".
	Purpose  Kind   `json:"purpose,omitempty"`
	Platform string `json:"platform,omitempty"` // as an index says
	// Tags point at it. Untagged is set if the repository has a revision link for it, and no tag reaches it.
	Tags     []string `json:"tags,omitempty"`
	Untagged bool     `json:"untagged,omitempty"`

	id         inventory.ID
	isManifest bool // it is reached as a manifest
	edges      []PictureEdge
}

// PictureEdge leads from a digest to one that it keeps in the repository.
type PictureEdge struct {
	From digest.Digest `json:"from"`
	To   digest.Digest `json:"to"`
	Kind mark.EdgeKind `json:"kind"`
}

// NewPicture returns an empty picture.
func NewPicture(repository string) *Picture {
	return &Picture{
		Repository: repository, Tags: []PictureTag{}, Nodes: []*Node{}, Edges: []PictureEdge{}, Bases: []Base{},
		nodes: map[digest.Digest]*Node{},
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
	var queue []*Node // their edges are not there yet
	add := func(v vertex, by mark.EdgeKind) *Node {
		of := f.Inventory.Digest(v.id)
		n := p.nodes[of]
		if n == nil {
			n = &Node{Digest: of, Stored: f.Inventory.Listed(v.id), id: v.id}
			p.nodes[of] = n
			p.Nodes = append(p.Nodes, n)
		} else if n.isManifest || !v.isManifest {
			return n // a manifest has the edges of plain content, and more
		}
		n.Kind, n.isManifest = f.kindReached(v, by), v.isManifest
		if form, _ := f.Graph.Form(v.id); v.isManifest {
			n.Purpose = byPurpose[form.Purpose]
		}
		queue = append(queue, n)
		return n
	}
	root := func(id inventory.ID) *Node { return add(vertex{id, p.view.IsManifest(id)}, mark.EntryEdge) }
	for at, t := range r.Tags {
		if tag != AllTags && tag != at {
			continue
		}
		p.places = append(p.places, inventory.TagPlace{Repository: repository, Tag: at})
		shown := PictureTag{Name: t.Name}
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
		n := queue[next]
		n.edges = nil
		for _, e := range uniqueEdges(p.view.Edges(n.id, n.isManifest)) {
			to := add(vertex{e.To, e.IsManifest}, e.Kind)
			n.edges = append(n.edges, PictureEdge{n.Digest, to.Digest, e.Kind})
		}
	}
	for _, n := range p.Nodes {
		p.Edges = append(p.Edges, n.edges...)
	}
	p.Bases = f.findBases(repository, p)
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
func (p *Picture) TagPlaces() []inventory.TagPlace { return p.places }

// Indexes returns the indexes that were read. SetPlatforms takes their content.
func (p *Picture) Indexes(f Facts) (ids []inventory.ID) {
	for _, n := range p.Nodes {
		if form, found := f.Graph.Form(n.id); found && form.Kind == manifest.Index {
			ids = append(ids, n.id)
		}
	}
	p.platforms = make([]map[digest.Digest]string, len(ids))
	return ids
}

// SetPlatforms takes the platforms of the entries of an index. at is its place in the result of Indexes. It
// may be called concurrently, once for each index.
func (p *Picture) SetPlatforms(at int, content []byte) { p.platforms[at] = manifest.Platforms(content) }

// Sum adds the platforms, the sizes and the times of the tags. absent has the blobs that Inventory.Measure has
// not found.
func (p *Picture) Sum(f Facts, absent map[inventory.ID]bool) {
	for i, at := range p.places {
		if pushed := f.Inventory.Repositories[at.Repository].TagPushed(at.Tag); !pushed.IsZero() {
			p.Tags[i].Pushed = pushed.UTC()
		}
	}
	for _, platforms := range p.platforms { // of several platforms, a node has that of the first index
		for of, platform := range platforms {
			if n := p.nodes[of]; n != nil && n.Platform == "" {
				n.Platform = platform
				if n.Kind == BlobLink { // it was never pushed: nothing else says that it is a manifest
					n.Kind = ManifestLink
				}
			}
		}
	}
	for _, n := range p.Nodes {
		if absent[n.id] || !f.Inventory.Stored(n.id) {
			n.Stored = n.Stored && !absent[n.id]
			continue
		}
		n.Bytes = f.size(n.id)
		if n.isManifest {
			_, isIntact := f.Graph.Form(n.id)
			n.Damaged, n.Pulled = !isIntact, f.sum(p.view.Pulled(n.id))
		}
	}
}
