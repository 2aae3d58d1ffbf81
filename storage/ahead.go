package storage

import (
	"context"
	"sync"

	"golang.org/x/sync/errgroup"
)

// listRepositories lists the repositories, and has revisions visited meanwhile if that
// is wished for.
func (b *inventoryBuilder) listRepositories(ctx context.Context) error {
	if b.options.OnRevision == nil {
		return b.scan(ctx, RepositoriesDir, b.visitRepositories, b.visitNamedLinks)
	}
	g, ctx := errgroup.WithContext(ctx)
	b.ahead = &ahead{
		group: g, workers: max(1, b.options.Concurrency/2), claimed: make([]bool, b.inv.Blobs()),
		visit: func(id ID) error { return b.options.OnRevision(ctx, b.inv, id) },
	}
	g.Go(func() error {
		defer b.ahead.end()
		return b.scan(ctx, RepositoriesDir, b.visitRepositories, b.visitNamedLinks)
	})
	return g.Wait()
}

// ahead calls InventoryOptions.OnRevision for what a listing brings, until the listing
// ends.
type ahead struct {
	group   *errgroup.Group
	workers int // at most
	visit   func(ID) error

	mu      sync.Mutex
	claimed []bool // by blob
	queue   []ID
	working int
	ended   bool
}

// add has a blob visited that was not before. It does not wait for that.
func (a *ahead) add(id ID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if int(id) >= len(a.claimed) || a.claimed[id] {
		return
	}
	a.claimed[id] = true
	a.queue = append(a.queue, id)
	if a.working < a.workers {
		a.working++
		a.group.Go(a.work)
	}
}

// work visits what there is until nothing is left.
func (a *ahead) work() error {
	for {
		id, ok := a.next()
		if !ok {
			return nil
		}
		if err := a.visit(id); err != nil {
			return err
		}
	}
}

func (a *ahead) next() (id ID, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ended || len(a.queue) == 0 {
		a.working--
		return 0, false
	}
	last := len(a.queue) - 1
	id, a.queue = a.queue[last], a.queue[:last]
	return id, true
}

// end leaves what has not been begun.
func (a *ahead) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ended = true
}
