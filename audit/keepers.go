package audit

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"regsweep/inventory"
	"regsweep/mark"
)

// Keepers says how much each tag keeps. It is for the exports: ncdu's file and the page.
//
// A keeper is a tag, or the untagged content of a repository: all that its untagged manifests and damage
// keep. Its tags may keep a part of that too. A blob takes 8 bytes, and a keeper 24. Nothing grows with
// keepers times blobs.
type Keepers struct {
	facts Facts
	// all has the keepers of each repository in turn: its tags, and then its untagged content.
	all   []Keeper
	first []int // by repository: the index in all of its first keeper

	links []atomic.Uint32 // by blob: the number of its keepers
	last  []atomic.Uint32 // by blob: the index in all of one of its keepers
}

// Keeper is the space of a tag, or of the untagged content of a repository, in bytes.
type Keeper struct {
	// Logical is what a pull of the tag fetches. It is 0 for untagged content.
	Logical int64
	// Bytes is everything that the keeper keeps. Unique is the part that has no other keeper.
	Bytes, Unique int64
}

// NewKeepers adds up the keepers. The error is the cause of ctx.
func NewKeepers(ctx context.Context, facts Facts) (*Keepers, error) {
	blobs := facts.Inventory.Blobs()
	k := &Keepers{facts: facts, links: make([]atomic.Uint32, blobs), last: make([]atomic.Uint32, blobs)}
	n := 0
	for _, r := range facts.Inventory.Repositories {
		k.first = append(k.first, n)
		n += len(r.Tags) + 1
	}
	k.all = make([]Keeper, n)
	err := facts.Graph.EachRepository(ctx, func(_ context.Context, i int) error {
		view := facts.Graph.View(i)
		r, of := facts.Inventory.Repositories[i], k.Of(i)
		k.each(i, view, func(at int, ids []inventory.ID) {
			for _, id := range ids {
				k.links[id].Add(1)
				k.last[id].Store(uint32(k.first[i] + at))
			}
			of[at].Bytes = facts.sum(ids)
			if at < len(r.Tags) && r.Tags[at].HasTarget {
				of[at].Logical = facts.sum(view.Pulled(r.Tags[at].Target))
			}
		})
		return nil
	})
	if err != nil {
		return nil, err
	}
	for id := range inventory.ID(blobs) {
		if k.links[id].Load() == 1 {
			k.all[k.last[id].Load()].Unique += facts.size(id)
		}
	}
	return k, nil
}

// Of returns the keepers of a repository: its tags in their order, and then its untagged content.
func (k *Keepers) Of(repository int) []Keeper {
	from := k.first[repository]
	return k.all[from : from+len(k.facts.Inventory.Repositories[repository].Tags)+1]
}

// each calls visit with the stored blobs of each keeper of a repository, in the order of Of.
func (k *Keepers) each(repository int, view *mark.View, visit func(at int, ids []inventory.ID)) {
	r := k.facts.Inventory.Repositories[repository]
	isStray := func(id inventory.ID) bool { return !k.facts.Inventory.Stored(id) }
	for at, tag := range r.Tags {
		visit(at, slices.DeleteFunc(view.Kept(tag.Roots()...), isStray))
	}
	visit(len(r.Tags), slices.DeleteFunc(view.Kept(k.facts.untaggedRoots(repository, view)...), isStray))
}

// untaggedRoots returns the untagged manifests of a repository, and the digests that damage keeps. They keep
// alive all that stays without the tags.
func (f Facts) untaggedRoots(repository int, view *mark.View) []inventory.ID {
	r, live := f.Inventory.Repositories[repository], f.Live.Repositories[repository]
	roots := slices.Concat(r.Pinned, r.Doubted)
	if live.Kept {
		return append(roots, view.Linked()...)
	}
	for at, link := range r.Revisions {
		// A revision without a manifest keeps nothing.
		if live.Revisions.At(at) == mark.Untagged && !f.Graph.Missing(link.ID()) {
			roots = append(roots, link.ID())
		}
	}
	return roots
}

// pushed returns the push time of a tag in seconds since 1970, or 0 if it is not known.
func pushed(at time.Time) int64 {
	if at.IsZero() {
		return 0
	}
	return at.Unix()
}
