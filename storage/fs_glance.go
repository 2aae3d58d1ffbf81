package storage

import "strings"

// What a glance takes for ordinary may have no directory and no file named link that the
// layout has no place for: what such a link names is kept (inventoryBuilder.pin). Files
// of other names are not seen.

// revision reads the link of a revision that has nothing else, given both their names. It
// returns nil where it is not certain.
func (g *glance) revision(name, link string) []byte {
	// A symbolic link is no directory, and what it leads to would count as signatures.
	if g.directories(name) != 0 || !g.isAbsent(name+"/"+signaturesDir) {
		return nil
	}
	return g.link(link)
}

// tag glances at a tag that has its current link and in its index nothing but what
// that points at, as nearly all have. entry is that digest's hex.
func (g *glance) tag(name string) (current []byte, entry string, ok bool) {
	if g.directories(name) != 2 || !g.isAbsent(name+"/"+linkFile) {
		return nil, "", false
	}
	link := name + "/current/" + linkFile
	current = g.link(link)
	entry, found := strings.CutPrefix(string(current), "sha256:")
	if !found || g.directories(strings.TrimSuffix(link, "/"+linkFile)) != 0 {
		return nil, "", false
	}
	// The directories above the entry are its path's first parts.
	path := name + "/index/sha256/" + entry
	algorithm := strings.TrimSuffix(path, "/"+entry)
	index := strings.TrimSuffix(algorithm, "/sha256")
	ok = g.directories(index) == 1 && g.isAbsent(index+"/"+linkFile) &&
		g.directories(algorithm) == 1 && g.isAbsent(algorithm+"/"+linkFile) &&
		g.directories(path) >= 0
	return current, entry, ok
}
