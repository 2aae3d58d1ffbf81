package audit

import (
	"cmp"
	"context"
	"slices"
	"time"

	"regsweep/inventory"
	"regsweep/mark"
	"regsweep/storage"
	"regsweep/sweep"
)

// WhyOptions are the options of Explain.
type WhyOptions struct {
	Limit int // the largest number of chains
	// MinAge is that of the gc. If it is set, the inventory was taken with Options.Since.
	MinAge time.Duration
	// Reader reads the sizes and times that the answer names, and links on which it depends.
	Reader      storage.Reader
	Concurrency int
}

// question is what Explain is asked.
type question struct {
	Facts
	WhyOptions
	target     inventory.ID
	isAncestor []bool                           // by id: see ancestors
	damage     map[string]inventory.ProblemKind // by repository: the first problem that keeps all of it
}

// removal says by which means the target is removed, and the blobs that are removed with it.
type removal struct {
	command string         // see Why.RemovedBy
	blobs   []inventory.ID // stored blobs: the target, and those that would be removed with it
	// oldAt is set if its own age keeps a target that is garbage otherwise: then it is old enough.
	oldAt time.Time
}

// Explain says why a digest is kept, or by which flags it would be removed.
func (f Facts) Explain(ctx context.Context, id inventory.ID, options WhyOptions) (*Why, error) {
	q := question{f, options, id, f.ancestors(id), map[string]inventory.ProblemKind{}}
	for _, p := range f.Live.Problems {
		if p.Effect == inventory.KeepsRepository && q.damage[p.Repository] == "" {
			q.damage[p.Repository] = p.Kind
		}
	}
	holders, err := q.eachHolder(ctx, q.holder)
	if err != nil {
		return nil, err
	}
	var removal removal
	switch {
	case !f.Inventory.Stored(id):
	case q.isAlive():
		removal, err = q.removal(ctx, holders)
	default:
		removal.command, removal.blobs = "gc", []inventory.ID{id} // no manifest that is garbage was read
		holders, removal.oldAt, err = q.young(ctx)
	}
	if err != nil {
		return nil, err
	}
	absent, err := q.measure(ctx, holders, removal.blobs)
	if err != nil {
		return nil, err
	}
	return q.answer(holders, removal, absent), nil
}

// isAlive reports whether the target is a stored blob that gc may remove, and does not remove today.
func (q question) isAlive() bool {
	return q.Inventory.Stored(q.target) && q.Live.Blob(q.target).Alive()
}

// removal finds what removes a target that is alive, and which blobs are removed with it.
func (q question) removal(ctx context.Context, holders []*holder) (out removal, err error) {
	if out.command, err = q.removedBy(ctx); err != nil {
		return out, err
	}
	after, err := q.mark(ctx, q.withoutHolders(holders))
	if err != nil {
		return out, err
	}
	for id := range inventory.ID(q.Inventory.Blobs()) {
		// The target counts also if damage keeps it all the same.
		if q.Live.Blob(id).Alive() && (!after.Blob(id).Alive() || id == q.target) {
			out.blobs = append(out.blobs, id)
		}
	}
	return out, nil
}

// young finds out whether --min-age keeps a target that is garbage otherwise: because of young links, whose
// repositories are its holders then, or because it is young itself. Then oldAt is set.
func (q question) young(ctx context.Context) (holders []*holder, oldAt time.Time, err error) {
	if q.MinAge == 0 {
		return nil, oldAt, nil
	}
	aged, err := q.mark(ctx, mark.Roots{})
	if err != nil {
		return nil, oldAt, err
	}
	holders, err = q.eachHolder(ctx, func(i int) *holder { return q.youngHolder(i, aged) })
	if err != nil {
		return nil, oldAt, err
	}
	if _, isListed := q.Inventory.Size(q.target); isListed && !q.Inventory.Recent(q.target) {
		return holders, oldAt, nil // a listing that has sizes has times
	}
	object, err := q.Reader.Stat(ctx, q.Inventory.BlobPath(q.target))
	if storage.IsAbsent(err) {
		return holders, oldAt, nil
	}
	if err == nil && sweep.IsYoungBlob(q.Inventory, q.target, object.ModTime, q.Now.Add(-q.MinAge)) {
		oldAt = object.ModTime.Add(q.MinAge).UTC()
	}
	return holders, oldAt, err
}

// mark finds what is alive with other roots.
func (q question) mark(ctx context.Context, roots mark.Roots) (*mark.Live, error) {
	live, err := q.Live.With(ctx, q.Graph, roots)
	if err != nil {
		return nil, err
	}
	return live.CheckLinks(ctx, q.Reader, q.Concurrency)
}

// removedBy returns the command by which a blob that is alive would be removed, or "".
func (q question) removedBy(ctx context.Context) (command string, err error) {
	if q.Live.Blob(q.target) == mark.Tagged {
		return "", nil
	}
	// This includes blobs that damage keeps: gc -m may remove the damaged manifest.
	for _, choice := range []struct {
		command string
		roots   mark.Roots
	}{
		{"gc -m", mark.Roots{Revision: mark.None}},
		{"gc --delete-unlinked-children", mark.Roots{DeleteUnlinkedChildren: true}},
		{"gc -m --delete-unlinked-children", mark.Roots{Revision: mark.None, DeleteUnlinkedChildren: true}},
	} {
		choice.roots.WhatIf = true
		live, err := q.mark(ctx, choice.roots)
		if err != nil {
			return "", err
		}
		if !live.Blob(q.target).Alive() {
			return choice.command, nil
		}
	}
	return "", nil
}

// withoutHolders returns the roots of a run that removes all tags and untagged manifests that hold the
// target, and the manifests that only these tags reach.
func (q question) withoutHolders(holders []*holder) mark.Roots {
	of := make([]holder, len(q.Inventory.Repositories))
	for _, h := range holders {
		of[h.repository] = *h
	}
	roots := q.Without(func(repository, tag int) bool {
		_, holds := slices.BinarySearch(of[repository].tags, tag)
		return holds
	})
	isRoot := roots.Revision
	roots.Revision = func(repository, revision int) bool {
		id := q.Inventory.Repositories[repository].Revisions[revision].ID()
		_, holds := slices.BinarySearchFunc(of[repository].revisions, id, q.compareDigests)
		return isRoot(repository, revision) && !holds
	}
	return roots
}

// measure reads the times of the tags of holders, and the sizes of blobs. If only the directory of a blob
// exists, absent has the blob.
func (q question) measure(ctx context.Context, holders []*holder, blobs []inventory.ID) (absent map[inventory.ID]bool, err error) {
	var tags []inventory.TagPlace
	for _, h := range holders {
		for _, tag := range h.tags {
			tags = append(tags, inventory.TagPlace{Repository: h.repository, Tag: tag})
		}
	}
	if err := q.Inventory.DateTags(ctx, q.Reader, q.Concurrency, tags); err != nil {
		return nil, err
	}
	return q.Inventory.Measure(ctx, q.Reader, q.Concurrency, blobs)
}

// answer makes the answer.
func (q question) answer(holders []*holder, removal removal, absent map[inventory.ID]bool) *Why {
	w := NewWhy(q.Inventory.Digest(q.target))
	keptUntil := removal.oldAt
	for _, h := range holders {
		keptUntil = later(keptUntil, h.YoungUntil)
		h.date(q.Inventory.Repositories[h.repository])
		w.Repositories = append(w.Repositories, h.Holder)
	}
	w.Chains, w.More = q.chains(holders, removal.oldAt)
	w.Stored = q.Inventory.Listed(q.target) && !absent[q.target]
	switch {
	case w.Stored && !q.Inventory.Stored(q.target):
		w.NeverRemoved, w.Kept = true, true
		w.Bytes = max(0, q.Inventory.Others[w.Digest])
		return &w
	case w.Stored:
		w.Kept, w.KeptUntil = q.isAlive() || !keptUntil.IsZero(), keptUntil
		w.RemovedBy = removal.command
		q.addRemoval(&w, removal.blobs, absent)
	}
	for _, h := range w.Repositories {
		for _, tag := range h.Tags {
			w.ToFree = append(w.ToFree, h.Name+":"+tag)
		}
		for _, revision := range h.Revisions {
			w.ToFree = append(w.ToFree, h.Name+"@"+string(revision))
		}
	}
	return &w
}

// chains returns the shortest chains of all holders, and the number of the others. oldAt is set if there is one
// more: the target's own age.
func (q question) chains(holders []*holder, oldAt time.Time) (chains [][]Link, more int64) {
	chains = [][]Link{}
	if !oldAt.IsZero() {
		_, isManifest := q.Graph.Form(q.target)
		kind, of := q.kindReached(vertex{q.target, isManifest}, mark.EntryEdge), q.Inventory.Digest(q.target)
		chains, more = append(chains, []Link{{Kind: AgeLink, Digest: of}, {Kind: kind, Digest: of}}), 1
	}
	for _, h := range holders {
		chains = append(chains, h.chains...)
		more = sumCounts(more, h.count)
	}
	slices.SortStableFunc(chains, func(a, b []Link) int { return cmp.Compare(len(a), len(b)) })
	chains = chains[:min(q.Limit, len(chains))]
	if more < Most {
		more -= int64(len(chains))
	}
	return chains, more
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// addRemoval adds the size of the target, and the blobs that would be removed with it.
func (q question) addRemoval(w *Why, blobs []inventory.ID, absent map[inventory.ID]bool) {
	kinds := kindsOf(q.Inventory, q.Graph)
	w.Bytes, w.Kind = q.size(q.target), Kinds[kinds[q.target]]
	for _, id := range blobs {
		if w.Kept && !q.Inventory.HardLinked(id) {
			w.FreedIfGone += q.size(id)
		}
	}
	others := slices.DeleteFunc(blobs, func(id inventory.ID) bool { return id == q.target || absent[id] })
	w.RemovedWith.Blobs, w.RemovedWith.Bytes = len(others), q.sum(others)
	slices.SortFunc(others, q.compareSizes)
	for _, id := range others[:min(mostRemovedWith, len(others))] {
		w.RemovedWith.Largest = append(w.RemovedWith.Largest, SizedBlob{q.Inventory.Digest(id), Kinds[kinds[id]], q.size(id)})
	}
}

// mostRemovedWith is the number of blobs in RemovedWith.Largest.
const mostRemovedWith = 100
