package mark

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"regsweep/storage"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

// manifestLimit is the largest manifest that is read, in bytes. Registries refuse
// to take one above 4 MiB (registry/handlers/manifests.go of Distribution).
const manifestLimit = 8 << 20

// largeManifest is a size, in bytes, that hardly any manifest has.
const largeManifest = 1 << 20

// state is what became of reading a manifest.
type state uint8

const (
	intact  state = iota
	missing       // nothing is stored under its digest
	damaged       // something is, but not the manifest
)

// node is a manifest in memory: what it reaches, as ids.
type node struct {
	state      state
	kind       Kind
	hasSubject bool
	subject    storage.ID
	edges      []vertex
	perhaps    map[storage.ID]bool // edges to what is a manifest if it reads like one
	detail     string              // of a damaged one
}

// isKnown reports whether it is whole, and of a type that is known.
func (n *node) isKnown() bool { return n.state == intact && n.kind != Unknown }

// manifests reads every manifest that any repository could hold alive, each
// digest once, whoever names it.
type manifests struct {
	inv    *storage.Inventory
	reader storage.Reader
	limit  int
	onRead func(n int)
	// large has room for each large manifest that is taken apart. That takes several
	// times its size, and many are read at once.
	large chan struct{}

	nodes nodes

	mu       sync.Mutex
	unlisted []storage.ID // manifests that were read, and that the listing of blobs lacks
}

// load reads the roots and then, generation by generation, the manifests that
// indexes among them lead to and that no repository has a revision link for. What a
// manifest of an unknown type names, or an index without saying what it is, may be a
// manifest as well: it is one if it reads like one of a known type, and otherwise
// nothing is said of it.
func (m *manifests) load(ctx context.Context) error {
	m.large = make(chan struct{}, runtime.GOMAXPROCS(0))
	tried := map[storage.ID]bool{}
	var perhaps []storage.ID
	for next := m.named(); len(next) > 0; {
		for len(next) > 0 {
			found, err := m.readAll(ctx, next)
			if err != nil {
				return err
			}
			var children []storage.ID
			for i, f := range found {
				m.nodes.set(next[i], f.node)
				children = append(children, f.children...)
				perhaps = append(perhaps, f.perhaps...)
			}
			next = m.unread(children, nil)
		}
		candidates := m.unread(perhaps, tried)
		perhaps = nil
		found, err := m.readAll(ctx, candidates)
		if err != nil {
			return err
		}
		for i, f := range found {
			tried[candidates[i]] = true
			if f.node.isKnown() {
				m.nodes.set(candidates[i], f.node)
				next = append(next, f.children...)
			}
		}
		next = m.unread(next, nil)
	}
	return nil
}

// unread sorts ids and leaves out those that were read before.
func (m *manifests) unread(ids []storage.ID, tried map[storage.ID]bool) []storage.ID {
	slices.Sort(ids)
	return slices.DeleteFunc(slices.Compact(ids), func(id storage.ID) bool { return m.nodes.at(id) != nil || tried[id] })
}

// named returns the manifests that links name, sorted, each once.
func (m *manifests) named() []storage.ID {
	var ids []storage.ID
	for _, r := range m.inv.Repositories {
		for _, link := range r.Revisions {
			ids = append(ids, link.ID())
		}
		ids = append(ids, r.Doubted...)
		for _, tag := range r.Tags {
			ids = append(ids, tagRoots(tag)...)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// tagRoots is what a tag keeps alive: its target or, where it has none, all that it
// ever pointed at.
func tagRoots(tag storage.Tag) []storage.ID {
	if tag.HasTarget {
		return []storage.ID{tag.Target}
	}
	ids := make([]storage.ID, len(tag.Index))
	for i, link := range tag.Index {
		ids[i] = link.ID()
	}
	return ids
}

// found is a manifest that was read and what is stored of what it names: manifests, and
// what may be some though nothing says so.
type found struct {
	node              *node
	children, perhaps []storage.ID
}

// readAll reads manifests concurrently, and returns what it finds in their order.
func (m *manifests) readAll(ctx context.Context, ids []storage.ID) ([]found, error) {
	all := make([]found, len(ids))
	g, ctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	for range min(m.limit, len(ids)) {
		g.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(ids) {
					return nil
				}
				var err error
				if all[i], err = m.read(ctx, ids[i]); err != nil {
					return err
				}
				if m.onRead != nil {
					m.onRead(1)
				}
			}
		})
	}
	return all, g.Wait()
}

// wasSeen reports whether the scan saw the blob itself. On a filesystem it only saw the
// blob's directory, which may be empty.
func (m *manifests) wasSeen(id storage.ID) bool {
	_, exact := m.inv.Size(id)
	return exact
}

// matches reports whether content is what the digest says.
func matches(d digest.Digest, content []byte) bool {
	if want, found := strings.CutPrefix(string(d), "sha256:"); found {
		sum := sha256.Sum256(content) // the usual way, without go-digest's allocations
		var text [2 * sha256.Size]byte
		hex.Encode(text[:], sum[:])
		return string(text[:]) == want
	}
	return d.Algorithm().FromBytes(content) == d
}

// missing is a manifest that a read did not find, and the scan has not seen. Where the scan
// has seen the directory of its blob, one more look has to agree: of a manifest that is
// missing nothing is kept.
func (m *manifests) missing(ctx context.Context, id storage.ID) (found, error) {
	gone := found{node: &node{state: missing, detail: "its blob is missing"}}
	if !m.inv.Stored(id) {
		return gone, nil
	}
	isThere, err := looksAgain(ctx, m.reader, storage.BlobPath(m.inv.Digest(id)))
	if err != nil || !isThere {
		return gone, err
	}
	return found{node: &node{state: damaged, detail: "its blob is there but was not found when it was read"}}, nil
}

// looksAgain reports whether what a read did not find is there after all: a storage that
// fails in passing may say "not found" as well.
func looksAgain(ctx context.Context, reader storage.Reader, path string) (isThere bool, err error) {
	_, err = reader.Stat(ctx, path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil && !errors.Is(err, storage.ErrNotRegular):
		return false, fmt.Errorf("look again: %w", err)
	}
	return true, nil
}

// read reads one manifest and verifies that it is what its digest says. Its error is
// the storage's: damage is a property of the node.
func (m *manifests) read(ctx context.Context, id storage.ID) (found, error) {
	d := m.inv.Digest(id)
	if !m.inv.Stored(id) && d.Validate() != nil {
		// A digest that can't be verified can't be trusted either.
		return found{node: &node{state: damaged, detail: "its digest is of an unknown algorithm"}}, nil
	}
	content, err := m.reader.Read(ctx, storage.BlobPath(d), manifestLimit)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !m.wasSeen(id):
		return m.missing(ctx, id)
	case errors.Is(err, fs.ErrNotExist):
		return found{node: &node{state: damaged, detail: "its blob was listed but can't be found"}}, nil
	case errors.Is(err, storage.ErrTooLarge):
		return found{node: &node{state: damaged, detail: fmt.Sprintf("it is larger than %d MiB", manifestLimit>>20)}}, nil
	case errors.Is(err, storage.ErrNotRegular):
		return found{node: &node{state: damaged, detail: "it is not a regular file"}}, nil
	case err != nil:
		return found{}, fmt.Errorf("read manifest %s: %w", d, err)
	case len(content) == 0:
		return found{node: &node{state: damaged, detail: "it is empty"}}, nil
	case !matches(d, content):
		return found{node: &node{state: damaged, detail: "its content does not match its digest"}}, nil
	}
	m.inv.Declare(id, int64(len(content)))
	if !m.inv.Stored(id) {
		m.mu.Lock()
		m.unlisted = append(m.unlisted, id)
		m.mu.Unlock()
	}
	if len(content) > largeManifest {
		m.large <- struct{}{}
		defer func() { <-m.large }()
	}
	parsed, err := References(content)
	if err != nil {
		return found{node: &node{state: damaged, detail: err.Error()}}, nil
	}
	n := &node{kind: parsed.Kind, edges: make([]vertex, len(parsed.References))}
	if parsed.Kind == Unknown {
		n.detail = fmt.Sprintf("its type is not known (%.80q): all digests in it are taken as references", parsed.MediaType)
	}
	if parsed.Subject != "" {
		n.hasSubject, n.subject = true, m.inv.ID(parsed.Subject)
	}
	f := found{node: n}
	named := make([]digest.Digest, len(parsed.References))
	for i, reference := range parsed.References {
		named[i] = reference.Digest
	}
	ids := m.inv.IDs(named)
	for i, reference := range parsed.References {
		to := ids[i]
		n.edges[i] = plain(to)
		m.inv.Declare(to, reference.Size)
		switch {
		case !m.inv.Stored(to):
		case reference.IsManifest():
			n.edges[i] |= asManifest
			f.children = append(f.children, to)
		case parsed.Kind == Unknown, parsed.Kind == Index && reference.MayBeManifest():
			if n.perhaps == nil {
				n.perhaps = map[storage.ID]bool{}
			}
			n.perhaps[to] = true
			f.perhaps = append(f.perhaps, to)
		}
	}
	return f, nil
}
