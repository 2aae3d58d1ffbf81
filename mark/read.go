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

// ReadOptions configure Read. The zero value is for an ordinary run.
type ReadOptions struct {
	// Concurrency is the number of manifests that are read at once; 0 means 32.
	Concurrency int
	// Lists are all lists that Roots may have. Read also reads their digests without a link.
	Lists []*ListRoots
	// Ahead, if set, has read some of the manifests of this inventory.
	Ahead *Ahead
	// OnManifests, if set, is called with the number of manifests that will be read. OnRead, if
	// set, is called with the number of newly read ones, from several goroutines at once.
	OnManifests, OnRead func(n int)
}

// Read reads every manifest that could be alive in any repository, each digest once. The error is an
// error of the storage, or a damaged manifest that a list names and no repository links. Damage of
// other manifests is in the graph.
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
	for _, roots := range options.Lists {
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

	mu sync.Mutex // guards builder
	*builder
}

// readFrom reads the named manifests. Then it reads the manifests that they refer to and that were not
// read yet, generation by generation. A manifest of an unknown type has references without a type, and
// an index can have some. The target of such a reference is a manifest if it can be parsed as a
// manifest of a known type. Otherwise it is plain content. ahead is the number of manifests that were
// read before.
func (r *graphReader) readFrom(ctx context.Context, named idSet, ahead int) error {
	r.graph.manifests.expect(named)
	if r.onRead != nil {
		r.onRead(ahead)
	}
	r.children = append(r.children, named.ids()...)
	tried := map[inventory.ID]bool{}
	for len(r.children)+len(r.untyped) > 0 {
		if ids := r.unread(r.children, nil); len(ids) > 0 {
			r.children = nil
			if err := r.readAll(ctx, ids, r.add); err != nil {
				return err
			}
			continue
		}
		ids := r.unread(r.untyped, tried)
		r.children, r.untyped = nil, nil
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

// unread returns the ids that were not read before, sorted. It changes the slice.
func (r *graphReader) unread(ids []inventory.ID, tried map[inventory.ID]bool) []inventory.ID {
	slices.Sort(ids)
	return slices.DeleteFunc(slices.Compact(ids), func(id inventory.ID) bool { return r.graph.manifests.has(id) || tried[id] })
}

// readAll reads manifests concurrently. The calls of keep are serial, in any order.
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

// readUnlinked reads the digests of a list to which no repository has a link. It adds the manifests
// among them to named. All others are plain content, such as a config. A damaged manifest is an error:
// no repository has links that show what the manifest needs.
func (r *graphReader) readUnlinked(ctx context.Context, named *idSet, unlinked []inventory.ID, tried map[inventory.ID]bool) error {
	for _, id := range unlinked {
		tried[id] = true
	}
	unlinked = slices.DeleteFunc(slices.Clone(unlinked), named.has)
	slices.Sort(unlinked)
	unlinked = slices.Compact(unlinked)
	states := make([]found, 0, len(unlinked)) // without edges, which are only valid in keep
	err := r.readAll(ctx, unlinked, func(f found) { states = append(states, found{id: f.id, node: f.node, detail: f.detail}) })
	if err != nil {
		return err
	}
	slices.SortFunc(states, func(a, b found) int { return cmp.Compare(a.id, b.id) })
	for _, f := range states {
		switch {
		case f.node.state == damaged:
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

// linkedManifests returns the manifests that links name.
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
