package mark

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"regsweep/inventory"
	"regsweep/storage"
)

// ReadOptions are the zero value for an ordinary run.
type ReadOptions struct {
	// Concurrency is how many manifests are read at once; 32 if it is 0.
	Concurrency int
	// Listed are those that a Live of the graph may have as roots: what they name without a link is
	// read as well.
	Listed []*Listed
	// Ahead, if set, has read some of the manifests of this inventory.
	Ahead *Ahead
	// OnManifests, if set, is called with the number of manifests that are going to be read. OnRead,
	// if set, is called with the number of those that were read since, from several goroutines at once.
	OnManifests, OnRead func(n int)
}

// Read reads every manifest that could be alive in any repository, each digest once. After it no
// manifest is read. If the storage fails, Read returns its error and nothing is known.
func Read(ctx context.Context, inv *inventory.Inventory, reader storage.Reader, options ReadOptions) (*Graph, error) {
	done, count := options.Ahead.take(inv)
	r := &graphReader{
		reading: reading{inv, reader, newLargeSlots()}, builder: done,
		limit: cmp.Or(options.Concurrency, 32), onRead: options.OnRead,
	}
	named := linkedManifests(inv)
	if options.OnManifests != nil {
		options.OnManifests(named.len())
	}
	tried := map[inventory.ID]bool{}
	for _, roots := range options.Listed {
		if err := r.readUnlinked(ctx, &named, roots.unlinked, tried); err != nil {
			return nil, fmt.Errorf("mark: %w", err)
		}
	}
	if err := r.readFrom(ctx, named, count); err != nil {
		return nil, fmt.Errorf("mark: %w", err)
	}
	graph := r.finish()
	graph.tried = tried
	return graph, nil
}

// graphReader reads the manifests of a graph.
type graphReader struct {
	reading
	limit  int
	onRead func(n int)

	mu sync.Mutex // for the builder
	*builder
}

// readFrom reads the manifests that are named and then, generation by generation, those that
// indexes among them lead to and that no repository has a revision link for. What a
// manifest of an unknown type names, or an index without saying what it is, may be a
// manifest as well: it is one if it reads like one of a known type, and otherwise
// it is plain content. So many manifests were read ahead, and are not read again.
func (r *graphReader) readFrom(ctx context.Context, named idSet, ahead int) error {
	r.graph.manifests.expect(named)
	if r.onRead != nil {
		r.onRead(ahead)
	}
	r.children = append(r.children, named.ids()...)
	tried := map[inventory.ID]bool{}
	for len(r.children)+len(r.perhaps) > 0 {
		if ids := r.unread(r.children, nil); len(ids) > 0 {
			r.children = nil
			if err := r.readAll(ctx, ids, r.add); err != nil {
				return err
			}
			continue
		}
		ids := r.unread(r.perhaps, tried)
		r.children, r.perhaps = nil, nil
		err := r.readAll(ctx, ids, func(f found) {
			tried[f.id] = true
			if f.node.isKnown() {
				r.add(f)
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// unread sorts ids and leaves out those that were read before.
func (r *graphReader) unread(ids []inventory.ID, tried map[inventory.ID]bool) []inventory.ID {
	slices.Sort(ids)
	return slices.DeleteFunc(slices.Compact(ids), func(id inventory.ID) bool { return r.graph.manifests.has(id) || tried[id] })
}

// readAll reads manifests concurrently. It calls keep for one after the other, in any order.
func (r *graphReader) readAll(ctx context.Context, ids []inventory.ID, keep func(found)) error {
	var unlisted []inventory.ID
	err := storage.Each(ctx, len(ids), r.limit, func(ctx context.Context, i int) error {
		err := r.read(ctx, ids[i], func(f found) {
			r.mu.Lock()
			defer r.mu.Unlock()
			keep(f)
			if f.unlisted {
				unlisted = append(unlisted, f.id)
			}
		})
		if err == nil && r.onRead != nil {
			r.onRead(1)
		}
		return err
	})
	if err == nil && len(unlisted) > 0 {
		slices.Sort(unlisted)
		r.graph.unlisted = append(r.graph.unlisted, unlisted...)
	}
	return err
}

// readUnlinked reads what a list names and no repository has a link to. What is no manifest
// is left to be content, like a config. One that is damaged ends the run: there is no
// repository whose links would tell what it may need.
func (r *graphReader) readUnlinked(ctx context.Context, named *idSet, unlinked []inventory.ID, tried map[inventory.ID]bool) error {
	for _, id := range unlinked {
		tried[id] = true
	}
	unlinked = slices.DeleteFunc(slices.Clone(unlinked), named.has)
	slices.Sort(unlinked)
	unlinked = slices.Compact(unlinked)
	states := make([]found, 0, len(unlinked)) // without what is not valid any more
	err := r.readAll(ctx, unlinked, func(f found) { states = append(states, found{id: f.id, node: f.node, detail: f.detail}) })
	if err != nil {
		return err
	}
	slices.SortFunc(states, func(a, b found) int { return cmp.Compare(a.id, b.id) })
	for _, f := range states {
		switch {
		case f.node.state == damaged && !f.node.isContent:
			return damagedUnlinked(r.inv, f.id, f.detail)
		case f.node.state == intact:
			named.add(f.id)
		}
	}
	return nil
}

func damagedUnlinked(inv *inventory.Inventory, id inventory.ID, detail string) error {
	return fmt.Errorf("%s, which the list needs, can't be read as a manifest (%s), and no repository has a link to it: "+
		"nothing tells what it keeps alive", inv.Digest(id), detail)
}

// linkedManifests are the manifests that links name.
func linkedManifests(inv *inventory.Inventory) idSet {
	var all idSet
	for _, r := range inv.Repositories {
		for _, link := range r.Revisions {
			all.add(link.ID())
		}
		for _, id := range r.Doubted {
			all.add(id)
		}
		for _, tag := range r.Tags {
			for _, id := range tag.Roots() {
				all.add(id)
			}
		}
	}
	return all
}
