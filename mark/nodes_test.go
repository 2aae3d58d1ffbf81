package mark

import (
	"testing"

	"regsweep/storage"
)

// A node is found under its digest and under no other, wherever that lies.
func TestNodesAreFound(t *testing.T) {
	var n nodes
	want := map[storage.ID]*node{}
	for _, id := range []storage.ID{128, 0, 63, 64, 1 << 20} {
		want[id] = &node{}
		n.set(id, want[id])
	}
	for id := range storage.ID(1<<20 + 200) {
		if n.at(id) != want[id] {
			t.Fatalf("%d: %p, want %p", id, n.at(id), want[id])
		}
	}
}
