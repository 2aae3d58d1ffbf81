package mark

import (
	"slices"
	"sync"

	"regsweep/inventory"
)

// marks record for each digest how one repository reaches it, and with which cause. They are an array
// of all digests if that is smaller than a map, because the repository has many of them, or faster,
// because there are few digests in all.
type marks struct {
	sparse map[inventory.ID]flags
	dense  []flags // by ID; nil if sparse is used
}

// flags has two bits for how a digest is reached, and above them a Cause.
type flags uint8

const (
	reachedAsContent flags = 1 << iota
	reachedAsManifest
	causeBits = iota // below the cause
)

// newMarks returns marks for a repository with the given number of links, in a storage with the given
// number of digests.
func newMarks(links, digests int) *marks {
	const (
		mapCosts = 12  // minimum size of a map entry in bytes
		mapTakes = 256 // bytes of an array that are cleared in the time of adding a map entry
	)
	switch {
	case digests <= smallArray && links*mapTakes >= digests:
		m := usedMarks.Get().(*marks)
		m.dense = slices.Grow(m.dense[:0], digests)[:digests]
		clear(m.dense)
		return m
	case links*mapCosts >= digests:
		return &marks{dense: make([]flags, digests)}
	}
	return &marks{sparse: make(map[inventory.ID]flags, links)}
}

// smallArray is the maximum size in bytes of an array that is used again.
const smallArray = 1 << 20

// usedMarks has the small arrays that were released.
var usedMarks = sync.Pool{New: func() any { return new(marks) }}

// release makes a small array available to the next newMarks. m must not be used afterwards.
func (m *marks) release() {
	if m.sparse == nil && cap(m.dense) <= smallArray {
		usedMarks.Put(m)
	}
}

func (m *marks) of(id inventory.ID) flags {
	if m.dense == nil {
		return m.sparse[id]
	}
	if int(id) < len(m.dense) {
		return m.dense[id]
	}
	return 0
}

func (m *marks) set(id inventory.ID, to flags) {
	if m.dense == nil {
		m.sparse[id] = to
		return
	}
	if int(id) >= len(m.dense) { // the id was assigned after newMarks
		m.dense = append(m.dense, make([]flags, int(id)+1-len(m.dense))...)
	}
	m.dense[id] = to
}

// Add implements Set.
func (m *marks) Add(v vertex) bool {
	as := reachedAsContent
	if v.isManifest() {
		as = reachedAsManifest
	}
	known := m.of(v.id())
	if known&as != 0 {
		return false
	}
	m.set(v.id(), known|as)
	return true
}

// keep sets the cause of a digest that has none, and reports whether it had none.
func (m *marks) keep(id inventory.ID, cause Cause) bool {
	known := m.of(id)
	if known>>causeBits != 0 {
		return false
	}
	m.set(id, known|flags(cause)<<causeBits)
	return true
}

func (m *marks) isAlive(id inventory.ID) bool {
	return m.of(id)&(reachedAsContent|reachedAsManifest) != 0
}

// cause returns the cause of a digest, or Dead.
func (m *marks) cause(id inventory.ID) Cause { return Cause(m.of(id) >> causeBits) }
