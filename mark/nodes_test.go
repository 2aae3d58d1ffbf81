package mark

import (
	"fmt"
	"slices"
	"testing"

	"regsweep/inventory"
)

// A node is found under its digest and under no other, wherever that lies, and whether or not
// it was expected.
func TestNodesAreFound(t *testing.T) {
	ids := []inventory.ID{128, 0, 63, 64, 1 << 20}
	for expected := range len(ids) + 1 {
		var known idSet
		for _, id := range append(ids[:expected:expected], 1, 65, 130) { // some are never read
			known.add(id)
		}
		n := expect(known)
		want := map[inventory.ID]*node{}
		for _, id := range ids {
			want[id] = &node{detail: fmt.Sprint(id)}
			n.set(id, want[id])
		}
		for id := range inventory.ID(1<<20 + 200) {
			if n.at(id) != want[id] {
				t.Fatalf("of %d expected, %d: %p, want %p", expected, id, n.at(id), want[id])
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
