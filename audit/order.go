package audit

import (
	"cmp"

	"regsweep/inventory"
)

// compareDigests orders ids by their digests.
func (f Facts) compareDigests(a, b inventory.ID) int {
	if a == b || f.Inventory.Stored(a) && f.Inventory.Stored(b) {
		return cmp.Compare(a, b)
	}
	return cmp.Compare(f.Inventory.Digest(a), f.Inventory.Digest(b))
}

// compareSizes orders blobs by size, the largest first, and then by digest.
func (f Facts) compareSizes(a, b inventory.ID) int {
	return cmp.Or(cmp.Compare(f.size(b), f.size(a)), cmp.Compare(a, b))
}
