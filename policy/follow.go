package policy

import (
	"cmp"
	"regexp"
	"slices"

	"regsweep/inventory"
	"regsweep/mark"

	"github.com/opencontainers/go-digest"
)

// followers are the tags that clients make for the referrers of a manifest:
//   - sha256-<64 hex> and sha512-<first 64 hex>: the index of the referrers, of the OCI distribution
//     specification, "Referrers Tag Schema"
//   - sha256-<64 hex>.sig, .att and .sbom: those of cosign before version 3
var followers = regexp.MustCompile(`^(sha256|sha512)-([0-9a-f]{64})(\.sig|\.att|\.sbom)?$`)

// Subject returns the digest of the manifest that a tag follows, and whether it follows one. Such a tag is
// removed together with its subject. It is never counted or selected. For sha512 only the beginning of
// the digest is known.
func Subject(tag string) (prefix digest.Digest, follows bool) {
	parts := followers.FindStringSubmatch(tag)
	if parts == nil {
		return "", false
	}
	return digest.Digest(parts[1] + ":" + parts[2]), true
}

// Followers returns the tags that follow a subject, by repository. Only Inventory and Graph are used. A tag for
// referrers does not follow, but is kept like any other tag,
//   - if its manifest leads to the manifest in its name, as in a mirror that tags each image by its digest;
//   - if only such tags lead to its subject, in a circle;
//   - if its repository does not have the subject, unless orphans are asked for and no repository has it, as
//     clients can keep signatures in another repository.
//
// An interrupted run must end like any other. It removes first the index entries of tags, then revisions, and
// then tags. So a subject counts also if only a tag leads to it. And a tag follows a subject that is gone if
// the index of the tag is gone, too: only a run removes that. If another repository has the subject, the tag's
// revision must be gone as well.
func (f Facts) Followers(orphans bool) [][]mark.Follower {
	named := f.namedSubjects()
	all := make([][]mark.Follower, len(f.Inventory.Repositories))
	for i, r := range f.Inventory.Repositories {
		if slices.ContainsFunc(r.Tags, func(tag inventory.Tag) bool { _, follows := Subject(tag.Name); return follows && tag.HasTarget }) {
			all[i] = f.followersOf(i, named, orphans)
		}
	}
	return all
}

// subjects has the subjects in the names of tags that a repository has, by their prefix.
type subjects map[digest.Digest]inventory.ID

// namedSubjects finds the subjects in the names of tags among all revisions and the manifests of all tags.
func (f Facts) namedSubjects() subjects {
	wanted, found := map[digest.Digest]bool{}, subjects{}
	for _, r := range f.Inventory.Repositories {
		for _, tag := range r.Tags {
			if prefix, follows := Subject(tag.Name); follows && tag.HasTarget {
				wanted[prefix] = true
			}
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	add := func(id inventory.ID) {
		d := f.Inventory.Digest(id)
		if at := len("sha512:") + 64; d.Algorithm() == digest.SHA512 {
			d = d[:at]
		}
		if wanted[d] {
			found[d] = id
		}
	}
	for _, r := range f.Inventory.Repositories {
		for _, link := range r.Revisions {
			add(link.ID())
		}
		for _, tag := range r.Tags {
			if tag.HasTarget {
				add(tag.Target)
			}
		}
	}
	return found
}

// candidate is a tag that may follow a subject.
type candidate struct {
	mark.Follower
	prefix  digest.Digest
	isKnown bool           // the inventory has Subject
	reaches []inventory.ID // what its manifest keeps
}

// followersOf returns the followers of one repository.
func (f Facts) followersOf(i int, named subjects, orphans bool) (all []mark.Follower) {
	r, view := f.Inventory.Repositories[i], f.Graph.View(i)
	var candidates []candidate
	var roots []inventory.ID
	followed := map[inventory.ID]bool{} // a candidate leads there
	reaches := map[inventory.ID][]inventory.ID{}
	for at, tag := range r.Tags {
		prefix, follows := Subject(tag.Name)
		if !follows || !tag.HasTarget {
			roots = append(roots, tag.Roots()...)
			continue
		}
		if reaches[tag.Target] == nil {
			reaches[tag.Target] = view.Kept(tag.Target)
		}
		c := candidate{Follower: mark.Follower{Tag: at}, prefix: prefix, reaches: reaches[tag.Target]}
		if c.Subject, c.isKnown = named[prefix]; !c.isKnown {
			c.Subject, c.isKnown = f.Inventory.Find(prefix) // an entry of an index need not have a revision
		}
		if c.isKnown && contains(c.reaches, c.Subject) {
			roots = append(roots, tag.Target)
			continue
		}
		candidates = append(candidates, c)
		for _, id := range c.reaches {
			followed[id] = true
		}
	}
	for _, link := range r.Revisions {
		if id := link.ID(); !followed[id] && !f.Graph.Missing(id) {
			roots = append(roots, id)
		}
	}
	led := map[inventory.ID]bool{} // a root leads there, or a candidate about which is decided
	lead := func(ids []inventory.ID) {
		for _, id := range ids {
			led[id] = true
		}
	}
	lead(view.Kept(roots...))
	for n := -1; n != len(candidates); {
		n = len(candidates)
		candidates = slices.DeleteFunc(candidates, func(c candidate) (isDecided bool) {
			switch {
			case c.isKnown && led[c.Subject]:
				all = append(all, c.Follower)
			case c.isKnown && followed[c.Subject]: // another one decides, or they are in a circle
				return false
			case f.isGone(r, c, named, orphans):
				c.IsGone = true
				all = append(all, c.Follower)
			}
			lead(c.reaches)
			return true
		})
	}
	for _, c := range candidates { // in a circle
		if c.IsGone = f.isLeft(r, c); c.IsGone {
			all = append(all, c.Follower)
		}
	}
	slices.SortFunc(all, func(a, b mark.Follower) int { return cmp.Compare(a.Tag, b.Tag) })
	return all
}

// isGone reports whether a tag follows a subject that its repository does not have.
func (f Facts) isGone(r *inventory.Repository, c candidate, named subjects, orphans bool) bool {
	_, isElsewhere := named[c.prefix]
	return f.isLeft(r, c) || !isElsewhere && (orphans || f.isCut(r, c))
}

// isCut reports whether an interrupted run can have left a tag: the revision of its subject is gone, and the index
// entry of the tag for its manifest. The blob of the subject is still stored, because blobs are removed last.
func (f Facts) isCut(r *inventory.Repository, c candidate) bool {
	tag := r.Tags[c.Tag]
	_, hasEntry := inventory.FindLink(tag.Index, tag.Target)
	return !hasEntry && c.isKnown && f.Inventory.Stored(c.Subject) && !r.HasRevision(c.Subject)
}

// isLeft reports whether only an interrupted run can leave a tag like this: no registry serves it.
func (f Facts) isLeft(r *inventory.Repository, c candidate) bool {
	return f.isCut(r, c) && !r.HasRevision(r.Tags[c.Tag].Target)
}

// AddEarlier sets Earlier of all followers of a repository.
func (f Facts) AddEarlier(i int, followers []mark.Follower) {
	for n := range followers {
		r := f.Inventory.Repositories[i]
		followers[n].Earlier = earlier(r, r.Tags[followers[n].Tag])
	}
}

// earlier returns the manifests in the index of a tag that it does not point at any more, and that still
// have a revision.
func earlier(r *inventory.Repository, tag inventory.Tag) (ids []inventory.ID) {
	for _, link := range tag.Index {
		if id := link.ID(); id != tag.Target && r.HasRevision(id) {
			ids = append(ids, id)
		}
	}
	return ids
}

func contains(sorted []inventory.ID, id inventory.ID) bool {
	_, found := slices.BinarySearch(sorted, id)
	return found
}
