package inventory

import (
	"context"
	"sync"

	"regsweep/storage"

	"golang.org/x/sync/errgroup"
)

// listRepositories lists the repositories. If Options.OnRevision is set, it calls it for
// revisions meanwhile. It does not do so on a filesystem: the scan of a filesystem already
// makes as many calls at once as it may, and no call takes long.
func (b *builder) listRepositories(ctx context.Context) error {
	if _, isFast := b.store.(storage.NameScanner); isFast || b.options.OnRevision == nil {
		return b.scan(ctx, storage.RepositoriesDir, b.visitRepositories, b.visitNamedLinks)
	}
	g, ctx := errgroup.WithContext(ctx)
	b.ahead = &ahead{
		group: g, workers: max(1, b.options.Concurrency/2), left: mostAhead, claimed: make([]uint64, (b.inv.Blobs()+63)/64),
		visit: func(id ID) error { return b.options.OnRevision(ctx, b.inv, id) },
	}
	g.Go(func() error {
		defer b.ahead.end()
		return b.scan(ctx, storage.RepositoriesDir, b.visitRepositories, b.visitNamedLinks)
	})
	err := g.Wait()
	b.ahead = nil // to free its memory
	return err
}

// mostAhead is the largest number of revisions that are visited during the listing. Their
// results take memory at the time when the listing needs the most memory. This many requests
// also take a server longer than the listing of a million keys.
const mostAhead = 1 << 16

// ahead calls Options.OnRevision for listed revisions, until the listing ends.
type ahead struct {
	group   *errgroup.Group
	workers int // at most
	visit   func(ID) error

	mu      sync.Mutex
	left    int      // how many more may be added
	claimed []uint64 // one bit for each blob, set once the blob was added
	queue   []ID
	working int
	ended   bool
}

// add queues a stored blob, unless it was added before. It does not wait for the visit.
func (a *ahead) add(id ID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	word, bit := id/64, uint64(1)<<(id%64)
	if a.left == 0 || a.claimed[word]&bit != 0 {
		return
	}
	a.left--
	a.claimed[word] |= bit
	a.queue = append(a.queue, id)
	if a.working < a.workers {
		a.working++
		a.group.Go(a.work)
	}
}

// work visits the queued blobs until the queue is empty.
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

// end makes the workers stop. The blobs that are still queued are not visited.
func (a *ahead) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ended = true
}
