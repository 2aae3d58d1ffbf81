package sweep

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"regsweep/inventory"
	"regsweep/mark"
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
//     (Roots), so what was struck from a plan stays whole;
//   - so is one that an entry in a tag's index leads to, if that is not named;
//   - a blob stays if a link to it does.
type Selection struct {
	inv          *inventory.Inventory
	repositories []*selected // by place in the inventory; nil where nothing is named
	elsewhere    selected    // what is named of no repository
}

// selected is what is named of one repository.
type selected struct {
	named  map[Kind]*named
	pinned bits // revisions that are named, and an index entry to them is not
}

// named is what is named of one kind.
type named struct {
	places  []bits // by tag, if the kind's places have one; otherwise all are in the first
	orphans map[orphan]bool
}

// bits are a set of small numbers.
type bits []uint64

func (b *bits) add(i int) {
	for len(*b) <= i/64 {
		*b = append(*b, 0)
	}
	(*b)[i/64] |= 1 << (i % 64)
}

func (b bits) remove(i int) {
	if i/64 < len(b) {
		b[i/64] &^= 1 << (i % 64)
	}
}

func (b bits) has(i int) bool { return i/64 < len(b) && b[i/64]&(1<<(i%64)) != 0 }

// Select finds what a plan file names in an inventory. What is not there it skips.
func Select(ctx context.Context, file *File, inv *inventory.Inventory, reader storage.Reader) (*Selection, error) {
	s := &Selection{inv: inv, repositories: make([]*selected, len(inv.Repositories))}
	err := file.Each(func(removal Removal) error {
		if at, found := find(inv, removal); found {
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

// place is where something is in an inventory.
type place struct {
	repository int     // -1 for what is in none
	tag        int     // of an entry in a tag's index
	at         int     // among its kind in the repository, or in the tag's index
	orphan     *orphan // set for a link of a deleted manifest, which has no number
}

// find looks for what a line of a plan file names, by names and digests alone.
func find(inv *inventory.Inventory, line Removal) (at place, found bool) {
	kind := line.Kind.row()
	at.repository = -1
	if line.Repository != "" && kind.form != Content {
		at.repository, found = slices.BinarySearchFunc(inv.Repositories, line.Repository, func(r *inventory.Repository, name string) int {
			return strings.Compare(r.Name, name)
		})
		if !found {
			return at, false
		}
	}
	var id inventory.ID
	if kind.needsField("digest") {
		if id, found = inv.Find(line.Digest); !found {
			return at, false
		}
	}
	found = kind.find(inv, line, id, &at)
	return at, found
}

func findTag(tags []inventory.Tag, name string) (at int, found bool) {
	return slices.BinarySearchFunc(tags, name, func(t inventory.Tag, name string) int { return strings.Compare(t.Name, name) })
}

// findUpload finds an upload of a repository, or of none for -1.
func findUpload(inv *inventory.Inventory, repository int, id string) (at int, found bool) {
	uploads := inv.Uploads
	if repository >= 0 {
		uploads = inv.Repositories[repository].Uploads
	}
	return slices.BinarySearchFunc(uploads, id, func(u inventory.Upload, id string) int { return strings.Compare(u.ID, id) })
}

func (s *Selection) add(kind Kind, at place) {
	of := &s.elsewhere
	if at.repository >= 0 {
		if s.repositories[at.repository] == nil {
			s.repositories[at.repository] = &selected{}
		}
		of = s.repositories[at.repository]
	}
	if of.named == nil {
		of.named = map[Kind]*named{}
	}
	if of.named[kind] == nil {
		of.named[kind] = &named{}
	}
	of.named[kind].add(at)
}

func (n *named) add(at place) {
	if at.orphan != nil {
		if n.orphans == nil {
			n.orphans = map[orphan]bool{}
		}
		n.orphans[*at.orphan] = true
		return
	}
	for len(n.places) <= at.tag {
		n.places = append(n.places, nil)
	}
	n.places[at.tag].add(at.at)
}

func (n *named) has(at place) bool {
	switch {
	case n == nil:
		return false
	case at.orphan != nil:
		return n.orphans[*at.orphan]
	}
	return at.tag < len(n.places) && n.places[at.tag].has(at.at)
}

func (s *selected) has(kind Kind, at place) bool { return s != nil && s.named[kind].has(at) }

// pin finds the revisions that are named although an entry in a tag's index, which would
// lead to nothing, is not. Of an entry that is known by its directory alone the link may
// be gone already.
func (s *Selection) pin(ctx context.Context, repository int, of *selected, reader storage.Reader) error {
	r := s.inv.Repositories[repository]
	if of.named[Revision] == nil {
		return nil
	}
	for t, tag := range r.Tags {
		for i, link := range tag.Index {
			at, found := inventory.FindLink(r.Revisions, link.ID())
			if !found || !of.has(Revision, place{at: at}) || of.pinned.has(at) || of.has(TagIndexEntry, place{tag: t, at: i}) {
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
		if !of.has(Tag, place{at: t}) {
			continue
		}
		for i, link := range tag.Index {
			if of.has(TagIndexEntry, place{tag: t, at: i}) {
				continue
			}
			isThere, err := s.isEntry(ctx, r, tag, link, reader)
			if err != nil {
				return err
			}
			if isThere {
				of.named[Tag].places[0].remove(t)
				break
			}
		}
	}
	return nil
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

// Roots are the roots of a mark whose plan may remove only what is named. Revisions may go with
// deleteUntagged, and tags if a list says what is alive.
func (s *Selection) Roots(deleteUntagged, onlyListed bool) (roots mark.Roots) {
	if deleteUntagged {
		roots.Revision = func(repository, at int) bool { return !s.mayGo(repository, at) }
	}
	if onlyListed {
		roots.Tag = func(repository, at int) bool { return !s.tagMayGo(repository, at) }
	}
	return roots
}

// tagMayGo reports whether a tag may go: whether it is named, and so are all entries of its index.
func (s *Selection) tagMayGo(repository, tag int) bool {
	return s.has(Tag, place{repository: repository, at: tag})
}

// mayGo reports whether a revision may go: whether it is named, and so are all entries in tag
// indexes that lead to it.
func (s *Selection) mayGo(repository, revision int) bool {
	return s.has(Revision, place{repository: repository, at: revision}) && !s.pins(repository, revision)
}

// pins reports whether a revision stays for an index entry that is not named.
func (s *Selection) pins(repository, revision int) bool {
	return s != nil && s.repositories[repository] != nil && s.repositories[repository].pinned.has(revision)
}

// has reports whether something is named.
func (s *Selection) has(kind Kind, at place) bool {
	switch {
	case s == nil:
		return true
	case at.repository < 0:
		return s.elsewhere.has(kind, at)
	}
	return s.repositories[at.repository].has(kind, at)
}
