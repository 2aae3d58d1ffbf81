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

	mu   sync.Mutex
	read ahead
}

// ahead is what was read: so many nodes, and what they lead to.
type ahead struct {
	nodes             nodes
	read              int
	children, perhaps []storage.ID
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
	a.read.nodes.set(id, f.node)
	a.read.read++
	a.read.children = append(a.read.children, f.children...)
	a.read.perhaps = append(a.read.perhaps, f.perhaps...)
	return nil
}

// take hands over what was read.
func (a *Ahead) take() ahead {
	if a == nil {
		return ahead{}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	read := a.read
	a.read = ahead{}
	return read
}
