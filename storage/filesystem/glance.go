//go:build unix

package filesystem

import (
	"context"

	"regsweep/storage/layout"
)

// What a glance takes for ordinary may have no directory and no file named link that the
// layout has no place for: what such a link names is kept (inventory.builder.pin). Files
// of other names are not seen.

// glanced is what a glance tells.
type glanced int

const (
	unclear  glanced = iota // it has to be looked at with more care
	ordinary                // it is there, and as a registry leaves it
	absent                  // it is certain that it is not there
)

// endGlance counts what a glance has asked of the filesystem.
func (f *Store) endGlance(g *glance) {
	f.head.Add(g.stats)
	f.get.Add(g.reads)
	g.close()
}

// revision glances at the directory of a revision. It is ordinary if it has a link, which says
// the digest that the directory is named by, and nothing else. It is absent if it has neither
// directories nor a link, as after its manifest was deleted through the registry's API.
func (g *glance) revision(sum *[32]byte) glanced {
	g.goTo("")
	g.enterDigest(sum)
	// A symbolic link is no directory, and what it leads to would count as signatures.
	if g.directories("") != 0 || !g.isAbsent(layout.SignaturesDir) {
		return unclear
	}
	said, is := g.link(layout.LinkFile)
	if is == ordinary && said != *sum {
		return unclear
	}
	return is
}

// tag glances at a tag, and reports whether it has a current link, which says target, and
// an index of SHA-256 digests, with how many entries. If it is one, it is that of the target.
// Of more the directory has to be listed.
func (g *glance) tag(name string) (target [32]byte, entries int, ok bool) {
	g.goTo(name)
	if g.directories("") != 2 || !g.isAbsent(layout.LinkFile) {
		return target, 0, false
	}
	target, is := g.link("current/" + layout.LinkFile)
	if is != ordinary || g.directories("current") != 0 {
		return target, 0, false
	}
	if g.directories("index") != 1 || !g.isAbsent("index/"+layout.LinkFile) {
		return target, 0, false
	}
	g.enter("index/sha256")
	if entries = g.directories(""); entries != 1 {
		return target, entries, entries > 1
	}
	ok = g.isAbsent(layout.LinkFile)
	g.enterDigest(&target)
	return target, 1, ok && g.directories("") >= 0
}

// VerifyLinks implements storage.LinkVerifier.
func (f *Store) VerifyLinks(ctx context.Context, dir string, digests [][32]byte) (verified []bool, err error) {
	verified = make([]bool, len(digests))
	t, err := f.tree()
	if t == nil || err != nil {
		return verified, err
	}
	if err := f.begin(ctx); err != nil {
		return nil, err
	}
	defer f.end()
	g := newGlance(t, dir)
	defer f.endGlance(g)
	for i := range digests {
		g.goTo("")
		g.enterDigest(&digests[i])
		said, is := g.link(layout.LinkFile)
		verified[i] = is == ordinary && said == digests[i]
	}
	return verified, nil
}
