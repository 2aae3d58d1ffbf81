package audit

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"regsweep/inventory"
	"regsweep/manifest"
	"regsweep/mark"

	"github.com/opencontainers/go-digest"
)

// holder is a repository that keeps the target.
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

// eachHolder returns the holders. find returns nil for a repository without chains.
func (q question) eachHolder(ctx context.Context, find func(i int) *holder) ([]*holder, error) {
	holders := make([]*holder, len(q.Inventory.Repositories))
	err := q.Graph.EachRepository(ctx, func(_ context.Context, i int) error {
		holders[i] = find(i)
		return nil
	})
	return slices.DeleteFunc(holders, func(h *holder) bool { return h == nil }), err
}

// holder finds the chains in one repository. It returns nil if there are none.
func (q question) holder(i int) *holder {
	r := q.Inventory.Repositories[i]
	roots, isKept := q.roots(i), q.Live.Repositories[i].Kept
	if len(roots) == 0 && !isKept && len(r.Pinned)+len(r.Doubted) == 0 {
		return nil
	}
	view := q.Graph.View(i)
	h := q.newHolder(i, view, roots, q.Limit)
	isDamage := h.count == 0 // no tag and no untagged manifest leads to the target
	if isDamage {
		h = q.newHolder(i, view, q.rootsOf(DamageLink, q.keptByDamage(i, view)), min(1, q.Limit))
		h.count = min(1, h.count)
	}
	if h.count == 0 {
		return nil
	}
	if isDamage || isKept || q.isPinned(i, view) {
		h.Damage = q.damageOf(i)
	}
	for _, chain := range h.chains {
		if chain[0].Kind == DamageLink {
			chain[0].Name = string(h.Damage)
		}
	}
	return h
}

// youngHolder finds the chains from young links. aged is the result of a mark with them.
func (q question) youngHolder(i int, aged *mark.Live) *holder {
	r := q.Inventory.Repositories[i]
	if len(r.Recent) == 0 {
		return nil
	}
	view, ids := q.Graph.View(i), slices.Collect(maps.Keys(r.Recent))
	isDamage := aged.Repositories[i].Kept && !q.Live.Repositories[i].Kept // a young link to a missing manifest
	if isDamage {
		ids = append(ids, view.Linked()...)
	}
	h := q.newHolder(i, view, q.rootsOf(AgeLink, ids), q.Limit)
	if h.count == 0 {
		return nil
	}
	for _, written := range r.Recent {
		if isDamage {
			h.noteYoung(written, q.MinAge)
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
func (q question) roots(i int) (roots []root) {
	r := q.Inventory.Repositories[i]
	for tag := range r.Tags {
		for _, id := range r.Tags[tag].Roots() {
			if q.isAncestor[id] {
				roots = append(roots, root{TagLink, tag, id})
			}
		}
	}
	return append(roots, q.rootsOf(RevisionLink, q.untagged(i))...)
}

// rootsOf returns roots of a kind: the ancestors of the target among some digests, sorted.
func (q question) rootsOf(kind LinkKind, ids []inventory.ID) (roots []root) {
	ids = slices.DeleteFunc(ids, func(id inventory.ID) bool { return !q.isAncestor[id] })
	slices.SortFunc(ids, q.compareDigests)
	for _, id := range slices.Compact(ids) {
		roots = append(roots, root{kind: kind, id: id})
	}
	return roots
}

// isPinned reports whether a link whose path is not understood leads to the target.
func (q question) isPinned(i int, view *mark.View) bool {
	r := q.Inventory.Repositories[i]
	if len(r.Pinned)+len(r.Doubted) == 0 {
		return false
	}
	_, found := slices.BinarySearch(view.Kept(slices.Concat(r.Pinned, r.Doubted)...), q.target)
	return found
}

// damageOf returns the kind of the problem that keeps digests in a repository: one that keeps all of it,
// or else a link whose path is not understood.
func (q question) damageOf(i int) inventory.ProblemKind {
	return cmp.Or(q.damage[q.Inventory.Repositories[i].Name], inventory.UnknownLinkAlgorithm)
}

// newHolder finds the chains from some roots of a repository, and the shortest of them.
func (q question) newHolder(i int, view *mark.View, roots []root, limit int) *holder {
	r := q.Inventory.Repositories[i]
	h := &holder{
		Holder:     Holder{Name: r.Name, Tags: []string{}, Pushed: map[string]time.Time{}, Revisions: []digest.Digest{}},
		repository: i,
	}
	ids := make([]inventory.ID, len(roots))
	for i, root := range roots {
		ids[i] = root.id
	}
	p, found := q.findPaths(view, ids)
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
			h.Revisions = append(h.Revisions, q.Inventory.Digest(root.id))
		case AgeLink:
			h.noteYoung(r.Recent[root.id], q.MinAge)
		}
	}
	for _, path := range p.shortest(from, limit) {
		h.chains = append(h.chains, q.chain(r, roots[path.root], p, path))
	}
	return h
}

// chain returns the elements of a path.
func (q question) chain(r *inventory.Repository, root root, p *paths, path path) []Link {
	link := func(kind LinkKind, id inventory.ID) Link {
		return Link{Kind: kind, Repository: r.Name, Digest: q.Inventory.Digest(id)}
	}
	chain := []Link{link(root.kind, root.id)}
	if root.kind == TagLink {
		chain[0].Name = r.Tags[root.tag].Name
	}
	for _, a := range path.arcs {
		chain = append(chain, link(q.kindReached(p.vertices[a.to], a.kind), p.vertices[a.to].id))
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
