package mark

import (
	"slices"

	"regsweep/inventory"
	"regsweep/storage/layout"
)

// maxNamedTags is the maximum number of tags in a problem.
const maxNamedTags = 100

// nameTags adds to each problem the tags that can't be pulled because of it: tags that lead to a
// broken digest or to a damaged revision link, and tags whose own link is damaged.
func (m *marker) nameTags() {
	links := map[string]int{} // index of the problem of a damaged link, by path
	for at, p := range m.problems {
		if p.Kind == inventory.DamagedLink {
			links[p.Path] = at
		}
	}
	if len(m.broken)+len(links) == 0 {
		return
	}
	name := func(at int, tag string) {
		if p := &m.problems[at]; len(p.Tags) < maxNamedTags && !slices.Contains(p.Tags, tag) {
			p.Tags = append(p.Tags, tag)
		}
	}
	found := map[inventory.ID][]int{} // by target
	for _, tag := range m.r.Tags {
		if at, isDamaged := links[layout.TagPath(m.r.Name, tag.Name)]; isDamaged {
			name(at, tag.Name)
		}
		if !tag.HasTarget {
			continue
		}
		problems, known := found[tag.Target]
		if !known {
			problems = m.problemsBelow(tag.Target, links)
			found[tag.Target] = problems
		}
		for _, at := range problems {
			name(at, tag.Name)
		}
	}
}

// problemsBelow returns the indexes of the problems of all digests that a manifest reaches.
func (m *marker) problemsBelow(root inventory.ID, links map[string]int) (problems []int) {
	Reach(MapSet[vertex]{}, []vertex{m.asReached(plain(root) | asManifest)}, func(v vertex) []vertex {
		if at, isBroken := m.broken[v.id()]; isBroken {
			problems = append(problems, at)
		}
		if !v.isManifest() {
			return nil
		}
		if at, isDamaged := links[layout.RevisionPath(m.r.Name, m.inv.Digest(v.id()))]; isDamaged {
			problems = append(problems, at)
		}
		var edges []vertex
		n, _ := m.graph.manifests.at(v.id())
		for _, to := range m.graph.edgesOf(n) {
			edges = append(edges, m.asReached(to))
		}
		return edges
	})
	return problems
}
