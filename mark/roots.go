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
	// WhatIf is for a mark that no plan is made of. Then young links are no roots. Tag also decides about tags
	// without a target, unless damaged links keep the repository: it says what would be alive without the
	// files of these tags.
	WhatIf bool
}

// None is a value for Roots.Tag or Roots.Revision. It makes no tag or revision a root.
func None(repository, at int) bool { return false }
