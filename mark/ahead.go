package mark

import (
	"context"
	"sync"

	"regsweep/inventory"
	"regsweep/storage"
)

// Ahead reads manifests while names are still being listed, so that a storage far away is
// not waited for twice. The function Read goes on with what it has read.
//
// A manifest that is missing is left to that function, and Live keeps nothing of it: what was
// pushed meanwhile may have brought it.
type Ahead struct {
	reader storage.Reader
	large  chan struct{}

	mu      sync.Mutex
	builder *builder // nil if nothing was read
	count   int
}

// NewAhead makes an Ahead that has read nothing. It is for one inventory.
func NewAhead(reader storage.Reader) *Ahead {
	return &Ahead{reader: reader, large: newLargeSlots()}
}

// Read reads the manifest that is a stored blob, and is what
// inventory.Options.OnRevision takes. Its error is the storage's. It may be called
// concurrently.
func (a *Ahead) Read(ctx context.Context, inv *inventory.Inventory, id inventory.ID) error {
	return reading{inv, a.reader, a.large}.read(ctx, id, func(f found) {
		if f.node.state == missing || f.unlisted {
			return
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.builder == nil {
			a.builder = newBuilder(inv)
		}
		a.builder.add(f)
		a.count++
	})
}

// take hands over what was read for an inventory, and how many manifests that are.
func (a *Ahead) take(inv *inventory.Inventory) (*builder, int) {
	if a == nil {
		return newBuilder(inv), 0
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.builder == nil || a.builder.graph.inv != inv { // its ids stand for other digests
		return newBuilder(inv), 0
	}
	builder, count := a.builder, a.count
	a.builder, a.count = nil, 0
	return builder, count
}
