package audit

import (
	"slices"
	"strings"

	"regsweep/inventory"
)

// directories returns the repositories in the order of their directories: all below "a" before "a-b". It also
// returns the names of all directories that have repositories.
func directories(inv *inventory.Inventory) (order []int, isDir map[string]bool) {
	isDir = map[string]bool{}
	for i, r := range inv.Repositories {
		order = append(order, i)
		for name := r.Name; !isDir[name]; name = name[:max(0, strings.LastIndexByte(name, '/'))] {
			isDir[name] = true
		}
	}
	paths := make([]string, len(order))
	for i, r := range inv.Repositories {
		paths[i] = strings.ReplaceAll(r.Name, "/", "\x00")
	}
	slices.SortFunc(order, func(a, b int) int { return strings.Compare(paths[a], paths[b]) })
	return order, isDir
}

// namespaceOf returns the smallest namespace that has two repositories. It may be the name of one of them.
func namespaceOf(a, b string) (namespace string) {
	a, b = a+"/", b+"/"
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			break
		}
		if a[i] == '/' {
			namespace = a[:i]
		}
	}
	return namespace
}
