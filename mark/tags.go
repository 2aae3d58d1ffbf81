package mark

import (
	"slices"

	"regsweep/inventory"
	"regsweep/storage/layout"
)

// maxNamedTags is how many tags a problem names.
const maxNamedTags = 100

// nameTags notes with each problem which tags can't be pulled for it: those that lead to what
// is broken, to a revision link that is damaged, or to nothing, since their own link is.
func (t *tracer) nameTags() {
	links := map[string]int{} // damaged ones, by path
	for at, p := range t.problems {
		if p.Kind == inventory.DamagedLink {
			links[p.Path] = at
		}
	}
	if len(t.broken)+len(links) == 0 {
		return
	}
	name := func(at int, tag string) {
		if p := &t.problems[at]; len(p.Tags) < maxNamedTags && !slices.Contains(p.Tags, tag) {
			p.Tags = append(p.Tags, tag)
		}
	}
	found := map[inventory.ID][]int{} // by target
	for _, tag := range t.r.Tags {
		if at, isDamaged := links[layout.TagPath(t.r.Name, tag.Name)]; isDamaged {
			name(at, tag.Name)
		}
		if !tag.HasTarget {
			continue
		}
		problems, known := found[tag.Target]
		if !known {
			problems = t.problemsBelow(tag.Target, links)
			found[tag.Target] = problems
		}
		for _, at := range problems {
			name(at, tag.Name)
		}
	}
}

// problemsBelow are the places of the problems of what a manifest needs.
func (t *tracer) problemsBelow(root inventory.ID, links map[string]int) (problems []int) {
	Reach(MapSet[vertex]{}, []vertex{t.see(plain(root) | asManifest)}, func(v vertex) []vertex {
		if at, isBroken := t.broken[v.id()]; isBroken {
			problems = append(problems, at)
		}
		if !v.isManifest() {
			return nil
		}
		if at, isDamaged := links[layout.RevisionPath(t.r.Name, t.inv.Digest(v.id()))]; isDamaged {
			problems = append(problems, at)
		}
		var edges []vertex
		n, _ := t.graph.manifests.at(v.id())
		for _, to := range t.graph.edgesOf(n) {
			edges = append(edges, t.see(to))
		}
		return edges
	})
	return problems
}
