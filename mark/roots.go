package mark

// Roots say what is alive by itself in a graph. Its zero value is for an ordinary run: the roots are
// all tags and all revisions. A policy is another value.
type Roots struct {
	// Tag and Revision report whether a tag or a revision is a root, by the indexes of its
	// repository and of itself in the inventory; if nil, all are. A tag without a target is always
	// one. Both are called from several goroutines at once.
	Tag, Revision func(repository, at int) bool
	// Listed are roots besides. ReadOptions must have had them.
	Listed []*Listed
	// DeleteUnlinked makes a manifest without a revision link dead if only an index refers to it:
	// such a manifest was deleted through the registry's API. Without it, it is a root.
	DeleteUnlinked bool
}

// None is a Tag or a Revision of Roots by which none is a root.
func None(repository, at int) bool { return false }
