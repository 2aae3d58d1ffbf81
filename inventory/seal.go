package inventory

import (
	"cmp"
	"maps"
	"runtime"
	"slices"

	"regsweep/storage"
	"regsweep/storage/layout"

	"golang.org/x/sync/errgroup"
)

// sealBlobs ends the listing of blobs. From then on digests have ids.
func (b *builder) sealBlobs() {
	b.inv.seal()
	b.inv.hardLinked = make(map[ID]bool, len(b.noted.hardLinked))
	for _, sum := range b.noted.hardLinked {
		if place, found := b.inv.blobs.find(sum); found {
			b.inv.hardLinked[ID(place)] = true
		}
	}
	if !b.options.Since.IsZero() {
		b.inv.recent = make([]bool, b.inv.Blobs())
	}
	for _, sum := range b.noted.recent {
		if i, found := b.inv.blobs.find(sum); found {
			b.inv.recent[i] = true
		}
	}
	if b.options.Sizes {
		b.inv.days = make([]uint16, b.inv.Blobs())
	}
	for _, noted := range b.noted.days {
		if place, found := b.inv.blobs.find(noted.sha256); found {
			b.inv.days[place] = max(b.inv.days[place], noted.day)
		}
	}
	b.noted = noted{} // to free its memory
}

// seal makes the repositories from the collected objects.
func (b *builder) seal() {
	inv := b.inv
	var g errgroup.Group // of functions that can't fail
	g.SetLimit(runtime.GOMAXPROCS(0))
	for name, rb := range b.repositories {
		inv.Repositories = append(inv.Repositories, rb.r)
		delete(b.repositories, name) // to free its builder
		g.Go(func() error { b.sealRepository(rb); return nil })
	}
	_ = g.Wait()
	for _, of := range slices.Sorted(maps.Keys(inv.Others)) {
		inv.ID(of) // no link or manifest need name it
	}
	slices.SortFunc(inv.Repositories, func(a, b *Repository) int { return cmp.Compare(a.Name, b.Name) })
	slices.Sort(inv.Emptied)
	slices.Sort(inv.EmptiedNames)
	slices.SortFunc(inv.Uploads, func(a, b Upload) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortFunc(b.strays, CompareProblems)
	slices.SortFunc(b.emptyNames, CompareProblems)
	inv.Problems = slices.Concat(inv.Problems, b.emptyNames, b.strays)
	named := func(r *Repository) bool { return len(r.Revisions)+len(r.Layers)+len(r.Tags) > 0 }
	if inv.Blobs() == 0 && slices.ContainsFunc(inv.Repositories, named) {
		inv.Problems = append(inv.Problems, Problem{
			Kind: EmptyDirectory, Path: storage.Root + "/blobs", Effect: Note,
			Detail: "blobs is empty, and repositories name blobs: is its disk mounted?",
		})
	}
}

func (b *builder) sealRepository(rb *repositoryBuilder) {
	r := rb.r
	r.Layers = sealLinks(r.Layers)
	r.Revisions = sealLinks(r.Revisions)
	for of, ids := range r.Signatures {
		slices.Sort(ids)
		r.Signatures[of] = slices.Compact(ids)
	}
	for of, links := range r.Referrers {
		slices.SortFunc(links, func(x, y ReferrerLink) int {
			return cmp.Or(cmp.Compare(b.inv.Digest(x.Subject), b.inv.Digest(y.Subject)), cmp.Compare(x.Type, y.Type))
		})
		r.Referrers[of] = slices.Compact(links)
	}
	rb.sealTags()
	for _, id := range slices.Sorted(maps.Keys(rb.uploads)) {
		r.Uploads = append(r.Uploads, rb.sealUpload(rb.uploads[id]))
	}
	slices.Sort(r.Emptied)
	slices.Sort(r.Pinned)
	slices.Sort(r.Doubted)
	if len(r.Layers) > 0 && len(r.Revisions)+len(r.Tags) == 0 && !r.Kept() {
		r.Problems = append(r.Problems, Problem{
			Kind: NoManifests, Repository: r.Name, Path: layout.RepositoryPath(r.Name), Effect: Note,
			Detail: "it has layers and no manifest: all were deleted, or the first push was cut off",
		})
	}
	if !layout.ValidRepository(r.Name) {
		r.Problems = append(r.Problems, Problem{
			Kind: BadRepositoryName, Repository: r.Name, Path: layout.RepositoryPath(r.Name), Effect: KeepsRepository,
			Detail: "no registry serves a repository of this name: all that it holds is kept",
		})
	}
	slices.SortFunc(r.Problems, CompareProblems)
}

// sealLinks sorts links by ID, and removes duplicates.
func sealLinks(links []Link) []Link {
	slices.Sort(links)
	links = slices.CompactFunc(links, func(a, b Link) bool { return a.ID() == b.ID() })
	if cap(links)-len(links) > len(links)/32 {
		links = slices.Clone(links) // to free the capacity that is not used
	}
	return links
}
