package mark

import (
	"context"
	"sync"

	"regsweep/inventory"
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
	inv  *inventory.Inventory // whose ids all below are; nil if nothing was read
	done readings
}

// readings are manifests that were read, and what they lead to.
type readings struct {
	nodes             map[inventory.ID]*node
	count             int
	children, perhaps []inventory.ID
}

// NewAhead makes an Ahead that has read nothing. It is for one inventory.
func NewAhead(reader storage.Reader) *Ahead {
	return &Ahead{reader: reader, large: roomForLarge()}
}

// Read reads the manifest that is a stored blob, and is what
// inventory.Options.OnRevision takes. Its error is the storage's. It may be called
// concurrently.
func (a *Ahead) Read(ctx context.Context, inv *inventory.Inventory, id inventory.ID) error {
	f, err := reading{inv, a.reader, a.large}.read(ctx, id)
	if err != nil || f.node.state == missing || f.unlisted {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.inv = inv
	if a.done.nodes == nil {
		a.done.nodes = map[inventory.ID]*node{}
	}
	a.done.nodes[id] = f.node
	a.done.count++
	a.done.children, a.done.perhaps = f.leadsTo(a.done.children, a.done.perhaps)
	return nil
}

// take hands over what was read for an inventory.
func (a *Ahead) take(inv *inventory.Inventory) readings {
	if a == nil {
		return readings{}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.inv != inv {
		return readings{} // its ids stand for other digests
	}
	done := a.done
	a.inv, a.done = nil, readings{}
	return done
}
