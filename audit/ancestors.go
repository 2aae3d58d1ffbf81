package audit

import (
	"regsweep/inventory"
	"regsweep/mark"
)

// ancestors returns, by id, the digests from which a path leads to target in the graph of all repositories
// together. A path in one repository is also a path in this graph. So all other digests can be left out
// of a search for the paths in one repository.
func (f Facts) ancestors(target inventory.ID) []bool {
	before := f.predecessors()
	found := make([]bool, f.Inventory.Digests())
	for _, id := range mark.Reach(mark.MapSet[inventory.ID]{}, []inventory.ID{target}, before.of) {
		found[id] = true
	}
	return found
}

// predecessors has the edges of the graph of all repositories backwards. It takes 4 bytes for a digest
// and 4 for an edge.
type predecessors struct {
	end  []uint32 // by id: the end of its part of from
	from []inventory.ID
}

func (p predecessors) of(id inventory.ID) []inventory.ID {
	begin := uint32(0)
	if id > 0 {
		begin = p.end[id-1]
	}
	return p.from[begin:p.end[id]]
}

func (f Facts) predecessors() predecessors {
	p := predecessors{end: make([]uint32, f.Inventory.Digests())}
	count := uint32(0)
	f.eachEdge(func(_, to inventory.ID) { p.end[to]++; count++ })
	sum := uint32(0)
	for id, n := range p.end {
		p.end[id] = sum // the begin of its part, and after the next loop its end
		sum += n
	}
	p.from = make([]inventory.ID, count)
	f.eachEdge(func(from, to inventory.ID) {
		p.from[p.end[to]] = from
		p.end[to]++
	})
	return p
}

// eachEdge visits the edges of all repositories together.
func (f Facts) eachEdge(visit func(from, to inventory.ID)) {
	for id := range f.Graph.Manifests() {
		for to := range f.Graph.Edges(id) {
			visit(id, to)
		}
		if subject, found := f.Graph.Subject(id); found {
			visit(subject, id)
		}
	}
	for _, r := range f.Inventory.Repositories {
		for of, signatures := range r.Signatures {
			for _, signature := range signatures {
				visit(of, signature)
			}
		}
		for id, to := range r.Aliases {
			visit(id, to)
		}
	}
}
