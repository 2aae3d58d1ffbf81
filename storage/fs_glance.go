package storage

// What a glance takes for ordinary may have no directory and no file named link that the
// layout has no place for: what such a link names is kept (inventoryBuilder.pin). Files
// of other names are not seen.

// endGlance counts what a glance has asked of the filesystem.
func (f *filesystem) endGlance(g *glance) {
	f.head.Add(g.stats)
	f.get.Add(g.reads)
	g.close()
}

// revision reports whether a revision's directory has a link, which says the digest that
// the directory is named by, and nothing else; false where that is not certain.
func (g *glance) revision(sum [32]byte) bool {
	name := hexOfSum(sum)
	// A symbolic link is no directory, and what it leads to would count as signatures.
	if g.directories(name) != 0 || !g.isAbsent(name, signaturesDir) {
		return false
	}
	said, ok := g.link(name, linkFile)
	return ok && said == sum
}

// tag glances at a tag, and reports whether it has a current link, which says target, and
// an index of SHA-256 digests, with how many entries. If it is one, it is that of the target.
// Of more the directory has to be listed.
func (g *glance) tag(name string) (target [32]byte, entries int, ok bool) {
	if g.directories(name) != 2 || !g.isAbsent(name, linkFile) {
		return target, 0, false
	}
	target, ok = g.link(name, "current", linkFile)
	if !ok || g.directories(name, "current") != 0 {
		return target, 0, false
	}
	if g.directories(name, "index") != 1 || !g.isAbsent(name, "index", linkFile) {
		return target, 0, false
	}
	entries = g.directories(name, "index", "sha256")
	if entries == 1 {
		isTarget := g.isAbsent(name, "index", "sha256", linkFile) && g.directories(name, "index", "sha256", hexOfSum(target)) >= 0
		return target, 1, isTarget
	}
	return target, entries, entries > 1
}
