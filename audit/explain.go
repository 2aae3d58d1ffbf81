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

// Asking says how Explain looks for an answer.
type Asking struct {
	Limit int // the largest number of chains
	// MinAge is that of the gc. If it is set, the inventory was taken with Options.Since.
	MinAge time.Duration
	// Reader reads the sizes and times that the answer names, and links on which it depends.
	Reader      storage.Reader
	Concurrency int
}

// Explain says why a digest is kept, or by which flags it would be removed.
func (f Facts) Explain(ctx context.Context, id inventory.ID, asking Asking) (*Why, error) {
	s := &search{Facts: f, Asking: asking, target: id, isAncestor: f.ancestors(id)}
	if err := s.findHolders(ctx, s.findHolder); err != nil {
		return nil, err
	}
	if err := s.findGone(ctx); err != nil {
		return nil, err
	}
	if err := s.measure(ctx); err != nil {
		return nil, err
	}
	return s.why(), nil
}

// search collects what an answer needs.
type search struct {
	Facts
	Asking
	target     inventory.ID
	isAncestor []bool // by id: see ancestors

	holders    []*holder
	youngUntil time.Time // if its own age keeps a target that is garbage otherwise
	removedBy  string
	// gone are the stored blobs that would be removed with the target, and the target if it is stored.
	gone   []inventory.ID
	absent map[inventory.ID]bool // blobs of gone of which only the directory exists
}

// isAlive reports whether the target is a stored blob that gc may remove, and does not remove today.
func (s *search) isAlive() bool {
	return s.Inventory.Stored(s.target) && s.Live.Blob(s.target).Alive()
}

// findGone sets removedBy and gone.
func (s *search) findGone(ctx context.Context) error {
	if !s.Inventory.Stored(s.target) {
		return nil
	}
	if !s.isAlive() {
		s.removedBy, s.gone = "gc", []inventory.ID{s.target} // no manifest that is garbage was read
		return s.findYoung(ctx)
	}
	if err := s.findRemovedBy(ctx); err != nil {
		return err
	}
	after, err := s.mark(ctx, s.withoutHolders())
	if err != nil {
		return err
	}
	for id := range inventory.ID(s.Inventory.Blobs()) {
		// The target counts also if damage keeps it all the same.
		if s.Live.Blob(id).Alive() && (!after.Blob(id).Alive() || id == s.target) {
			s.gone = append(s.gone, id)
		}
	}
	return nil
}

// findYoung finds out whether --min-age keeps a target that is garbage otherwise: because of young links, whose
// repositories are its holders then, or because it is young itself.
func (s *search) findYoung(ctx context.Context) error {
	if s.MinAge == 0 {
		return nil
	}
	aged, err := s.mark(ctx, mark.Roots{})
	if err == nil {
		err = s.findHolders(ctx, func(i int) *holder { return s.findYoungHolder(i, aged) })
	}
	if err != nil {
		return err
	}
	if _, isListed := s.Inventory.Size(s.target); isListed && !s.Inventory.Recent(s.target) {
		return nil // a listing that has sizes has times
	}
	object, err := s.Reader.Stat(ctx, s.Inventory.BlobPath(s.target))
	if storage.IsAbsent(err) {
		return nil
	}
	if err == nil && sweep.IsYoungBlob(s.Inventory, s.target, object.ModTime, s.Now.Add(-s.MinAge)) {
		s.youngUntil = object.ModTime.Add(s.MinAge).UTC()
	}
	return err
}

// mark finds what is alive with other roots.
func (s *search) mark(ctx context.Context, roots mark.Roots) (*mark.Live, error) {
	live, err := s.Live.With(ctx, s.Graph, roots)
	if err != nil {
		return nil, err
	}
	return live.CheckLinks(ctx, s.Reader, s.Concurrency)
}

// findRemovedBy finds the flags of gc by which a blob that is alive would be removed.
func (s *search) findRemovedBy(ctx context.Context) error {
	if s.Live.Blob(s.target) == mark.Tagged {
		return nil
	}
	for _, choice := range []struct { // also for what damage keeps: the damage may be that of an untagged manifest
		command string
		roots   mark.Roots
	}{
		{"gc -m", mark.Roots{Revision: mark.None}},
		{"gc --delete-unlinked-children", mark.Roots{DeleteUnlinkedChildren: true}},
		{"gc -m --delete-unlinked-children", mark.Roots{Revision: mark.None, DeleteUnlinkedChildren: true}},
	} {
		choice.roots.WhatIf = true
		live, err := s.mark(ctx, choice.roots)
		if err != nil {
			return err
		}
		if !live.Blob(s.target).Alive() {
			s.removedBy = choice.command
			return nil
		}
	}
	return nil
}

// withoutHolders returns the roots of a run that removes all tags and untagged manifests that hold the
// target, and the manifests that only these tags reach.
func (s *search) withoutHolders() mark.Roots {
	of := make([]holder, len(s.Inventory.Repositories))
	for _, h := range s.holders {
		of[h.repository] = *h
	}
	roots := s.Without(func(repository, tag int) bool {
		_, holds := slices.BinarySearch(of[repository].tags, tag)
		return holds
	})
	isRoot := roots.Revision
	roots.Revision = func(repository, revision int) bool {
		id := s.Inventory.Repositories[repository].Revisions[revision].ID()
		_, holds := slices.BinarySearchFunc(of[repository].revisions, id, s.compareDigests)
		return isRoot(repository, revision) && !holds
	}
	return roots
}

// measure reads the sizes of gone and the times of the tags of holders.
func (s *search) measure(ctx context.Context) (err error) {
	var tags []inventory.TagPlace
	for _, h := range s.holders {
		for _, tag := range h.tags {
			tags = append(tags, inventory.TagPlace{Repository: h.repository, Tag: tag})
		}
	}
	if err := s.Inventory.DateTags(ctx, s.Reader, s.Concurrency, tags); err != nil {
		return err
	}
	s.absent, err = s.Inventory.Measure(ctx, s.Reader, s.Concurrency, s.gone)
	return err
}

// why returns the answer.
func (s *search) why() *Why {
	w := NewWhy(s.Inventory.Digest(s.target))
	w.Stored = s.Inventory.Listed(s.target) && !s.absent[s.target]
	s.addHolders(&w)
	if !w.Stored {
		w.KeptUntil = time.Time{}
	}
	w.NeverRemoved = w.Stored && !s.Inventory.Stored(s.target)
	w.Kept = w.Stored && (w.NeverRemoved || s.isAlive() || !w.KeptUntil.IsZero())
	switch {
	case w.NeverRemoved:
		w.Bytes, w.ToFree = max(0, s.Inventory.Others[w.Digest]), []string{}
	case w.Stored:
		w.RemovedBy = s.removedBy
		s.addGone(&w)
	}
	return &w
}

// addHolders adds the holders to the answer.
func (s *search) addHolders(w *Why) {
	total := int64(0)
	if w.KeptUntil = s.youngUntil; !s.youngUntil.IsZero() {
		_, isManifest := s.Graph.Form(s.target)
		kind := s.kindReached(vertex{s.target, isManifest}, mark.EntryEdge)
		w.Chains, total = [][]Link{{{Kind: AgeLink, Digest: w.Digest}, {Kind: kind, Digest: w.Digest}}}, 1
	}
	for _, h := range s.holders {
		w.KeptUntil = later(w.KeptUntil, h.YoungUntil)
		h.date(s.Inventory.Repositories[h.repository])
		w.Repositories = append(w.Repositories, h.Holder)
		w.Chains = append(w.Chains, h.chains...)
		total = sumCounts(total, h.count)
		for _, tag := range h.Tags {
			w.ToFree = append(w.ToFree, h.Name+":"+tag)
		}
		for _, revision := range h.Revisions {
			w.ToFree = append(w.ToFree, h.Name+"@"+string(revision))
		}
	}
	slices.SortStableFunc(w.Chains, func(a, b []Link) int { return cmp.Compare(len(a), len(b)) })
	w.Chains = w.Chains[:min(s.Limit, len(w.Chains))]
	if w.More = total; total < Most {
		w.More -= int64(len(w.Chains))
	}
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// addGone adds the sizes of the target and of the blobs that would be removed with it.
func (s *search) addGone(w *Why) {
	kinds := kindsOf(s.Inventory, s.Graph)
	for _, id := range s.gone {
		size := s.size(id)
		if w.Kept && !s.Inventory.HardLinked(id) {
			w.FreedIfGone += size
		}
		switch {
		case id == s.target:
			w.Bytes, w.Kind = size, Kinds[kinds[id]]
		case !s.absent[id]:
			w.RemovedWith.Blobs++
			w.RemovedWith.Bytes += size
			w.RemovedWith.Largest = append(w.RemovedWith.Largest, SizedBlob{s.Inventory.Digest(id), Kinds[kinds[id]], size})
		}
	}
	slices.SortFunc(w.RemovedWith.Largest, func(a, b SizedBlob) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Digest, b.Digest))
	})
	w.RemovedWith.Largest = w.RemovedWith.Largest[:min(mostRemovedWith, len(w.RemovedWith.Largest))]
}

// mostRemovedWith is the number of blobs in RemovedWith.Largest.
const mostRemovedWith = 100
