package sweep

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"regsweep/inventory"
	"regsweep/storage"
	"regsweep/storage/layout"
)

// Selection is what of an inventory a plan file names: a bit for each link, upload and
// blob, however many lines the file has. A nil *Selection names everything. It is not
// changed once made.
//
// It decides nothing: what it names goes only if a mark and a plan of now, made with
// it, say so too. That makes any selection safe:
//
//   - a revision that it does not name is alive for the mark, with all that it reaches
//     (MayGo), so what was struck from a plan stays whole;
//   - so is one that an entry in a tag's index leads to, if that is not named;
//   - a blob stays if a link to it does.
type Selection struct {
	inv          *inventory.Inventory
	repositories []*selected // by place in the inventory; nil where nothing is named
	uploads      bits        // those of no repository
	blobs        bits
}

// selected is what is named of one repository, by place.
type selected struct {
	itself            bool
	revisions, layers bits
	uploads           bits
	entries           []bits // by tag
	orphans           map[orphan]bool
	tags              bits
	pinned            bits // revisions that are named, and an index entry to them is not
}

// bits are a set of small numbers.
type bits []uint64

func (b *bits) add(i int) {
	for len(*b) <= i/64 {
		*b = append(*b, 0)
	}
	(*b)[i/64] |= 1 << (i % 64)
}

func (b bits) has(i int) bool { return i/64 < len(b) && b[i/64]&(1<<(i%64)) != 0 }

// Select finds what a plan file names in an inventory. What is not there it skips.
func Select(ctx context.Context, file *File, inv *inventory.Inventory, reader storage.Reader) (*Selection, error) {
	s := &Selection{inv: inv, repositories: make([]*selected, len(inv.Repositories))}
	err := file.Each(func(removal Removal) error {
		if at, found := s.find(removal); found {
			s.add(removal.Kind, at)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("select: %w", err)
	}
	for r, of := range s.repositories {
		if of == nil {
			continue
		}
		if err := s.pin(ctx, r, of, reader); err != nil {
			return nil, fmt.Errorf("select: %w", err)
		}
		if err := s.pinTags(ctx, r, of, reader); err != nil {
			return nil, fmt.Errorf("select: %w", err)
		}
	}
	return s, nil
}

// place is where something is in an inventory: at is its place among its kind in the
// repository, which is -1 for what is in none.
type place struct {
	repository, tag, at int
	orphan              orphan
}

// find looks for what a line names, by names and digests alone.
func (s *Selection) find(removal Removal) (at place, found bool) {
	at.repository = -1
	var r *inventory.Repository
	if removal.Repository != "" && removal.Kind != Blob {
		at.repository, found = slices.BinarySearchFunc(s.inv.Repositories, removal.Repository, func(r *inventory.Repository, name string) int {
			return strings.Compare(r.Name, name)
		})
		if !found {
			return at, false
		}
		r = s.inv.Repositories[at.repository]
	}
	switch removal.Kind {
	case Repository:
		return at, true
	case Upload:
		uploads := s.inv.Uploads
		if r != nil {
			uploads = r.Uploads
		}
		at.at, found = slices.BinarySearchFunc(uploads, removal.Upload, func(u inventory.Upload, id string) int { return strings.Compare(u.ID, id) })
		return at, found
	}
	id, found := s.inv.Find(removal.Digest)
	if !found {
		return at, false
	}
	switch removal.Kind {
	case TagIndexEntry:
		at.tag, found = slices.BinarySearchFunc(r.Tags, removal.Tag, func(t inventory.Tag, name string) int { return strings.Compare(t.Name, name) })
		if found {
			at.at, found = inventory.FindLink(r.Tags[at.tag].Index, id)
		}
	case Revision:
		at.at, found = inventory.FindLink(r.Revisions, id)
	case Tag:
		at.tag, found = slices.BinarySearchFunc(r.Tags, removal.Tag, func(t inventory.Tag, name string) int { return strings.Compare(t.Name, name) })
		found = found && r.Tags[at.tag].HasTarget && r.Tags[at.tag].Target == id // what was reviewed
	case OrphanLink:
		for _, o := range orphansOf(s.inv, at.repository, id) {
			if found = o.path(s.inv) == removal.Links()[0].Path; found {
				at.orphan = o
				break
			}
		}
	case LayerLink:
		at.at, found = inventory.FindLink(r.Layers, id)
	case Blob:
		at.at, found = int(id), s.inv.Stored(id)
	}
	return at, found
}

func (s *Selection) add(kind Kind, at place) {
	if at.repository < 0 {
		if kind == Blob {
			s.blobs.add(at.at)
		} else {
			s.uploads.add(at.at)
		}
		return
	}
	of := s.repositories[at.repository]
	if of == nil {
		of = &selected{}
		s.repositories[at.repository] = of
	}
	switch kind {
	case TagIndexEntry:
		if of.entries == nil {
			of.entries = make([]bits, len(s.inv.Repositories[at.repository].Tags))
		}
		of.entries[at.tag].add(at.at)
	case Revision:
		of.revisions.add(at.at)
	case OrphanLink:
		if of.orphans == nil {
			of.orphans = map[orphan]bool{}
		}
		of.orphans[at.orphan] = true
	case Tag:
		of.tags.add(at.tag)
	case LayerLink:
		of.layers.add(at.at)
	case Upload:
		of.uploads.add(at.at)
	case Repository:
		of.itself = true
	}
}

// pin finds the revisions that are named although an entry in a tag's index, which would
// lead to nothing, is not. Of an entry that is known by its directory alone the link may
// be gone already.
func (s *Selection) pin(ctx context.Context, repository int, of *selected, reader storage.Reader) error {
	r := s.inv.Repositories[repository]
	if len(of.revisions) == 0 {
		return nil
	}
	for t, tag := range r.Tags {
		for i, link := range tag.Index {
			at, found := inventory.FindLink(r.Revisions, link.ID())
			if !found || !of.revisions.has(at) || of.pinned.has(at) || of.hasEntry(t, i) {
				continue
			}
			isThere, err := s.isEntry(ctx, r, tag, link, reader)
			if err != nil {
				return err
			}
			if isThere {
				of.pinned.add(at)
			}
		}
	}
	return nil
}

// pinTags takes the tags from a selection that do not have all entries of their indexes in
// it: without its current link such a tag would be damaged.
func (s *Selection) pinTags(ctx context.Context, repository int, of *selected, reader storage.Reader) error {
	r := s.inv.Repositories[repository]
	for t, tag := range r.Tags {
		if !of.tags.has(t) {
			continue
		}
		for i, link := range tag.Index {
			if of.hasEntry(t, i) {
				continue
			}
			isThere, err := s.isEntry(ctx, r, tag, link, reader)
			if err != nil {
				return err
			}
			if isThere {
				of.tags[t/64] &^= 1 << (t % 64)
				break
			}
		}
	}
	return nil
}

func (of *selected) hasEntry(tag, at int) bool {
	return tag < len(of.entries) && of.entries[tag].has(at)
}

// isEntry reports whether an entry of a tag's index is there, and not only its directory.
func (s *Selection) isEntry(ctx context.Context, r *inventory.Repository, tag inventory.Tag, link inventory.Link, reader storage.Reader) (bool, error) {
	if link.Verified() {
		return true, nil
	}
	_, err := reader.Stat(ctx, layout.TagIndexPath(r.Name, tag.Name, s.inv.Digest(link.ID())))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, storage.ErrNotRegular) {
		return false, nil
	}
	return err == nil, err
}

// TagMayGo reports whether a tag may go, for mark.Options: whether it is named, and so are all
// entries of its index.
func (s *Selection) TagMayGo(repository, tag int) bool {
	return s == nil || s.repositories[repository] != nil && s.repositories[repository].tags.has(tag)
}

// MayGo reports whether a revision may go, for mark.Options: whether it is named, and
// so are all entries in tag indexes that lead to it.
func (s *Selection) MayGo(repository, revision int) bool {
	return s.has(Revision, place{repository: repository, at: revision}) && !s.pins(repository, revision)
}

// pins reports whether a revision stays for an index entry that is not named.
func (s *Selection) pins(repository, revision int) bool {
	return s != nil && s.repositories[repository] != nil && s.repositories[repository].pinned.has(revision)
}

// hasOrphan reports whether a link of a deleted manifest is named.
func (s *Selection) hasOrphan(o orphan) bool {
	return s == nil || s.repositories[o.repository] != nil && s.repositories[o.repository].orphans[o]
}

// has reports whether something is named.
func (s *Selection) has(kind Kind, at place) bool {
	switch {
	case s == nil:
		return true
	case at.repository < 0 && kind == Blob:
		return s.blobs.has(at.at)
	case at.repository < 0:
		return s.uploads.has(at.at)
	}
	of := s.repositories[at.repository]
	switch {
	case of == nil:
		return false
	case kind == TagIndexEntry:
		return at.tag < len(of.entries) && of.entries[at.tag].has(at.at)
	case kind == Revision:
		return of.revisions.has(at.at)
	case kind == LayerLink:
		return of.layers.has(at.at)
	case kind == Upload:
		return of.uploads.has(at.at)
	}
	return of.itself
}
