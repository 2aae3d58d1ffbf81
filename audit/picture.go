package audit

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"regsweep/inventory"
	"regsweep/manifest"
	"regsweep/mark"
	"regsweep/storage"

	"github.com/opencontainers/go-digest"
)

// Picture is the graph of a repository, or of what one of its tags or manifests reaches.
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

	view   *mark.View
	places []inventory.TagPlace // of Tags
	nodes  map[digest.Digest]*Node
	top    []*Node // of the tree: see findTop
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

	vertex
	edges, end int // its edges begin and end at these indexes of Picture.Edges
}

// PictureEdge leads from a digest to one that it keeps in the repository.
type PictureEdge struct {
	From, To *Node
	Kind     mark.EdgeKind
}

// MarshalJSON implements json.Marshaler.
func (e PictureEdge) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		From digest.Digest `json:"from"`
		To   digest.Digest `json:"to"`
		Kind mark.EdgeKind `json:"kind"`
	}{e.From.Digest, e.To.Digest, e.Kind})
}

// edgesOf returns the edges of a node.
func (p *Picture) edgesOf(n *Node) []PictureEdge { return p.Edges[n.edges:n.end] }

// NewPicture returns an empty picture.
func NewPicture(repository string) *Picture {
	return &Picture{
		Repository: repository, Tags: []PictureTag{}, Nodes: []*Node{}, Edges: []PictureEdge{}, Bases: []Base{},
		nodes: map[digest.Digest]*Node{},
	}
}

// allTags is the tag of REPO, which has all tags and all untagged manifests.
const allTags = -1

// Draw makes the picture of what REPO, REPO:TAG or REPO@DIGEST names. It reads the sizes and times that the picture
// has, and the indexes once more: the graph does not have the platforms of their entries.
func (f Facts) Draw(ctx context.Context, images string, reader storage.Reader, concurrency int) (*Picture, error) {
	p, err := f.drawNodes(images)
	if err != nil {
		return nil, err
	}
	if err := p.readPlatforms(ctx, f, reader, concurrency); err != nil {
		return nil, err
	}
	if err := f.Inventory.DateTags(ctx, reader, concurrency, p.places); err != nil {
		return nil, err
	}
	for i, at := range p.places {
		if pushed := f.Inventory.Repositories[at.Repository].TagPushed(at.Tag); !pushed.IsZero() {
			p.Tags[i].Pushed = pushed.UTC()
		}
	}
	return p, p.measure(ctx, f, reader, concurrency)
}

// noTag is the tag of REPO@DIGEST.
const noTag = -2

// findAsked returns the index of a repository that a text names and of its tag: allTags for REPO, and noTag for
// REPO@DIGEST, whose digest is asked.
func (f Facts) findAsked(images string) (repository, tag int, asked []inventory.ID, err error) {
	name, _, hasDigest := strings.Cut(images, "@")
	if !hasDigest {
		repository, tag, err = f.findTagged(images)
		return repository, tag, nil, err
	}
	id, err := f.Find(images)
	if err != nil {
		return 0, 0, nil, err
	}
	if of, _ := splitTag(name); of != "" {
		name = of // with a tag and a digest, clients use the digest
	}
	repository, err = f.FindRepository(name)
	return repository, noTag, []inventory.ID{id}, err
}

// drawNodes makes the picture without platforms, sizes and times.
func (f Facts) drawNodes(images string) (*Picture, error) {
	repository, tag, asked, err := f.findAsked(images)
	if err != nil {
		return nil, err
	}
	r := f.Inventory.Repositories[repository]
	p := NewPicture(r.Name)
	p.view = f.Graph.View(repository)
	isTagged := map[inventory.ID]bool{}
	for _, id := range p.view.Kept(rootsOf(r)...) {
		isTagged[id] = true
	}
	if tag == allTags {
		for _, link := range r.Revisions {
			if !isTagged[link.ID()] {
				asked = append(asked, link.ID())
			}
		}
	}
	tags, roots := map[inventory.ID][]string{}, []inventory.ID{}
	for at, t := range r.Tags {
		if tag != allTags && tag != at && !(t.HasTarget && slices.Contains(asked, t.Target)) {
			continue
		}
		p.places = append(p.places, inventory.TagPlace{Repository: repository, Tag: at})
		shown := PictureTag{Name: t.Name}
		if t.HasTarget {
			shown.Digest = f.Inventory.Digest(t.Target)
		}
		p.Tags = append(p.Tags, shown)
		for _, id := range t.Roots() {
			tags[id] = append(tags[id], t.Name)
			roots = append(roots, id)
		}
	}
	nodes := map[inventory.ID]*Node{}
	for _, n := range f.reach(p.view, slices.Concat(roots, asked)) {
		n.Digest, n.Stored, n.Tags = f.Inventory.Digest(n.id), f.Inventory.Listed(n.id), tags[n.id]
		n.Untagged = r.HasRevision(n.id) && !isTagged[n.id]
		if form, _ := f.Graph.Form(n.id); n.isManifest {
			n.Purpose = byPurpose[form.Purpose]
		}
		nodes[n.id], p.nodes[n.Digest] = n, n
		p.Nodes = append(p.Nodes, n)
	}
	for _, n := range p.Nodes {
		n.edges = len(p.Edges)
		for _, e := range uniqueEdges(p.view.Edges(n.id, n.isManifest)) {
			p.Edges = append(p.Edges, PictureEdge{n, nodes[e.To], e.Kind})
		}
		n.end = len(p.Edges)
	}
	p.findTop(asked, nodes)
	p.Bases = f.findBases(repository, p)
	return p, nil
}

// reach returns all that some roots of a repository reach, with its kind. It is a breadth-first search. A digest
// that is reached as a manifest is not there as plain content: it has the edges of plain content, and more.
func (f Facts) reach(view *mark.View, roots []inventory.ID) (nodes []*Node) {
	isReached := map[vertex]bool{}
	add := func(v vertex, by mark.EdgeKind) {
		if !isReached[v] {
			isReached[v] = true
			nodes = append(nodes, &Node{vertex: v, Kind: f.kindReached(v, by)})
		}
	}
	for _, id := range roots {
		_, isIntact := f.Graph.Form(id)
		add(vertex{id, isIntact || view.IsManifest(id)}, mark.EntryEdge)
	}
	for next := 0; next < len(nodes); next++ {
		for _, e := range view.Edges(nodes[next].id, nodes[next].isManifest) {
			add(vertex{e.To, e.IsManifest}, e.Kind)
		}
	}
	return slices.DeleteFunc(nodes, func(n *Node) bool { return !n.isManifest && isReached[vertex{n.id, true}] })
}

// findTop finds the nodes at the top of the tree: those with a tag, and those that were asked for and that no
// other node of the top reaches.
func (p *Picture) findTop(asked []inventory.ID, nodes map[inventory.ID]*Node) {
	isTarget, reached := map[*Node]bool{}, mark.MapSet[*Node]{}
	for _, e := range p.Edges {
		isTarget[e.To] = true
	}
	add := func(n *Node) {
		p.top = append(p.top, n)
		mark.Reach(reached, []*Node{n}, func(n *Node) (to []*Node) {
			for _, e := range p.edgesOf(n) {
				to = append(to, e.To)
			}
			return to
		})
	}
	for _, n := range p.Nodes {
		if len(n.Tags) > 0 {
			add(n)
		}
	}
	for _, isInCycle := range []bool{false, true} { // the first one of a cycle is at the top
		for _, id := range asked {
			n := nodes[id]
			if _, isReached := reached[n]; !isReached && isTarget[n] == isInCycle {
				add(n)
			}
		}
	}
}

// readPlatforms sets the platforms. Of several, a node has that of the first index in the picture.
func (p *Picture) readPlatforms(ctx context.Context, f Facts, reader storage.Reader, concurrency int) error {
	var indexes []inventory.ID
	for _, n := range p.Nodes {
		if form, _ := f.Graph.Form(n.id); form.Kind == manifest.Index {
			indexes = append(indexes, n.id)
		}
	}
	platforms := make([]map[digest.Digest]string, len(indexes))
	err := storage.Each(ctx, len(indexes), concurrency, func(ctx context.Context, i int) error {
		content, err := reader.Read(ctx, f.Inventory.BlobPath(indexes[i]), mark.ManifestLimit)
		if storage.IsAbsent(err) {
			return nil // it was removed since it was read
		}
		platforms[i] = manifest.Platforms(content)
		return err
	})
	if err != nil {
		return err
	}
	for _, of := range platforms {
		for entry, platform := range of {
			if n := p.nodes[entry]; n != nil && n.Platform == "" {
				n.Platform = platform
				if n.Kind == BlobLink { // it was never pushed: nothing else says that it is a manifest
					n.Kind = ManifestLink
				}
			}
		}
	}
	return nil
}

// measure sets the sizes.
func (p *Picture) measure(ctx context.Context, f Facts, reader storage.Reader, concurrency int) error {
	var stored []inventory.ID
	for _, n := range p.Nodes {
		if f.Inventory.Stored(n.id) {
			stored = append(stored, n.id)
		}
	}
	absent, err := f.Inventory.Measure(ctx, reader, concurrency, stored)
	if err != nil {
		return err
	}
	for _, n := range p.Nodes {
		if n.Stored = n.Stored && !absent[n.id]; !n.Stored || !f.Inventory.Stored(n.id) {
			continue
		}
		n.Bytes = f.size(n.id)
		if n.isManifest {
			_, isIntact := f.Graph.Form(n.id)
			n.Damaged, n.Pulled = !isIntact, f.sum(p.view.Pulled(n.id))
		}
	}
	return nil
}
