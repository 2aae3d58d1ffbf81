package mark

import (
	"slices"
	"sync"

	"regsweep/inventory"
)

// marks say of each digest how one repository reaches it, and why it is kept. If a repository has a
// good part of all digests, an array of all digests is smaller and faster than a map. If there are few
// digests, the array is faster, and small.
type marks struct {
	few  map[inventory.ID]flags
	many []flags // by ID; nil where there is a map
}

// flags are two bits, and above them a Cause.
type flags uint8

const (
	reachedAsContent flags = 1 << iota
	reachedAsManifest
	causeBits = iota // below the cause
)

// newMarks makes marks for a repository with so many links, in a storage with so many digests.
func newMarks(links, digests int) *marks {
	const (
		mapCosts = 12  // bytes for an entry of a map, at least
		mapTakes = 256 // bytes of an array that can be cleared in the time that an entry takes
	)
	switch {
	case digests <= smallArray && links*mapTakes >= digests:
		m := usedMarks.Get().(*marks)
		m.many = slices.Grow(m.many[:0], digests)[:digests]
		clear(m.many)
		return m
	case links*mapCosts >= digests:
		return &marks{many: make([]flags, digests)}
	}
	return &marks{few: make(map[inventory.ID]flags, links)}
}

// smallArray is how many bytes the array of any repository may have.
const smallArray = 1 << 20

// usedMarks are small arrays that have been released.
var usedMarks = sync.Pool{New: func() any { return new(marks) }}

// release gives the array to the next repository.
func (m *marks) release() {
	if m.few == nil && cap(m.many) <= smallArray {
		usedMarks.Put(m)
	}
}

func (m *marks) of(id inventory.ID) flags {
	if m.many == nil {
		return m.few[id]
	}
	if int(id) < len(m.many) {
		return m.many[id]
	}
	return 0
}

func (m *marks) set(id inventory.ID, to flags) {
	if m.many == nil {
		m.few[id] = to
		return
	}
	if int(id) >= len(m.many) { // it was given since then
		m.many = append(m.many, make([]flags, int(id)+1-len(m.many))...)
	}
	m.many[id] = to
}

// Add makes marks a Set, of digests as they are reached.
func (m *marks) Add(v vertex) bool {
	met := reachedAsContent
	if v.isManifest() {
		met = reachedAsManifest
	}
	known := m.of(v.id())
	if known&met != 0 {
		return false
	}
	m.set(v.id(), known|met)
	return true
}

// keep gives a cause to a digest that has none, and reports whether it had none.
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

// cause is why a digest is alive, or Dead.
func (m *marks) cause(id inventory.ID) Cause { return Cause(m.of(id) >> causeBits) }
