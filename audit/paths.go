package audit

import (
	"math"
	"slices"

	"regsweep/inventory"
	"regsweep/mark"
)

// paths has all paths to a target in one repository, as a graph. Its vertices are the digests from which
// a path leads to the target, as the repository reaches them.
type paths struct {
	vertices []vertex
	arcs     [][]arc // by vertex: the first steps of its paths, sorted by digest. The target has none
	distance []int   // by vertex: the number of steps to the target

	counts    []int64 // by vertex: the number of paths through the successors that are counted: see count
	uncounted []int   // by vertex: the number of its other successors
	onPath    []bool  // by vertex; of count and shortest
	steps     int     // of count, and then of shortest
}

type vertex struct {
	id         inventory.ID
	isManifest bool
}

// arc leads from one vertex to the next on a path.
type arc struct {
	to   int
	kind mark.EdgeKind
}

// findPaths finds the paths from the given digests to the target. found has the vertex of each given digest
// from which a path leads to the target.
func (q question) findPaths(view *mark.View, from []inventory.ID) (p *paths, found map[inventory.ID]int) {
	p, index := &paths{}, map[vertex]int{}
	add := func(v vertex) int {
		at, known := index[v]
		if !known {
			at = len(p.vertices)
			index[v] = at
			p.vertices = append(p.vertices, v)
		}
		return at
	}
	for _, id := range from {
		add(vertex{id, view.IsManifest(id)})
	}
	for at := 0; at < len(p.vertices); at++ {
		v, arcs := p.vertices[at], []arc{}
		if v.id != q.target {
			edges := uniqueEdges(view.Edges(v.id, v.isManifest))
			slices.SortFunc(edges, func(a, b mark.Edge) int { return q.compareDigests(a.To, b.To) })
			for _, e := range edges {
				if q.isAncestor[e.To] {
					arcs = append(arcs, arc{add(vertex{e.To, e.IsManifest}), e.Kind})
				}
			}
		}
		p.arcs = append(p.arcs, arcs)
	}
	p.measure(q.target)
	found = map[inventory.ID]int{}
	for _, id := range from {
		if at := index[vertex{id, view.IsManifest(id)}]; p.distance[at] >= 0 {
			found[id] = at
		}
	}
	return p, found
}

// uniqueEdges leaves out all but one of the edges to a digest. An edge to a manifest leads further.
func uniqueEdges(edges []mark.Edge) []mark.Edge {
	at := make(map[inventory.ID]int, len(edges))
	out := edges[:0]
	for _, e := range edges {
		switch i, known := at[e.To]; {
		case !known:
			at[e.To] = len(out)
			out = append(out, e)
		case e.IsManifest && !out[i].IsManifest:
			out[i] = e
		}
	}
	return out
}

// measure sets the distances, removes the arcs that do not lead to the target, and counts the paths from
// all vertices that lead to no cycle. Their counts are the sums of those of their successors, which come
// first (Kahn's algorithm).
func (p *paths) measure(target inventory.ID) {
	before := make([][]int, len(p.vertices))
	for from, arcs := range p.arcs {
		for _, a := range arcs {
			before[a.to] = append(before[a.to], from)
		}
	}
	p.distance, p.counts = make([]int, len(p.vertices)), make([]int64, len(p.vertices))
	var targets []int
	for at, v := range p.vertices {
		if p.distance[at] = -1; v.id == target {
			p.distance[at], p.counts[at] = 0, 1
			targets = append(targets, at)
		}
	}
	queue := slices.Clone(targets)
	for next := 0; next < len(queue); next++ {
		for _, from := range before[queue[next]] {
			if p.distance[from] < 0 {
				p.distance[from] = p.distance[queue[next]] + 1
				queue = append(queue, from)
			}
		}
	}
	p.uncounted, p.onPath = make([]int, len(p.vertices)), make([]bool, len(p.vertices))
	for at, arcs := range p.arcs {
		p.arcs[at] = slices.DeleteFunc(arcs, func(a arc) bool { return p.distance[a.to] < 0 })
		p.uncounted[at] = len(p.arcs[at])
	}
	for next := 0; next < len(targets); next++ {
		for _, from := range before[targets[next]] {
			p.counts[from] = sumCounts(p.counts[from], p.counts[targets[next]])
			if p.uncounted[from]--; p.uncounted[from] == 0 {
				targets = append(targets, from)
			}
		}
	}
}

// Most is the largest number of chains that is counted. It is exact in JSON.
const Most = 1<<53 - 1

func sumCounts(a, b int64) int64 { return min(a+b, Most) } // both are at most Most

// count returns the number of paths from a vertex to the target in which no vertex occurs twice. It
// enumerates the paths of a vertex that leads to a cycle. Only referrers make cycles: a manifest may refer
// to an index that has it as an entry.
func (p *paths) count(at int) (sum int64) {
	if p.uncounted[at] == 0 {
		return p.counts[at]
	}
	if p.steps++; p.steps > mostSteps {
		return Most
	}
	p.onPath[at] = true
	for _, a := range p.arcs[at] {
		if !p.onPath[a.to] {
			sum = sumCounts(sum, p.count(a.to))
		}
	}
	p.onPath[at] = false
	return sum
}

// mostSteps limits the time that count and shortest take. Above it the count is Most, and the list is not complete.
const mostSteps = 1 << 20

// path is a path from a root.
type path struct {
	root int   // of the caller
	arcs []arc // the first leads from the root to its vertex
}

// shortest returns the n shortest paths from the given vertices, the shortest first. Paths of the same
// length are in the order of their vertices in from, and then of their arcs.
//
// It lists the paths of one length after the other. A path is extended only if it can reach the target
// within the length.
func (p *paths) shortest(from []int, n int) (found []path) {
	var on []arc
	length, longer := 0, 1 // longer is the least length of the paths that were not extended
	var extend func(root int, by arc)
	extend = func(root int, by arc) {
		if p.onPath[by.to] || len(found) == n || p.steps == mostSteps {
			return
		}
		if least := len(on) + 1 + p.distance[by.to]; least > length {
			longer = min(longer, least)
			return
		}
		p.steps++
		on, p.onPath[by.to] = append(on, by), true
		if p.distance[by.to] == 0 && len(on) == length {
			found = append(found, path{root, slices.Clone(on)})
		}
		for _, next := range p.arcs[by.to] {
			extend(root, next)
		}
		on, p.onPath[by.to] = on[:len(on)-1], false
	}
	for p.steps = 0; longer < math.MaxInt && len(found) < n && p.steps < mostSteps; {
		length, longer = longer, math.MaxInt
		for root, at := range from {
			extend(root, arc{to: at})
		}
	}
	return found
}
