package storage

import (
	"encoding/hex"
	"strings"
)

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
	var path [2*len(sum) + len("/"+signaturesDir)]byte
	name := path[:hex.Encode(path[:], sum[:])]
	// A symbolic link is no directory, and what it leads to would count as signatures.
	signatures := string(append(name, "/"+signaturesDir...))
	if g.directories(signatures[:len(name)]) != 0 || !g.isAbsent(signatures) {
		return false
	}
	said, ok := g.link(string(append(name, "/"+linkFile...)))
	return ok && said == sum
}

// tag glances at a tag, and reports whether it has a current link, which says target, and
// an index of SHA-256 digests, with how many entries. If it is one, it is that of the target.
// Of more the directory has to be listed.
func (g *glance) tag(name string) (target [32]byte, entries int, ok bool) {
	if g.directories(name) != 2 || !g.isAbsent(name+"/"+linkFile) {
		return target, 0, false
	}
	link := name + "/current/" + linkFile
	target, ok = g.link(link)
	if !ok || g.directories(strings.TrimSuffix(link, "/"+linkFile)) != 0 {
		return target, 0, false
	}
	// The directories above the entry are its path's first parts.
	entry := hex.EncodeToString(target[:])
	path := name + "/" + shaIndex + "/" + entry
	algorithm := strings.TrimSuffix(path, "/"+entry)
	index := strings.TrimSuffix(algorithm, "/sha256")
	if g.directories(index) != 1 || !g.isAbsent(index+"/"+linkFile) {
		return target, 0, false
	}
	entries = g.directories(algorithm)
	if entries == 1 {
		return target, 1, g.isAbsent(algorithm+"/"+linkFile) && g.directories(path) >= 0
	}
	return target, entries, entries > 1
}

// shaIndex is where a tag's directory has the entries of its index.
const shaIndex = "index/sha256"
