package sweep

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"regsweep/inventory"
	"regsweep/mark"
	"regsweep/storage"
	"regsweep/storage/layout"
)

// Selection is the set of objects that a plan file names. It has one bit for each link, upload and
// blob of the inventory. A nil *Selection has all objects. It is immutable.
//
// An object of a selection is removed only if a new mark and plan, made with the selection, find it
// to be garbage. That makes any selection safe:
//
//   - a revision outside of the selection is a root of the mark (Roots), so all that it reaches
//     is kept;
//   - a revision is also a root if a tag's index entry for it is outside of the selection;
//   - a blob is kept if a link to it is kept.
type Selection struct {
	inv          *inventory.Inventory
	repositories []*selected // by index in the inventory; nil if nothing in it is selected
	shared       selected    // blobs, and uploads outside of repositories
}

// selected is the part of a selection in one repository.
type selected struct {
	named  map[Kind]*named
	pinned bits // selected revisions with an index entry that is not selected
}

// named is the part of a selection in one repository and of one kind.
type named struct {
	places  []bits // by tag for index entries; otherwise all bits are in the first
	orphans map[orphan]bool
}

// bits is a set of small numbers.
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

// Select returns the objects of an inventory that a plan file names. It skips names that the inventory
// does not have. Errors are those of reading the file and the storage.
func Select(ctx context.Context, file *File, inv *inventory.Inventory, reader storage.Reader) (*Selection, error) {
	s := &Selection{inv: inv, repositories: make([]*selected, len(inv.Repositories))}
	err := file.Each(func(removal Removal) error {
		if at, found := find(inv, removal); found && !isPushedAgain(inv, removal, at) {
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

// place is the position of an object in an inventory.
type place struct {
	repository int     // -1 for an object outside of repositories
	tag        int     // index of the tag, for an index entry
	at         int     // index among the objects of its kind in the repository, or in the tag's index
	orphan     *orphan // set for a link of a deleted manifest, which has no index
}

// find returns the position of the object that a line of a plan file names. It uses only the names
// and digests of the line.
func find(inv *inventory.Inventory, line Removal) (at place, found bool) {
	kind := line.Kind.row()
	at.repository = -1
	if line.Repository != "" && kind.form != Content {
		if at.repository, found = inv.FindRepository(line.Repository); !found {
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

// isPushedAgain reports whether a tag was pushed since the plan with this line was made, perhaps with the same
// manifest: somebody wants it. Two times of the same clock are compared, so that no clock needs to be right.
func isPushedAgain(inv *inventory.Inventory, line Removal, at place) bool {
	return line.Kind == Tag && !inv.Repositories[at.repository].TagPushed(at.at).Equal(line.Pushed)
}

// findUpload finds an upload of a repository, or outside of repositories for -1.
func findUpload(inv *inventory.Inventory, repository int, id string) (at int, found bool) {
	uploads := inv.Uploads
	if repository >= 0 {
		uploads = inv.Repositories[repository].Uploads
	}
	return slices.BinarySearchFunc(uploads, id, func(u inventory.Upload, id string) int { return strings.Compare(u.ID, id) })
}

func (s *Selection) add(kind Kind, at place) {
	of := &s.shared
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

// hasEntry reports whether an index entry is selected.
func (s *selected) hasEntry(at place) bool {
	return s.has(TagIndexEntry, at) || s.has(EarlierEntry, at)
}

// pin sets pinned: the selected revisions with an index entry that is not selected. Without the
// revision the entry would point to nothing. Of an unverified entry only the directory is known, so
// pin stats the link.
func (s *Selection) pin(ctx context.Context, repository int, of *selected, reader storage.Reader) error {
	r := s.inv.Repositories[repository]
	if of.named[Revision] == nil {
		return nil
	}
	for t, tag := range r.Tags {
		for i, link := range tag.Index {
			at, found := inventory.FindLink(r.Revisions, link.ID())
			if !found || !of.has(Revision, place{at: at}) || of.pinned.has(at) || of.hasEntry(place{tag: t, at: i}) {
				continue
			}
			exists, err := s.entryExists(ctx, r, tag, link, reader)
			if err != nil {
				return err
			}
			if exists {
				of.pinned.add(at)
			}
		}
	}
	return nil
}

// pinTags removes a tag from the selection if one of its index entries is not selected. A tag with
// index entries and without a current link would be damaged.
func (s *Selection) pinTags(ctx context.Context, repository int, of *selected, reader storage.Reader) error {
	r := s.inv.Repositories[repository]
	for t, tag := range r.Tags {
		if !of.has(Tag, place{at: t}) {
			continue
		}
		for i, link := range tag.Index {
			if of.hasEntry(place{tag: t, at: i}) {
				continue
			}
			exists, err := s.entryExists(ctx, r, tag, link, reader)
			if err != nil {
				return err
			}
			if exists {
				of.named[Tag].places[0].remove(t)
				break
			}
		}
	}
	return nil
}

// entryExists reports whether the link of an index entry exists, and not only its directory.
func (s *Selection) entryExists(ctx context.Context, r *inventory.Repository, tag inventory.Tag, link inventory.Link, reader storage.Reader) (bool, error) {
	if link.Verified() {
		return true, nil
	}
	_, err := reader.Stat(ctx, layout.TagIndexPath(r.Name, tag.Name, s.inv.Digest(link.ID())))
	if storage.IsAbsent(err) {
		return false, nil
	}
	return err == nil, err
}

// Roots returns the roots of the mark for a plan that removes only selected objects: the revisions
// outside of the selection with deleteUntagged, the tags outside of it if a list of roots is used.
func (s *Selection) Roots(deleteUntagged, onlyLists bool) (roots mark.Roots) {
	if deleteUntagged {
		roots.Revision = func(repository, at int) bool { return !s.mayRemove(repository, at) }
	}
	if onlyLists {
		roots.Tag = func(repository, at int) bool { return !s.mayRemoveTag(repository, at) }
	}
	return roots
}

// RootsWithoutTags returns the roots of the mark for a plan that removes only selected objects and was made
// with Options.RemovesTags. followers returns the tags of a repository that follow a subject.
func (s *Selection) RootsWithoutTags(followers func(repository int) []mark.Follower) mark.Roots {
	return mark.Roots{
		Removed:  s.mayRemoveTag,
		Revision: func(repository, at int) bool { return !s.mayRemove(repository, at) },
		Followers: func(repository int) []mark.Follower {
			return slices.DeleteFunc(slices.Clone(followers(repository)), func(f mark.Follower) bool { return !s.mayRemoveTag(repository, f.Tag) })
		},
	}
}

// mayRemoveTag reports whether a tag and all entries of its index are selected.
func (s *Selection) mayRemoveTag(repository, tag int) bool {
	return s.has(Tag, place{repository: repository, at: tag})
}

// mayRemove reports whether a revision and all index entries for it are selected.
func (s *Selection) mayRemove(repository, revision int) bool {
	return s.has(Revision, place{repository: repository, at: revision}) && !s.isPinned(repository, revision)
}

// isPinned reports whether a revision is kept because an index entry for it is not selected.
func (s *Selection) isPinned(repository, revision int) bool {
	return s != nil && s.repositories[repository] != nil && s.repositories[repository].pinned.has(revision)
}

// hasEntry reports whether an index entry is selected.
func (s *Selection) hasEntry(at place) bool {
	return s.has(TagIndexEntry, at) || s.has(EarlierEntry, at)
}

// has reports whether an object is selected.
func (s *Selection) has(kind Kind, at place) bool {
	switch {
	case s == nil:
		return true
	case at.repository < 0:
		return s.shared.has(kind, at)
	}
	return s.repositories[at.repository].has(kind, at)
}
