// Package mark decides what is alive: from a registry's tags through its manifests
// to its blobs, repository by repository.
package mark

// Set is a set as Reach needs one.
type Set[N any] interface {
	// Add adds a node, and reports whether it was not in the set.
	Add(N) bool
}

// MapSet is a Set, and a map.
type MapSet[N comparable] map[N]struct{}

// Add implements Set.
func (s MapSet[N]) Add(n N) bool {
	before := len(s)
	s[n] = struct{}{}
	return len(s) > before
}

// Reach is the mark itself. It adds to alive the roots and all that can be reached
// from them along edges, and returns what it has added, each node once. A node
// that is in alive already is taken as reached with all its edges, so marking in
// stages says what each stage has added to those before.
//
// It visits no node twice and does not recurse, so neither a cycle nor a long
// chain can hurt it. The result of edges is used before edges is called again.
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
