// Package mark decides what is alive: from a registry's tags through its manifests
// to its blobs, repository by repository.
package mark

// Set is the set that Reach needs.
type Set[N any] interface {
	// Add adds a node, and reports whether it was not in the set.
	Add(N) bool
}

// MapSet is a map that implements Set.
type MapSet[N comparable] map[N]struct{}

// Add implements Set.
func (s MapSet[N]) Add(n N) bool {
	before := len(s)
	s[n] = struct{}{}
	return len(s) > before
}

// Reach is the mark itself. It adds the roots, and all nodes that they reach along edges, to alive. It
// returns the added nodes, each once. It does not follow the edges of nodes that are in alive already.
// So the result of a second call has only the nodes that its roots have added.
//
// It visits no node twice and does not recurse, so cycles and long chains do no harm. It uses the
// result of edges before it calls edges again.
func Reach[N any](alive Set[N], roots []N, edges func(N) []N) (added []N) {
	visit := func(n N) {
		if alive.Add(n) {
			added = append(added, n)
		}
	}
	for _, root := range roots {
		visit(root)
	}
	for next := 0; next < len(added); next++ {
		for _, n := range edges(added[next]) {
			visit(n)
		}
	}
	return added
}
