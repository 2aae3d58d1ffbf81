package mark

import (
	"regsweep/inventory"
)

// Roots select the roots of a mark. The zero value is for an ordinary run: all tags and all revisions
// are roots.
type Roots struct {
	// Tag and Revision report whether a tag or a revision is a root. at is its index in the
	// repository, and repository is the index of that in the inventory. If nil, all are roots. A
	// tag without a target is always a root, except with WhatIf. Both are called from several goroutines at once.
	Tag, Revision func(repository, at int) bool
	// Removed reports whether a tag is removed in any case, also if its manifest is alive for another
	// reason. If nil, none is. Damage that keeps the repository keeps the tag, and a tag without a target
	// is kept. It is called from several goroutines at once.
	Removed func(repository, tag int) bool
	// Followers returns the tags of a repository that are alive as long as their subject is. They are no
	// roots. They have a target, and are sorted by tag. If nil, no tag follows. It is called from several goroutines at once.
	Followers func(repository int) []Follower
	// Lists are further roots. ReadOptions must have had the same lists.
	Lists []*ListRoots
	// DeleteUnlinkedChildren makes a manifest dead if it has no revision link and only an index refers to
	// it: it was deleted through the registry's API. Otherwise the index keeps it.
	DeleteUnlinkedChildren bool
	// WhatIf answers a question. No plan may be made from the result. Young links are not roots. Tag is also
	// called for tags without a target, unless damage keeps the repository.
	WhatIf bool
}

// None is a value for Roots.Tag or Roots.Revision. It makes no tag or revision a root.
func None(repository, at int) bool { return false }

// Follower is a tag for the referrers of a manifest: its subject. The subject keeps the manifest alive that
// the tag points at.
type Follower struct {
	Tag     int
	Subject inventory.ID // not used if IsGone is set
	// IsGone is set if there is no subject any more. Then the tag is dead.
	IsGone bool
	// Earlier are manifests in the tag's index that the subject keeps alive too.
	Earlier []inventory.ID
}
