package audit

import (
	"slices"

	"regsweep/inventory"
	"regsweep/mark"
)

// untagged returns the revisions of a repository that no tag reaches. A revision without a manifest keeps
// nothing.
func (f Facts) untagged(repository int) (ids []inventory.ID) {
	for n, link := range f.Inventory.Repositories[repository].Revisions {
		if f.Live.Repositories[repository].Revisions.At(n) == mark.Untagged && !f.Graph.Missing(link.ID()) {
			ids = append(ids, link.ID())
		}
	}
	return ids
}

// view returns the view of a repository.
func (f Facts) view(repository int) *mark.View {
	if f.Followers == nil {
		return f.Graph.View(repository)
	}
	return f.Graph.View(repository, f.Followers(repository)...)
}

// keptByDamage returns the digests of a repository that are kept because of damage: those in links whose path
// is not understood, or all. A digest may be there several times.
func (f Facts) keptByDamage(repository int, view *mark.View) []inventory.ID {
	r := f.Inventory.Repositories[repository]
	ids := slices.Concat(r.Pinned, r.Doubted)
	if f.Live.Repositories[repository].Kept {
		ids = append(ids, view.Linked()...)
	}
	return ids
}
