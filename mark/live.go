package mark

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"regsweep/inventory"

	"golang.org/x/sync/errgroup"
)

// Cause is the reason why a digest is alive. If there are several, the first one in this order counts.
type Cause uint8

// The causes. Except for Dead and Absent, each is also a stage of the mark.
const (
	Dead          Cause = iota // nothing keeps it
	Tagged                     // a tag reaches it, or it is a referrer of such a manifest
	Recent                     // a link that names it is younger than the minimum age
	UnlinkedChild              // an index reaches it by a manifest that was deleted from the repository
	Untagged                   // only an untagged revision reaches it
	Damage                     // a damaged repository could reach it
	Absent                     // a link that does not exist: only its empty directory does
)

// Alive reports whether a digest with this cause is kept.
func (c Cause) Alive() bool { return c != Dead && c != Absent }

// Live has the live digests of an inventory, with the causes. It is immutable.
//
// Nothing may be removed before CheckLinks has returned a checked Live.
type Live struct {
	// Repositories have the order of the inventory's.
	Repositories []*Repository
	// Problems has the problems of the inventory, and then those of the manifests.
	Problems []inventory.Problem
	// Manifests is the number of intact manifests that are alive.
	Manifests int

	blobs   []Cause // by ID of a stored blob
	roots   Roots
	checked bool
	links   map[int]checkedLinks // the results of CheckLinks, by repository

	// The input of CheckLinks. In the result of CheckLinks these fields are nil.
	graph     *Graph
	problems  [][]inventory.Problem // by repository
	manifests idSet                 // intact manifests that are alive
	before    *Live                 // the result on which With was called, or nil
}

// Blob returns the cause of a stored blob: the first one that it has in any repository.
func (l *Live) Blob(id inventory.ID) Cause { return l.blobs[id] }

// Repository has the live digests of one repository. A digest can be alive in one repository and dead
// in another.
type Repository struct {
	// Kept is set if damage keeps all links of the repository.
	Kept bool
	// Revisions and Layers have the causes of the repository's links, in the order of the links.
	Revisions, Layers Causes
	// Only has the digests of each cause but Tagged, as far as there are any.
	Only map[Cause][]inventory.ID

	// DeadTags are the indexes of the tags that are removed: those of Roots.Removed, those of
	// Roots.Followers whose subject is dead, and those that are no roots and whose target is dead.
	DeadTags []int
	// Orphans are dead manifests without a revision link that still have a signature link or a
	// referrer link. They are sorted by digest.
	Orphans []inventory.ID

	// aliveEntries are the live digests in tag indexes that have no revision link in the repository.
	aliveEntries map[inventory.ID]bool
	// unlisted are live digests of other algorithms than SHA-256 for which no link was listed.
	unlisted []inventory.ID
}

// IsAliveEntry reports whether a digest in a tag's index is alive although the repository has no revision
// link for it.
func (r *Repository) IsAliveEntry(id inventory.ID) bool { return r.aliveEntries[id] }

// Live marks all repositories. It does no I/O and does not change the graph. It may be called several
// times, with different roots. The error is the cause of ctx, or a damaged manifest that a list names
// and no repository links.
//
// Referrers of live manifests are alive. A damaged manifest keeps all links of each repository in which
// it is alive: a manifest can only refer to digests that are linked there.
func (g *Graph) Live(ctx context.Context, roots Roots) (*Live, error) {
	l := &Live{
		Repositories: make([]*Repository, len(g.inv.Repositories)),
		blobs:        make([]Cause, g.inv.Blobs()),
		graph:        g,
		roots:        roots,
		problems:     make([][]inventory.Problem, len(g.inv.Repositories)),
	}
	var mu sync.Mutex
	err := g.EachRepository(ctx, func(_ context.Context, i int) error {
		m := l.markRepository(g, i, checkedLinks{})
		mu.Lock()
		defer mu.Unlock()
		l.add(i, m)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("mark: %w", err)
	}
	if err := l.addUnlinked(); err != nil {
		return nil, fmt.Errorf("mark: %w", err)
	}
	l.sum()
	return l, nil
}

// With marks all repositories of the graph again, with other roots. l is the checked result of an earlier
// mark. So the new CheckLinks reads no links that were dead there.
func (l *Live) With(ctx context.Context, graph *Graph, roots Roots) (*Live, error) {
	if !l.checked {
		return nil, errors.New("mark: the links of the earlier mark were not checked")
	}
	out, err := graph.Live(ctx, roots)
	if err == nil {
		out.before = l
	}
	return out, err
}

// Checked reports whether CheckLinks was called, and a plan may be made.
func (l *Live) Checked() bool { return l.checked && !l.roots.WhatIf }

// markRepository marks one repository. checked has the results of CheckLinks.
func (l *Live) markRepository(g *Graph, i int, checked checkedLinks) *marker {
	roots := l.roots
	r := g.inv.Repositories[i]
	removesBroken := roots.WhatIf && !r.Kept()
	m := &marker{
		inv: g.inv, graph: g, r: r, deleteUntagged: roots.Revision != nil, dropUnlinkedChildren: roots.DeleteUnlinkedChildren,
		marks: newMarks(len(r.Revisions)+len(r.Layers), g.inv.Digests()),
		named: map[inventory.ID]bool{}, reported: map[inventory.ID]bool{},
		isRemoved: func(tag int) bool { return roots.Removed != nil && r.Tags[tag].HasTarget && roots.Removed(i, tag) },
		mayRemoveTag: func(tag int) bool {
			return roots.Tag != nil && (r.Tags[tag].HasTarget || removesBroken) && !roots.Tag(i, tag)
		},
		mayRemove: func(revision int) bool {
			return roots.Revision != nil && !roots.Revision(i, revision)
		},
	}
	defer m.marks.release()
	if !roots.WhatIf {
		m.recent = r.Recent
	}
	if roots.Followers != nil {
		m.follow(roots.Followers(i))
	}
	for _, list := range roots.Lists {
		m.roots = append(m.roots, list.roots[i]...)
	}
	m.run(checked)
	return m
}

// add adds the result of one repository.
func (l *Live) add(i int, m *marker) {
	l.Repositories[i], l.problems[i] = m.result, m.problems
	m.addTo(l)
}

// addUnlinked marks the digests of lists to which no repository has a link.
func (l *Live) addUnlinked() error {
	g := l.graph
	var roots []inventory.ID
	for _, list := range l.roots.Lists {
		roots = append(roots, list.unlinked...)
	}
	if len(roots) == 0 {
		return nil
	}
	m := &marker{inv: g.inv, graph: g, r: &inventory.Repository{}, named: map[inventory.ID]bool{}, follows: true}
	m.marks = newMarks(len(roots), g.inv.Digests())
	defer m.marks.release()
	for _, id := range roots {
		if !g.tried[id] {
			return fmt.Errorf("%s, which the list needs, was not read", g.inv.Digest(id))
		}
		m.named[id] = true
	}
	m.stage(Tagged, roots)
	for _, id := range m.stages[0].manifests {
		if n, _ := g.manifests.at(id); n.isDamaged() {
			return damagedUnlinked(g.inv, id, g.detailOf(id, n))
		}
	}
	m.addTo(l)
	return nil
}

// sum sets Problems and Manifests.
func (l *Live) sum() {
	l.Problems = slices.Clone(l.graph.inv.Problems)
	for _, problems := range l.problems {
		// Links are read concurrently. Sorting makes the report of a dry run equal to that of the real run.
		slices.SortFunc(problems, inventory.CompareProblems)
		l.Problems = append(l.Problems, problems...)
	}
	for _, id := range l.graph.unlisted {
		l.Problems = append(l.Problems, inventory.UnlistedBlob(l.graph.inv.Digest(id)))
	}
	l.Manifests = l.manifests.len()
}

// EachRepository calls f concurrently for each repository. The error is the first one of f, or that of ctx.
func (g *Graph) EachRepository(ctx context.Context, f func(ctx context.Context, i int) error) error {
	var large sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, r := range g.inv.Repositories {
		group.Go(func() error {
			if len(r.Revisions)+len(r.Layers) >= largeRepository {
				large.Lock()
				defer large.Unlock()
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			return f(ctx, i)
		})
	}
	return group.Wait()
}

// largeRepository is the number of links from which on repositories are marked one at a time. The mark
// needs a few bytes of memory for each link.
const largeRepository = 1 << 20
