package mark

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"regsweep/inventory"
	"regsweep/manifest"
	"regsweep/storage"
	"regsweep/storage/layout"
)

// manifestLimit is the largest manifest that is read, in bytes. Registries refuse
// to take one above 4 MiB (registry/handlers/manifests.go of Distribution).
const manifestLimit = 8 << 20

// largeManifest is a size, in bytes, that hardly any manifest has.
const largeManifest = 1 << 20

// reading reads manifests, each by itself. It may be used concurrently.
type reading struct {
	inv    *inventory.Inventory // what it knows of digests is all that is asked of it
	reader storage.Reader
	// large has room for each large manifest that is taken apart. That takes several
	// times its size, and many are read at once.
	large chan struct{}
}

// largeAtOnce is how many large manifests are taken apart at once.
const largeAtOnce = 2

// roomForLarge makes what reading.large is.
func roomForLarge() chan struct{} { return make(chan struct{}, largeAtOnce) }

// found is a manifest that was read.
type found struct {
	node     *node
	id       inventory.ID
	unlisted bool // it is there, and the listing of blobs lacks it
	leads    bool // it names manifests that are stored, or what may be some
}

// leadsTo appends what is stored of what a manifest names: manifests, and what may be some
// though nothing says so.
func (f *found) leadsTo(children, perhaps []inventory.ID) (moreChildren, morePerhaps []inventory.ID) {
	if !f.leads {
		return children, perhaps
	}
	for _, to := range f.node.edges {
		if to.isManifest() {
			children = append(children, to.id())
		}
	}
	for id := range f.node.perhaps {
		perhaps = append(perhaps, id)
	}
	return children, perhaps
}

// read reads one manifest and verifies that it is what its digest says. Its error is
// the storage's: damage is a property of the node.
func (r reading) read(ctx context.Context, id inventory.ID) (found, error) {
	p := parsings.Get().(*parsing)
	content, lost, err := r.verified(ctx, id, p)
	if len(content) <= usualManifest { // of a larger one p would hold the content
		defer parsings.Put(p)
	}
	if err != nil || lost != nil {
		return found{id: id, node: lost}, err
	}
	r.inv.Declare(id, int64(len(content)))
	if len(content) > largeManifest {
		select {
		case r.large <- struct{}{}:
		case <-ctx.Done():
			return found{}, ctx.Err()
		}
		defer func() { <-r.large }()
	}
	f := r.takeApart(content, p)
	f.id, f.unlisted = id, !r.inv.Listed(id)
	return f, nil
}

// verified reads what has the digest, into p's room if it can, or says with lost why there is
// nothing of the kind.
func (r reading) verified(ctx context.Context, id inventory.ID, p *parsing) (content []byte, lost *node, err error) {
	damage := func(format string, args ...any) *node {
		return &node{state: damaged, detail: fmt.Sprintf(format, args...)}
	}
	if r.inv.Stored(id) {
		p.path = r.inv.AppendBlobPath(p.path[:0], id)
	} else if d := r.inv.Digest(id); d.Validate() != nil {
		// A digest that can't be verified can't be trusted either.
		return nil, damage("its digest is of an unknown algorithm"), nil
	} else {
		p.path = append(p.path[:0], layout.BlobPath(d)...)
	}
	content, err = storage.ReadInto(ctx, r.reader, p.room, p.path, manifestLimit)
	matches := err == nil && r.matches(id, content)
	if err == nil && !matches && len(content) > 0 && len(p.room) > 0 && &content[0] == &p.room[0] { // it may be cut short
		content, err = r.reader.Read(ctx, string(p.path), manifestLimit)
		matches = err == nil && r.matches(id, content)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist) && !r.wasSeen(id):
		lost, err = r.missing(ctx, id)
		return nil, lost, err
	case errors.Is(err, fs.ErrNotExist):
		return nil, damage("its blob was listed but can't be found"), nil
	case errors.Is(err, storage.ErrTooLarge):
		lost = damage("it is larger than %d MiB", manifestLimit>>20)
		lost.isContent = true
		return nil, lost, nil
	case errors.Is(err, storage.ErrNotRegular):
		return nil, damage("it is not a regular file"), nil
	case errors.Is(err, storage.ErrUnreadable):
		return nil, damage("%v", err), nil
	case err != nil:
		return nil, nil, fmt.Errorf("read manifest %s: %w", r.inv.Digest(id), err)
	case len(content) == 0:
		return nil, damage("it is empty"), nil
	case !matches:
		return nil, damage("its content does not match its digest"), nil
	}
	return content, nil, nil
}

// matches reports whether content is what the digest says.
func (r reading) matches(id inventory.ID, content []byte) bool {
	if r.inv.Stored(id) {
		return r.inv.IsContent(id, content)
	}
	d := r.inv.Digest(id)
	return d.Algorithm().FromBytes(content) == d
}

// parsing is the memory that it takes to read a manifest and make a node of it. The next manifest
// uses it again.
type parsing struct {
	path   []byte
	room   []byte // for the content
	parser manifest.Parser
	named  [][]byte
	ids    []inventory.ID

	// Of these newNode gives parts away until nothing is left.
	nodes []node
	edges []vertex
}

// newNode makes a node with room for so many edges. That many are made at once spares two
// allocations for each.
func (p *parsing) newNode(edges int) *node {
	const together = 64
	if len(p.nodes) == 0 {
		p.nodes = make([]node, together)
	}
	if len(p.edges) < edges {
		p.edges = make([]vertex, max(edges, 8*together))
	}
	n := &p.nodes[0]
	n.edges = p.edges[:edges:edges]
	p.nodes, p.edges = p.nodes[1:], p.edges[edges:]
	return n
}

// usualManifest is a size, in bytes, that nearly all manifests are below.
const usualManifest = 16 << 10

var parsings = sync.Pool{New: func() any { return &parsing{room: make([]byte, usualManifest)} }}

// takeApart makes a node of a manifest's content.
func (r reading) takeApart(content []byte, p *parsing) found {
	m, err := p.parser.Parse(content)
	if err != nil {
		return found{node: &node{state: damaged, detail: err.Error(), isContent: true}}
	}
	n := p.newNode(len(m.References))
	n.kind = m.Kind
	if m.Kind == manifest.Unknown {
		n.detail = fmt.Sprintf("its type is not known (%.80q): all digests in it are taken as references", m.MediaType)
	}
	p.named = p.named[:0]
	for i := range m.References {
		p.named = append(p.named, m.References[i].Digest)
	}
	if m.Subject != nil {
		p.named = append(p.named, m.Subject)
	}
	p.ids = r.inv.IDs(p.ids[:0], p.named)
	if m.Subject != nil {
		n.hasSubject, n.subject = true, p.ids[len(m.References)]
	}
	f := found{node: n}
	for i := range m.References {
		to, reference := p.ids[i], &m.References[i]
		n.edges[i] = plain(to)
		r.inv.Declare(to, reference.Size)
		switch {
		case !r.inv.Stored(to):
		case reference.IsManifest():
			n.edges[i] |= asManifest
			f.leads = true
		case m.Kind == manifest.Unknown, m.Kind == manifest.Index && reference.MayBeManifest():
			if n.perhaps == nil {
				n.perhaps = map[inventory.ID]bool{}
			}
			n.perhaps[to] = true
			f.leads = true
		}
	}
	return f
}

// wasSeen reports whether the scan saw the blob itself. On a filesystem it only saw the
// blob's directory, which may be empty.
func (r reading) wasSeen(id inventory.ID) bool {
	_, exact := r.inv.Size(id)
	return exact
}

// missing is a manifest that a read did not find, and the scan has not seen. Where the scan
// has seen the directory of its blob, one more look has to agree: of a manifest that is
// missing nothing is kept.
func (r reading) missing(ctx context.Context, id inventory.ID) (*node, error) {
	gone := &node{state: missing, detail: "its blob is missing"}
	if !r.inv.Stored(id) {
		return gone, nil
	}
	isThere, err := inventory.IsThere(ctx, r.reader, layout.BlobPath(r.inv.Digest(id)))
	if err != nil {
		return nil, err
	}
	if !isThere {
		return gone, nil
	}
	return &node{state: damaged, detail: "its blob is there but was not found when it was read"}, nil
}
