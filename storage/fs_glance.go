package storage

import "strings"

// tag glances at a tag that has its current link and in its index nothing but what
// that points at, as nearly all have. entry is that digest's hex.
func (g *glance) tag(name string) (current []byte, entry string, ok bool) {
	if g.directories(name) != 2 {
		return nil, "", false
	}
	current = g.link(name + "/current/" + linkFile)
	entry, found := strings.CutPrefix(string(current), "sha256:")
	if !found {
		return nil, "", false
	}
	index := name + "/index"
	algorithm := index + "/sha256"
	ok = g.directories(index) == 1 && g.directories(algorithm) == 1 && g.directories(algorithm+"/"+entry) >= 0
	return current, entry, ok
}
