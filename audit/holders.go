package audit

import (
	"context"
	"maps"
	"runtime"
	"slices"
	"time"

	"regsweep/inventory"
	"regsweep/manifest"
	"regsweep/mark"
	"regsweep/storage"

	"github.com/opencontainers/go-digest"
)

// holder is a Holder, and what a search needs of it.
type holder struct {
	Holder
	repository int            // in the inventory
	tags       []int          // indexes in the repository
	revisions  []inventory.ID // Revisions, sorted by digest
	chains     [][]Link       // the shortest
	count      int64          // of all chains
}

// root is the beginning of chains.
type root struct {
	kind LinkKind
	tag  int
	id   inventory.ID
}

// findHolders sets the holders: the repositories with chains. find returns nil for a repository without any.
func (s *search) findHolders(ctx context.Context, find func(i int) *holder) error {
	holders := make([]*holder, len(s.Inventory.Repositories))
	err := storage.Each(ctx, len(holders), runtime.GOMAXPROCS(0), func(_ context.Context, i int) error {
		holders[i] = find(i)
		return nil
	})
	s.holders = slices.DeleteFunc(holders, func(h *holder) bool { return h == nil })
	return err
}

// findHolder finds the chains in one repository. It returns nil if there are none.
func (s *search) findHolder(i int) *holder {
	r := s.Inventory.Repositories[i]
	roots, isKept := s.roots(i), s.Live.Repositories[i].Kept
	if len(roots) == 0 && !isKept && len(r.Pinned)+len(r.Doubted) == 0 {
		return nil
	}
	view := s.Graph.View(i)
	h := s.newHolder(i, view, roots, s.Limit)
	isDamage := h.count == 0 // nothing else is left as a reason
	if isDamage {
		h = s.newHolder(i, view, s.rootsOf(DamageLink, s.keptByDamage(i, view)), min(1, s.Limit))
		h.count = min(1, h.count)
	}
	if h.count == 0 {
		return nil
	}
	if isDamage || isKept || s.isPinned(i, view) {
		h.Damage = s.damageOf(i)
	}
	for _, chain := range h.chains {
		if chain[0].Kind == DamageLink {
			chain[0].Name = string(h.Damage)
		}
	}
	return h
}

// findYoungHolder finds the chains from young links. aged is the result of a mark with them.
func (s *search) findYoungHolder(i int, aged *mark.Live) *holder {
	r := s.Inventory.Repositories[i]
	if len(r.Recent) == 0 {
		return nil
	}
	view, ids := s.Graph.View(i), slices.Collect(maps.Keys(r.Recent))
	isDamage := aged.Repositories[i].Kept && !s.Live.Repositories[i].Kept // a young link to a missing manifest
	if isDamage {
		ids = append(ids, view.Linked()...)
	}
	h := s.newHolder(i, view, s.rootsOf(AgeLink, ids), s.Limit)
	if h.count == 0 {
		return nil
	}
	for _, written := range r.Recent {
		if isDamage {
			h.noteYoung(written, s.MinAge)
		}
	}
	return h
}

// noteYoung notes that a link keeps the target until it is old enough.
func (h *holder) noteYoung(written time.Time, minAge time.Duration) {
	if !written.IsZero() {
		h.YoungUntil = later(h.YoungUntil, written.Add(minAge).UTC())
	}
}

// roots returns the tags of a repository, and then its untagged revisions.
func (s *search) roots(i int) (roots []root) {
	r := s.Inventory.Repositories[i]
	for tag := range r.Tags {
		for _, id := range r.Tags[tag].Roots() {
			if s.isAncestor[id] {
				roots = append(roots, root{TagLink, tag, id})
			}
		}
	}
	return append(roots, s.rootsOf(RevisionLink, s.untagged(i))...)
}

// rootsOf returns roots of a kind: the ancestors of the target among some digests, sorted.
func (s *search) rootsOf(kind LinkKind, ids []inventory.ID) (roots []root) {
	ids = slices.DeleteFunc(ids, func(id inventory.ID) bool { return !s.isAncestor[id] })
	slices.SortFunc(ids, s.compareDigests)
	for _, id := range slices.Compact(ids) {
		roots = append(roots, root{kind: kind, id: id})
	}
	return roots
}

// isPinned reports whether a link whose path is not understood leads to the target.
func (s *search) isPinned(i int, view *mark.View) bool {
	r := s.Inventory.Repositories[i]
	if len(r.Pinned)+len(r.Doubted) == 0 {
		return false
	}
	_, found := slices.BinarySearch(view.Kept(slices.Concat(r.Pinned, r.Doubted)...), s.target)
	return found
}

// damageOf returns the kind of the problem that keeps digests in a repository: one that keeps all of it,
// or else a link whose path is not understood.
func (s *search) damageOf(i int) inventory.ProblemKind {
	for _, p := range s.Live.Problems {
		if p.Repository == s.Inventory.Repositories[i].Name && p.Effect == inventory.KeepsRepository {
			return p.Kind
		}
	}
	return inventory.UnknownLinkAlgorithm
}

// newHolder finds the chains from some roots of a repository, and the shortest of them.
func (s *search) newHolder(i int, view *mark.View, roots []root, limit int) *holder {
	r := s.Inventory.Repositories[i]
	h := &holder{
		Holder:     Holder{Name: r.Name, Tags: []string{}, Pushed: map[string]time.Time{}, Revisions: []digest.Digest{}},
		repository: i,
	}
	ids := make([]inventory.ID, len(roots))
	for i, root := range roots {
		ids[i] = root.id
	}
	p, found := s.findPaths(view, ids)
	roots = slices.DeleteFunc(roots, func(of root) bool { _, leads := found[of.id]; return !leads })
	from := make([]int, len(roots))
	for i, root := range roots {
		from[i] = found[root.id]
		h.count = sumCounts(h.count, p.count(from[i]))
		switch root.kind {
		case TagLink:
			if n := len(h.tags); n == 0 || h.tags[n-1] != root.tag {
				h.tags, h.Tags = append(h.tags, root.tag), append(h.Tags, r.Tags[root.tag].Name)
			}
		case RevisionLink:
			h.revisions = append(h.revisions, root.id)
			h.Revisions = append(h.Revisions, s.Inventory.Digest(root.id))
		case AgeLink:
			h.noteYoung(r.Recent[root.id], s.MinAge)
		}
	}
	for _, path := range p.shortest(from, limit) {
		h.chains = append(h.chains, s.chain(r, roots[path.root], p, path))
	}
	return h
}

// chain returns the elements of a path.
func (s *search) chain(r *inventory.Repository, root root, p *paths, path path) []Link {
	link := func(kind LinkKind, id inventory.ID) Link {
		return Link{Kind: kind, Repository: r.Name, Digest: s.Inventory.Digest(id)}
	}
	chain := []Link{link(root.kind, root.id)}
	if root.kind == TagLink {
		chain[0].Name = r.Tags[root.tag].Name
	}
	for _, a := range path.arcs {
		chain = append(chain, link(s.kindReached(p.vertices[a.to], a.kind), p.vertices[a.to].id))
	}
	return chain
}

// kindReached returns the kind of the element for a digest that an edge has reached.
func (f Facts) kindReached(v vertex, by mark.EdgeKind) LinkKind {
	form, _ := f.Graph.Form(v.id)
	switch {
	case by == mark.ReferrerEdge:
		return ReferrerLink
	case by == mark.SignatureEdge:
		return SignatureLink
	case by == mark.ConfigEdge && !v.isManifest:
		return ConfigLink
	case by == mark.LayerEdge && !v.isManifest:
		return LayerLink
	case !v.isManifest:
		return BlobLink
	case form.Kind == manifest.Index:
		return IndexLink
	}
	return ManifestLink
}

// date adds the times of the tags.
func (h *holder) date(r *inventory.Repository) {
	for _, tag := range h.tags {
		pushed := r.TagPushed(tag)
		if pushed.IsZero() {
			continue
		}
		h.Pushed[r.Tags[tag].Name] = pushed.UTC()
		if h.Since.IsZero() || pushed.Before(h.Since) {
			h.Since = pushed.UTC()
		}
	}
}
