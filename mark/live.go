package mark

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"regsweep/inventory"

	"golang.org/x/sync/errgroup"
)

// Cause is why something is alive: the first in this order that holds.
type Cause uint8

// The causes. Each but Dead is also a stage of the mark.
const (
	Dead     Cause = iota // nothing keeps it
	Tagged                // a tag reaches it, or a referrer of what a tag reaches
	Recent                // a link that names it is younger than the minimum age
	Unlinked              // an index reaches it by a manifest that was deleted from the repository
	Untagged              // only an untagged revision reaches it
	Damage                // a damaged repository could reach it
	Absent                // a link of which only an empty directory is left
)

// Alive reports whether something is kept for the cause.
func (c Cause) Alive() bool { return c != Dead && c != Absent }

// Live is what is alive in an inventory. It is not changed once made.
//
// Nothing may be removed for what it says until CheckLinks has been called.
type Live struct {
	// Repositories are in the order of the inventory's.
	Repositories []*Repository
	// Problems were met in manifests; those of the inventory come first.
	Problems []inventory.Problem
	// Manifests is the number of intact manifests that are alive.
	Manifests int

	blobs   []Cause // by ID of a stored blob
	checked bool

	// What CheckLinks needs. It is nil in what that returns.
	graph     *Graph
	roots     Roots
	problems  [][]inventory.Problem // by repository
	manifests idSet                 // the intact ones that are alive
}

// Blob says why a stored blob is alive, in whatever repository.
func (l *Live) Blob(id inventory.ID) Cause { return l.blobs[id] }

// Repository is what is alive in one repository. A digest that is alive in one need
// not be in another.
type Repository struct {
	// Kept is set where damage keeps all links of the repository.
	Kept bool
	// Revisions and Layers say why the repository's links are kept, in their order.
	Revisions, Layers Causes
	// Only has, for the causes Recent, Untagged and Damage, the digests that are
	// alive in this repository for nothing better, if there are any.
	Only map[Cause][]inventory.ID

	// DeadTags are the indexes of tags that are removed, since their target is not alive. Without
	// Roots.Tag there are none.
	DeadTags []int
	// Orphans are manifests that are not alive and have no revision link, and whose
	// signature or referrer link is left. They are sorted by digest.
	Orphans []inventory.ID

	// unlinked are the digests in tag indexes that are alive though the
	// repository has no revision link for them.
	unlinked map[inventory.ID]bool
	// unlisted are live digests of another algorithm than the one that blobs are stored by, of
	// which no link was listed.
	unlisted []inventory.ID
}

// Unlinked reports whether a digest that a tag's index names is alive though the
// repository has no revision link for it.
func (r *Repository) Unlinked(id inventory.ID) bool { return r.unlinked[id] }

// Live marks all repositories. It reads nothing and changes nothing, and may be called any number
// of times, with other roots each time.
//
// Referrers of what is alive are alive. A manifest that is damaged keeps, in every repository where it is alive, all that
// the repository's links name: a manifest can only lead to what is linked there.
func (g *Graph) Live(ctx context.Context, roots Roots) (*Live, error) {
	l := &Live{
		Repositories: make([]*Repository, len(g.inv.Repositories)),
		blobs:        make([]Cause, g.inv.Blobs()),
		graph:        g,
		roots:        roots,
		problems:     make([][]inventory.Problem, len(g.inv.Repositories)),
	}
	var mu sync.Mutex
	err := g.eachRepository(ctx, func(_ context.Context, i int) error {
		m := l.markRepository(i, checkedLinks{})
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

// Checked reports whether CheckLinks was called.
func (l *Live) Checked() bool { return l.checked }

// markRepository marks one repository, with what is known of the links that were checked.
func (l *Live) markRepository(i int, checked checkedLinks) *marker {
	g, roots := l.graph, l.roots
	r := g.inv.Repositories[i]
	m := &marker{
		inv: g.inv, graph: g, r: r, deleteUntagged: roots.Revision != nil, dropUnlinked: roots.DeleteUnlinked,
		marks: newMarks(len(r.Revisions)+len(r.Layers), g.inv.Digests()),
		named: map[inventory.ID]bool{}, reported: map[inventory.ID]bool{},
		tagMayGo: func(tag int) bool {
			return roots.Tag != nil && r.Tags[tag].HasTarget && !roots.Tag(i, tag)
		},
		mayGo: func(revision int) bool {
			return roots.Revision != nil && !roots.Revision(i, revision)
		},
	}
	defer m.marks.release()
	for _, list := range roots.Listed {
		m.roots = append(m.roots, list.of[i]...)
	}
	m.run(checked)
	return m
}

// add adds what is alive in a repository to what is alive in any.
func (l *Live) add(i int, m *marker) {
	l.Repositories[i], l.problems[i] = m.result, m.problems
	m.addTo(l)
}

// addUnlinked adds what a list names and no repository has a link to.
func (l *Live) addUnlinked() error {
	g := l.graph
	var roots []inventory.ID
	for _, list := range l.roots.Listed {
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
		if n, _ := g.manifests.at(id); n.state == damaged {
			return damagedUnlinked(g.inv, id, g.detailOf(id, n))
		}
	}
	m.addTo(l)
	return nil
}

// sum makes the sums of all repositories.
func (l *Live) sum() {
	l.Problems = slices.Clone(l.graph.inv.Problems)
	for _, problems := range l.problems {
		// Links are read concurrently, and a dry run must read like the real one.
		slices.SortFunc(problems, inventory.CompareProblems)
		l.Problems = append(l.Problems, problems...)
	}
	for _, id := range l.graph.unlisted {
		l.Problems = append(l.Problems, inventory.UnlistedBlob(l.graph.inv.Digest(id)))
	}
	l.Manifests = l.manifests.len()
}

// eachRepository calls f for each repository, for several at once.
func (g *Graph) eachRepository(ctx context.Context, f func(ctx context.Context, i int) error) error {
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

// largeRepository is the number of links from which on repositories are marked one at a time: the
// mark of one takes a few bytes for each link.
const largeRepository = 1 << 20
