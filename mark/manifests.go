package mark

import (
	"context"
	"fmt"
	"slices"

	"regsweep/inventory"
	"regsweep/manifest"
	"regsweep/storage"
)

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
	kind       manifest.Kind
	hasSubject bool
	subject    inventory.ID
	edges      []vertex
	perhaps    map[inventory.ID]bool // edges to what is a manifest if it reads like one
	detail     string                // of a damaged one
	isContent  bool                  // of a damaged one: its content is what its digest says, or too large for a manifest
}

// isKnown reports whether it is whole, and of a type that is known.
func (n *node) isKnown() bool { return n.state == intact && n.kind != manifest.Unknown }

// manifests reads every manifest that any repository could hold alive, each
// digest once, whoever names it.
type manifests struct {
	reading
	limit  int
	onRead func(n int)

	nodes    nodes
	unlisted []inventory.ID // manifests that were read, and that the listing of blobs lacks
}

// load reads the roots and then, generation by generation, the manifests that
// indexes among them lead to and that no repository has a revision link for. What a
// manifest of an unknown type names, or an index without saying what it is, may be a
// manifest as well: it is one if it reads like one of a known type, and otherwise
// nothing is said of it. What was read ahead is taken for read.
func (m *manifests) load(ctx context.Context, named idSet, done readings) error {
	m.nodes = expect(named)
	for id, node := range done.nodes {
		m.nodes.set(id, node)
	}
	if m.onRead != nil {
		m.onRead(done.count)
	}
	tried := map[inventory.ID]bool{}
	next, perhaps := m.unread(append(named.ids(), done.children...), nil), done.perhaps
	for len(next) > 0 || len(perhaps) > 0 {
		for len(next) > 0 {
			found, err := m.readAll(ctx, next)
			if err != nil {
				return err
			}
			var children []inventory.ID
			for _, f := range found {
				m.nodes.set(f.id, f.node)
				children, perhaps = f.leadsTo(children, perhaps)
			}
			next = m.unread(children, nil)
		}
		candidates := m.unread(perhaps, tried)
		perhaps = nil
		found, err := m.readAll(ctx, candidates)
		if err != nil {
			return err
		}
		for _, f := range found {
			tried[f.id] = true
			if f.node.isKnown() {
				m.nodes.set(f.id, f.node)
				next, _ = f.leadsTo(next, nil)
			}
		}
		next = m.unread(next, nil)
	}
	return nil
}

// unread sorts ids and leaves out those that were read before.
func (m *manifests) unread(ids []inventory.ID, tried map[inventory.ID]bool) []inventory.ID {
	slices.Sort(ids)
	return slices.DeleteFunc(slices.Compact(ids), func(id inventory.ID) bool { return m.nodes.at(id) != nil || tried[id] })
}

// readUnlinked reads what a list names and no repository has a link to. What is no manifest
// is left to be content, like a config. One that is damaged ends the run: there is no
// repository whose links would tell what it may need.
func (m *manifests) readUnlinked(ctx context.Context, named *idSet, unlinked []inventory.ID) error {
	unlinked = slices.DeleteFunc(slices.Clone(unlinked), named.has)
	slices.Sort(unlinked)
	found, err := m.readAll(ctx, slices.Compact(unlinked))
	if err != nil {
		return err
	}
	for _, f := range found {
		switch {
		case f.node.state == damaged && !f.node.isContent:
			return m.damagedUnlinked(f.id, f.node)
		case f.node.state == intact:
			named.add(f.id)
		}
	}
	return nil
}

func (m *manifests) damagedUnlinked(id inventory.ID, n *node) error {
	return fmt.Errorf("%s, which the list needs, can't be read as a manifest (%s), and no repository has a link to it: "+
		"nothing tells what it keeps alive", m.inv.Digest(id), n.detail)
}

// markUnlinked marks what a list names and no repository has a link to.
func (m *manifests) markUnlinked(lists []*Roots) (*tracer, error) {
	var roots []inventory.ID
	for _, list := range lists {
		roots = append(roots, list.unlinked...)
	}
	t := &tracer{inv: m.inv, nodes: &m.nodes, r: &inventory.Repository{}, named: map[inventory.ID]bool{}, follows: true}
	if len(roots) == 0 {
		return t, nil
	}
	t.marks = newMarks(len(roots), m.inv.Digests())
	defer t.marks.release()
	for _, id := range roots {
		t.named[id] = true
	}
	t.stage(Tagged, roots)
	for _, id := range t.stages[0].manifests {
		if n := m.nodes.at(id); n.state == damaged {
			return nil, m.damagedUnlinked(id, n)
		}
	}
	return t, nil
}

// named returns the manifests that links name.
func (m *manifests) named() idSet {
	var all idSet
	for _, r := range m.inv.Repositories {
		for _, link := range r.Revisions {
			all.add(link.ID())
		}
		for _, id := range r.Doubted {
			all.add(id)
		}
		for _, tag := range r.Tags {
			for _, id := range tagRoots(tag) {
				all.add(id)
			}
		}
	}
	return all
}

// tagRoots is what a tag keeps alive: its target or, where it has none, all that it
// ever pointed at.
func tagRoots(tag inventory.Tag) []inventory.ID {
	if tag.HasTarget {
		return []inventory.ID{tag.Target}
	}
	ids := make([]inventory.ID, len(tag.Index))
	for i, link := range tag.Index {
		ids[i] = link.ID()
	}
	return ids
}

// readAll reads manifests concurrently, and returns what it finds in their order.
func (m *manifests) readAll(ctx context.Context, ids []inventory.ID) ([]found, error) {
	all := make([]found, len(ids))
	err := storage.Each(ctx, len(ids), m.limit, func(ctx context.Context, i int) (err error) {
		all[i], err = m.read(ctx, ids[i])
		if err == nil && m.onRead != nil {
			m.onRead(1)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, f := range all {
		if f.unlisted {
			m.unlisted = append(m.unlisted, f.id)
		}
	}
	return all, nil
}
