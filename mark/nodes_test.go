package mark

import (
	"slices"
	"testing"

	"regsweep/inventory"
)

// A node is found under its digest and under no other, wherever that lies, and whether it was
// expected, or read before anything was expected, or neither.
func TestNodesAreFound(t *testing.T) {
	ids := []inventory.ID{128, 0, 63, 64, 1 << 20}
	for expected := range len(ids) + 1 {
		for before := range len(ids) + 1 {
			var known idSet
			for _, id := range append(ids[:expected:expected], 1, 65, 130) { // some are never read
				known.add(id)
			}
			var n nodes
			want := map[inventory.ID]node{}
			for i, id := range ids {
				if i == before {
					n.expect(known)
				}
				want[id] = node{subject: id + 1}
				n.set(id, want[id])
			}
			if before == len(ids) {
				n.expect(known)
			}
			for i := range inventory.ID(400) {
				id := i
				if i >= 200 {
					id = 1<<20 - 300 + i
				}
				of, found := n.at(id)
				if _, isRead := want[id]; of != want[id] || found != isRead || n.has(id) != isRead {
					t.Fatalf("of %d expected and %d before, %d: %+v (%t), want %+v (%t)", expected, before, id, of, found, want[id], isRead)
				}
			}
		}
	}
}

func TestIDSet(t *testing.T) {
	var none, set idSet
	want := []inventory.ID{0, 1, 63, 64, 127, 128, 1000}
	for _, id := range []inventory.ID{64, 1000, 0, 63, 128, 1, 127, 64} {
		set.add(id)
	}
	if got := set.ids(); !slices.Equal(got, want) || set.len() != len(want) || len(none.ids()) != 0 {
		t.Errorf("the members are %d, want %d; of the empty set they are %d", got, want, none.ids())
	}
	for id := range inventory.ID(1100) {
		if set.has(id) != slices.Contains(want, id) || none.has(id) {
			t.Errorf("%d is a member: %t; of the empty set: %t", id, set.has(id), none.has(id))
		}
	}
}
