package mark

// Roots select the roots of a mark. The zero value is for an ordinary run: all tags and all revisions
// are roots.
type Roots struct {
	// Tag and Revision report whether a tag or a revision is a root. at is its index in the
	// repository, and repository is the index of that in the inventory. If nil, all are roots. A
	// tag without a target is always a root, except with WhatIf. Both are called from several goroutines at once.
	Tag, Revision func(repository, at int) bool
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
