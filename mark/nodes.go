package mark

import (
	"math/bits"

	"regsweep/storage"
)

// nodes are the manifests that were read, by digest. Its zero value has none.
//
// One digest of fifty is a manifest's, and every other one is asked for as often as there
// are references to it: then a bit says that it has no node, and of a map of a hundred
// thousand no cache has what is needed.
type nodes struct {
	of   map[storage.ID]*node
	have idSet
}

func (n *nodes) set(id storage.ID, to *node) {
	if n.of == nil {
		n.of = map[storage.ID]*node{}
	}
	n.have.add(id)
	n.of[id] = to
}

// at returns nil for what is no manifest, or was not read.
func (n *nodes) at(id storage.ID) *node {
	if !n.have.has(id) {
		return nil
	}
	return n.of[id]
}

// idSet is a set of ids, a bit for each up to the largest.
type idSet []uint64

func (s *idSet) add(id storage.ID) {
	for int(id/64) >= len(*s) {
		*s = append(*s, 0)
	}
	(*s)[id/64] |= 1 << (id % 64)
}

func (s idSet) has(id storage.ID) bool {
	return int(id/64) < len(s) && s[id/64]&(1<<(id%64)) != 0
}

// ids are its members, sorted.
func (s idSet) ids() []storage.ID {
	n := 0
	for _, word := range s {
		n += bits.OnesCount64(word)
	}
	ids := make([]storage.ID, 0, n)
	for i, word := range s {
		for ; word != 0; word &= word - 1 {
			ids = append(ids, storage.ID(64*i+bits.TrailingZeros64(word)))
		}
	}
	return ids
}
