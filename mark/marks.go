package mark

import (
	"slices"
	"sync"

	"regsweep/inventory"
)

// marks are what the mark of one repository knows of each digest: as what it was met, and
// why it stays. Where a repository holds a good part of all digests, as one of millions
// must, an array of all is smaller than a map of its own, and faster; where there are few
// digests it is faster, and small.
type marks struct {
	few  map[inventory.ID]flags
	many []flags // by ID; nil where there is a map
}

// flags are two bits, and above them a Cause.
type flags uint8

const (
	metAsContent flags = 1 << iota
	metAsManifest
	causeBits = iota // below the cause
)

// newMarks makes marks for a repository of so many links, where there are so many digests.
func newMarks(links, digests int) *marks {
	const (
		mapCosts = 12  // bytes for an entry, or some more
		mapTakes = 256 // as long for an entry as it takes to clear so many bytes
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

// smallArray is how many bytes each repository that is being marked may have at any rate.
const smallArray = 1 << 20

// usedMarks are small arrays that have been released.
var usedMarks = sync.Pool{New: func() any { return new(marks) }}

// release lets the next repository have what this one needs no more.
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

// Add makes marks a Set, of digests as they are met.
func (m *marks) Add(v vertex) bool {
	met := metAsContent
	if v.isManifest() {
		met = metAsManifest
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

func (m *marks) isAlive(id inventory.ID) bool { return m.of(id)&(metAsContent|metAsManifest) != 0 }

// cause is why a digest is alive, or Dead.
func (m *marks) cause(id inventory.ID) Cause { return Cause(m.of(id) >> causeBits) }
