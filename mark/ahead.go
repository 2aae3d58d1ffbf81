package mark

import (
	"context"
	"sync"

	"regsweep/inventory"
	"regsweep/storage"
)

// Ahead reads manifests while the repositories are still being listed. So on a slow storage the time of
// the listing is not added to the time of the reading. The function Read uses the results.
//
// Ahead drops a manifest that is missing or that was not listed: it may be pushed meanwhile. The
// function Read reads it again.
type Ahead struct {
	reader storage.Reader
	large  chan struct{}

	mu      sync.Mutex
	builder *builder // nil if nothing was read
	count   int
}

// NewAhead returns an Ahead for one inventory.
func NewAhead(reader storage.Reader) *Ahead {
	return &Ahead{reader: reader, large: newLargeSlots()}
}

// Read reads the manifest in a stored blob. It is a function for inventory.Options.OnRevision. The error
// is an error of the storage. Read may be called concurrently.
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

// take returns the builder with the manifests that were read for an inventory, and their number.
func (a *Ahead) take(inv *inventory.Inventory) (*builder, int) {
	if a == nil {
		return newBuilder(inv), 0
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.builder == nil || a.builder.graph.inv != inv { // the ids belong to another inventory
		return newBuilder(inv), 0
	}
	builder, count := a.builder, a.count
	a.builder, a.count = nil, 0
	return builder, count
}
