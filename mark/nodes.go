package mark

import (
	"math/bits"

	"regsweep/inventory"
)

// nodes are the manifests that were read, by digest. The zero value is empty.
//
// About one digest of fifty is a manifest, but the mark looks up the node of every reference. For all
// other digests one bit shows that there is no node. A map of a hundred thousand nodes would miss the
// processor's cache each time. Nearly all manifests are known from links before the first is read.
// Their nodes are in one array. The index of a node is the number of expected ids below its id.
type nodes struct {
	read idSet

	expected idSet
	before   []uint32 // number of expected ids below each 64th id
	of       []node   // nodes of the expected ids, sorted by id
	others   map[inventory.ID]node
}

// expect allocates the nodes of the manifests that will be read.
func (n *nodes) expect(ids idSet) {
	others := n.others
	n.expected, n.before, n.others = ids, make([]uint32, len(ids)), nil
	count := 0
	for i, word := range ids {
		n.before[i] = uint32(count)
		count += bits.OnesCount64(word)
	}
	n.of = make([]node, count)
	for id, node := range others {
		n.set(id, node)
	}
}

func (n *nodes) set(id inventory.ID, to node) {
	n.read.add(id)
	if n.expected.has(id) {
		n.of[n.place(id)] = to
		return
	}
	if n.others == nil {
		n.others = map[inventory.ID]node{}
	}
	n.others[id] = to
}

// has reports whether a digest was read as a manifest.
func (n *nodes) has(id inventory.ID) bool { return n.read.has(id) }

// at returns the node of a digest that was read as a manifest.
func (n *nodes) at(id inventory.ID) (of node, found bool) {
	switch {
	case !n.read.has(id):
		return node{}, false
	case n.expected.has(id):
		return n.of[n.place(id)], true
	}
	return n.others[id], true
}

// place returns the index in of of an expected manifest.
func (n *nodes) place(id inventory.ID) int {
	return int(n.before[id/64]) + bits.OnesCount64(n.expected[id/64]&(1<<(id%64)-1))
}

// idSet is a set of ids. It has one bit for each id up to the largest.
type idSet []uint64

func (s *idSet) add(id inventory.ID) {
	for int(id/64) >= len(*s) {
		*s = append(*s, 0)
	}
	(*s)[id/64] |= 1 << (id % 64)
}

func (s idSet) has(id inventory.ID) bool {
	return int(id/64) < len(s) && s[id/64]&(1<<(id%64)) != 0
}

func (s idSet) len() int {
	n := 0
	for _, word := range s {
		n += bits.OnesCount64(word)
	}
	return n
}

// ids returns the members, sorted.
func (s idSet) ids() []inventory.ID {
	ids := make([]inventory.ID, 0, s.len())
	for i, word := range s {
		for ; word != 0; word &= word - 1 {
			ids = append(ids, inventory.ID(64*i+bits.TrailingZeros64(word)))
		}
	}
	return ids
}
