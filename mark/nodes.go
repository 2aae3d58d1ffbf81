package mark

import "regsweep/storage"

// nodes are the manifests that were read, by digest. Its zero value has none.
//
// One digest of fifty is a manifest's, and every other one is asked for as often as there
// are references to it: then a bit says that it has no node, and of a map of a hundred
// thousand no cache has what is needed.
type nodes struct {
	of   map[storage.ID]*node
	bits []uint64 // by ID
}

func (n *nodes) set(id storage.ID, to *node) {
	if n.of == nil {
		n.of = map[storage.ID]*node{}
	}
	for int(id/64) >= len(n.bits) {
		n.bits = append(n.bits, 0)
	}
	n.bits[id/64] |= 1 << (id % 64)
	n.of[id] = to
}

// at returns nil for what is no manifest, or was not read.
func (n *nodes) at(id storage.ID) *node {
	if int(id/64) >= len(n.bits) || n.bits[id/64]&(1<<(id%64)) == 0 {
		return nil
	}
	return n.of[id]
}
