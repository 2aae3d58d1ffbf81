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

// ManifestLimit is the size of the largest manifest that is read, in bytes. Registries refuse
// manifests above 4 MiB (registry/handlers/manifests.go of Distribution).
const ManifestLimit = 8 << 20

// largeManifest is the size in bytes above which a manifest counts as large. Few manifests are large.
const largeManifest = 1 << 20

// reading reads single manifests. It may be used concurrently.
type reading struct {
	inv    *inventory.Inventory // only its digests and sizes are used
	reader storage.Reader
	// large limits the number of large manifests that are parsed at once. Parsing a manifest needs
	// several times its size in memory.
	large chan struct{}
}

// largeAtOnce is the number of large manifests that are parsed at once.
const largeAtOnce = 2

// newLargeSlots makes a channel for reading.large.
func newLargeSlots() chan struct{} { return make(chan struct{}, largeAtOnce) }

// found is the result of reading one manifest.
type found struct {
	id       inventory.ID
	node     node
	edges    []vertex
	untyped  []int // indexes of the edges whose target is a manifest if it can be parsed as one
	claims   []Claim
	detail   string // problem of a damaged manifest, or of an unknown type
	refused  string
	unlisted bool // the blob exists but is not in the listing
}

// read reads one manifest, verifies its digest, and calls keep with the result. The slices in the
// result are valid until keep returns. The error is an error of the storage. Damage is no error: it is
// in the node.
func (r reading) read(ctx context.Context, id inventory.ID, keep func(found)) error {
	p := parsings.Get().(*parsing)
	content, lost, err := r.verified(ctx, id, p)
	if len(content) <= usualManifest { // a larger content would stay in memory with p
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
	f := r.parse(content, p)
	f.id, f.unlisted = id, !r.inv.Listed(id)
	keep(f)
	return nil
}

// verified reads the content of a digest and verifies it. It uses p's buffer if the content fits. If
// there is no intact content, lost is the result, with the reason.
func (r reading) verified(ctx context.Context, id inventory.ID, p *parsing) (content []byte, lost *found, err error) {
	damage := func(format string, args ...any) *found {
		return &found{node: node{state: damaged}, detail: fmt.Sprintf(format, args...)}
	}
	var path string
	if r.inv.Stored(id) {
		path = r.inv.BlobPath(id)
	} else if d := r.inv.Digest(id); d.Validate() != nil {
		// A digest that can't be verified can't be trusted either.
		return nil, damage("its digest is of an unknown algorithm"), nil
	} else {
		path = layout.BlobPath(d)
	}
	content, err = storage.ReadInto(ctx, r.reader, p.buffer, path, ManifestLimit)
	matches := err == nil && r.matches(id, content)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !r.wasListed(id):
		lost, err = r.missing(ctx, id)
		return nil, lost, err
	case errors.Is(err, fs.ErrNotExist):
		return nil, damage("its blob was listed but can't be found"), nil
	case errors.Is(err, storage.ErrTooLarge):
		lost = damage("it is larger than %d MiB", ManifestLimit>>20)
		lost.node.state = malformed
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

// matches reports whether content has the digest.
func (r reading) matches(id inventory.ID, content []byte) bool {
	if r.inv.Stored(id) {
		return r.inv.IsContent(id, content)
	}
	d := r.inv.Digest(id)
	return d.Algorithm().FromBytes(content) == d
}

// parsing has the buffers for reading one manifest. They are used again for the next one.
type parsing struct {
	buffer  []byte // for the content
	parser  manifest.Parser
	named   [][]byte
	ids     []inventory.ID
	edges   []vertex
	untyped []int
}

// usualManifest is a size in bytes. Nearly all manifests are smaller.
const usualManifest = 16 << 10

var parsings = sync.Pool{New: func() any { return &parsing{buffer: make([]byte, usualManifest)} }}

// parse parses a manifest, and finds the ids of its references.
func (r reading) parse(content []byte, p *parsing) found {
	m, err := p.parser.Parse(content)
	if err != nil {
		return found{node: node{state: malformed}, detail: err.Error()}
	}
	f := found{node: node{kind: m.Kind, purpose: m.Purpose}, refused: m.Refused}
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
	p.edges, p.untyped = p.edges[:0], p.untyped[:0]
	for i := range m.References {
		to, reference := plain(p.ids[i]), &m.References[i]
		r.inv.Declare(to.id(), reference.Size)
		claim := Claim{Of: to.id(), Bytes: -1, HasURLs: reference.HasURLs}
		if bytes, exact := r.inv.Size(to.id()); exact && reference.Size >= 0 && reference.Size != bytes {
			claim.Bytes = reference.Size
		}
		if claim.HasURLs || claim.Bytes >= 0 {
			f.claims = append(f.claims, claim)
		}
		switch {
		case !r.inv.Stored(to.id()):
		case reference.IsManifest():
			to |= asManifest
		case m.Kind == manifest.Unknown, m.Kind == manifest.Index && reference.MayBeManifest():
			p.untyped = append(p.untyped, i)
		}
		p.edges = append(p.edges, to)
	}
	f.edges, f.untyped = p.edges, p.untyped
	return f
}

// wasListed reports whether the listing has the blob itself. On a filesystem it has only the blob's
// directory, which may be empty.
func (r reading) wasListed(id inventory.ID) bool {
	_, exact := r.inv.Size(id)
	return exact
}

// missing returns the result for a manifest that was not found and whose blob was not listed. If the
// directory of the blob was listed, a stat must confirm that the blob does not exist, because a missing
// manifest keeps nothing alive.
func (r reading) missing(ctx context.Context, id inventory.ID) (*found, error) {
	absent := &found{node: node{state: missing}}
	if !r.inv.Stored(id) {
		return absent, nil
	}
	exists, err := inventory.IsThere(ctx, r.reader, layout.BlobPath(r.inv.Digest(id)))
	if err != nil {
		return nil, err
	}
	if !exists {
		return absent, nil
	}
	return &found{node: node{state: damaged}, detail: "its blob is there but was not found when it was read"}, nil
}
