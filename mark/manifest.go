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
	inv    *inventory.Inventory // only its digests and sizes are used
	reader storage.Reader
	// large limits how many large manifests are parsed at once. Parsing one takes several
	// times its size, and many are read at once.
	large chan struct{}
}

// largeAtOnce is how many large manifests are parsed at once.
const largeAtOnce = 2

// newLargeSlots makes a channel for reading.large.
func newLargeSlots() chan struct{} { return make(chan struct{}, largeAtOnce) }

// found is a manifest that was read.
type found struct {
	id       inventory.ID
	node     node
	edges    []vertex
	perhaps  []int  // which edges lead to what is a manifest if it reads like one
	detail   string // what is wrong with a damaged one, or with an unknown type
	unlisted bool   // it is there, and the listing of blobs lacks it
}

// read reads one manifest, verifies its digest, and calls keep. What keep gets is valid until it
// returns. The error is the storage's: damage is a property of the node.
func (r reading) read(ctx context.Context, id inventory.ID, keep func(found)) error {
	p := parsings.Get().(*parsing)
	content, lost, err := r.verified(ctx, id, p)
	if len(content) <= usualManifest { // of a larger one p would hold the content
		defer parsings.Put(p)
	}
	if err != nil {
		return err
	}
	if lost != nil {
		lost.id = id
		keep(*lost)
		return nil
	}
	r.inv.Declare(id, int64(len(content)))
	if len(content) > largeManifest {
		select {
		case r.large <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		defer func() { <-r.large }()
	}
	f := r.takeApart(content, p)
	f.id, f.unlisted = id, !r.inv.Listed(id)
	keep(f)
	return nil
}

// verified reads the content that has the digest, into p's buffer if it can. If there is no such
// content, lost says why.
func (r reading) verified(ctx context.Context, id inventory.ID, p *parsing) (content []byte, lost *found, err error) {
	damage := func(format string, args ...any) *found {
		return &found{node: node{state: damaged}, detail: fmt.Sprintf(format, args...)}
	}
	if r.inv.Stored(id) {
		p.path = r.inv.AppendBlobPath(p.path[:0], id)
	} else if d := r.inv.Digest(id); d.Validate() != nil {
		// A digest that can't be verified can't be trusted either.
		return nil, damage("its digest is of an unknown algorithm"), nil
	} else {
		p.path = append(p.path[:0], layout.BlobPath(d)...)
	}
	content, err = storage.ReadInto(ctx, r.reader, p.buffer, p.path, manifestLimit)
	matches := err == nil && r.matches(id, content)
	if err == nil && !matches && len(content) > 0 && len(p.buffer) > 0 && &content[0] == &p.buffer[0] { // it may be cut short
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
		lost.node.isContent = true
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

// parsing is the memory that it takes to read a manifest. The next manifest uses it again.
type parsing struct {
	path    []byte
	buffer  []byte // for the content
	parser  manifest.Parser
	named   [][]byte
	ids     []inventory.ID
	edges   []vertex
	perhaps []int
}

// usualManifest is a size, in bytes, that nearly all manifests are below.
const usualManifest = 16 << 10

var parsings = sync.Pool{New: func() any { return &parsing{buffer: make([]byte, usualManifest)} }}

// takeApart parses a manifest, and finds the ids of its references.
func (r reading) takeApart(content []byte, p *parsing) found {
	m, err := p.parser.Parse(content)
	if err != nil {
		return found{node: node{state: damaged, isContent: true}, detail: err.Error()}
	}
	f := found{node: node{kind: m.Kind}}
	if m.Kind == manifest.Unknown {
		f.detail = fmt.Sprintf("its type is not known (%.80q): all digests in it are taken as references", m.MediaType)
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
		f.node.hasSubject, f.node.subject = true, p.ids[len(m.References)]
	}
	p.edges, p.perhaps = p.edges[:0], p.perhaps[:0]
	for i := range m.References {
		to, reference := plain(p.ids[i]), &m.References[i]
		r.inv.Declare(to.id(), reference.Size)
		switch {
		case !r.inv.Stored(to.id()):
		case reference.IsManifest():
			to |= asManifest
		case m.Kind == manifest.Unknown, m.Kind == manifest.Index && reference.MayBeManifest():
			p.perhaps = append(p.perhaps, i)
		}
		p.edges = append(p.edges, to)
	}
	f.edges, f.perhaps = p.edges, p.perhaps
	return f
}

// wasSeen reports whether the scan saw the blob itself. On a filesystem it only saw the
// blob's directory, which may be empty.
func (r reading) wasSeen(id inventory.ID) bool {
	_, exact := r.inv.Size(id)
	return exact
}

// missing is a manifest that a read did not find, and that the scan did not see. If the scan saw the
// directory of its blob, a stat has to agree: of a manifest that is missing nothing is kept.
func (r reading) missing(ctx context.Context, id inventory.ID) (*found, error) {
	gone := &found{node: node{state: missing}}
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
	return &found{node: node{state: damaged}, detail: "its blob is there but was not found when it was read"}, nil
}
