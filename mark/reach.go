// Package mark decides what is alive: from a registry's tags through its manifests
// to its blobs, repository by repository.
package mark

// Reach is the mark itself. It adds to alive the roots and all that can be reached
// from them along edges, and returns what it has added, each node once. A node
// that is in alive already is taken as reached with all its edges, so marking in
// stages tells what each stage has added to those before.
//
// It visits no node twice and does not recurse, so that neither a cycle nor a long
// chain can hurt it.
func Reach[N comparable](alive map[N]struct{}, roots []N, edges func(N) []N) (added []N) {
	visit := func(n N) {
		if _, seen := alive[n]; !seen {
			alive[n] = struct{}{}
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
