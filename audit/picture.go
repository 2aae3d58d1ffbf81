package audit

import (
	"context"
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
	isRoot     bool // a shown tag points at it, or no tag reaches it, or it was asked for
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

// AllTags is the tag of REPO, which has all tags and all untagged manifests.
const AllTags = -1

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

// findAsked returns the index of a repository that a text names and of its tag: AllTags for REPO, and noTag for
// REPO@DIGEST, whose digest is asked.
func (f Facts) findAsked(images string) (repository, tag int, asked []inventory.ID, err error) {
	name, _, hasDigest := strings.Cut(images, "@")
	if !hasDigest {
		repository, tag, err = f.FindImages(images)
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
	var ofTags []inventory.ID
	for _, t := range r.Tags {
		ofTags = append(ofTags, t.Roots()...)
	}
	isTagged := map[inventory.ID]bool{}
	for _, id := range p.view.Kept(ofTags...) {
		isTagged[id] = true
	}
	if tag == AllTags {
		for _, link := range r.Revisions {
			if !isTagged[link.ID()] {
				asked = append(asked, link.ID())
			}
		}
	}
	var queue []*Node // their edges are not there yet
	add := func(v vertex, by mark.EdgeKind) *Node {
		of := f.Inventory.Digest(v.id)
		n := p.nodes[of]
		if n == nil {
			n = &Node{Digest: of, Stored: f.Inventory.Listed(v.id), Untagged: r.HasRevision(v.id) && !isTagged[v.id], id: v.id}
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
	root := func(id inventory.ID) *Node {
		_, isIntact := f.Graph.Form(id)
		n := add(vertex{id, isIntact || p.view.IsManifest(id)}, mark.EntryEdge)
		n.isRoot = true
		return n
	}
	for at, t := range r.Tags {
		if tag != AllTags && tag != at && !(t.HasTarget && slices.Contains(asked, t.Target)) {
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
	for _, id := range asked {
		root(id)
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
	return p, nil
}

// largestIndex is the size in bytes of the largest manifest that the mark reads.
const largestIndex = 8 << 20

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
		content, err := reader.Read(ctx, f.Inventory.BlobPath(indexes[i]), largestIndex)
		platforms[i] = manifest.Platforms(content)
		return err
	})
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
	return err
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
	return err
}
