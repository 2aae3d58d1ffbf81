package storage

import (
	"encoding/hex"
	"strings"
)

// What a glance takes for ordinary may have no directory and no file named link that the
// layout has no place for: what such a link names is kept (inventoryBuilder.pin). Files
// of other names are not seen.

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

// tag glances at a tag, and reports whether it has a current link and in its index nothing
// but its target, which is what that link says.
func (g *glance) tag(name string) (target [32]byte, ok bool) {
	if g.directories(name) != 2 || !g.isAbsent(name+"/"+linkFile) {
		return target, false
	}
	link := name + "/current/" + linkFile
	target, ok = g.link(link)
	if !ok || g.directories(strings.TrimSuffix(link, "/"+linkFile)) != 0 {
		return target, false
	}
	// The directories above the entry are its path's first parts.
	entry := hex.EncodeToString(target[:])
	path := name + "/index/sha256/" + entry
	algorithm := strings.TrimSuffix(path, "/"+entry)
	index := strings.TrimSuffix(algorithm, "/sha256")
	return target, g.directories(index) == 1 && g.isAbsent(index+"/"+linkFile) &&
		g.directories(algorithm) == 1 && g.isAbsent(algorithm+"/"+linkFile) &&
		g.directories(path) >= 0
}
