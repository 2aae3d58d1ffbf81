package mark

import (
	"context"
	"sync"

	"regsweep/storage"
)

// Ahead reads manifests while names are still being listed, so that a storage far away is
// not waited for twice. Run goes on with what it has read.
//
// A manifest that is missing is left to Run, which keeps nothing of it: what was pushed
// meanwhile may have brought it.
type Ahead struct {
	reader storage.Reader
	large  chan struct{}

	mu    sync.Mutex
	found []found
}

// NewAhead makes an Ahead that has read nothing.
func NewAhead(reader storage.Reader) *Ahead {
	return &Ahead{reader: reader, large: roomForLarge()}
}

// Read reads a manifest, and is what storage.InventoryOptions.OnRevision takes. Its error
// is the storage's. It may be called concurrently.
func (a *Ahead) Read(ctx context.Context, inv *storage.Inventory, id storage.ID) error {
	f, err := reading{inv, a.reader, a.large}.read(ctx, id)
	if err != nil || f.node.state == missing {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.found = append(a.found, f)
	return nil
}

// take hands over what was read.
func (a *Ahead) take() []found {
	if a == nil {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	all := a.found
	a.found = nil
	return all
}
