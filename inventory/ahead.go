package inventory

import (
	"context"
	"sync"

	"regsweep/storage"

	"golang.org/x/sync/errgroup"
)

// listRepositories lists the repositories, and has revisions visited meanwhile if that
// is wished for. A filesystem's scan has as many calls under way as there may be, and
// does not wait long for any.
func (b *builder) listRepositories(ctx context.Context) error {
	if _, isFast := b.store.(storage.NameScanner); isFast || b.options.OnRevision == nil {
		return b.scan(ctx, storage.RepositoriesDir, b.repositoryVisitor())
	}
	g, ctx := errgroup.WithContext(ctx)
	b.ahead = &ahead{
		group: g, workers: max(1, b.options.Concurrency/2), left: mostAhead, claimed: make([]uint64, (b.inv.Blobs()+63)/64),
		visit: func(id ID) error { return b.options.OnRevision(ctx, b.inv, id) },
	}
	g.Go(func() error {
		defer b.ahead.end()
		return b.scan(ctx, storage.RepositoriesDir, b.repositoryVisitor())
	})
	err := g.Wait()
	b.ahead = nil // and what it remembers
	return err
}

// mostAhead is how many revisions are visited at most. What is learnt of them takes memory
// at a time when a listing of millions takes most, and so many requests keep a server busy
// for longer than the listing of a million keys.
const mostAhead = 1 << 16

// ahead calls Options.OnRevision for what a listing brings, until the listing
// ends.
type ahead struct {
	group   *errgroup.Group
	workers int // at most
	visit   func(ID) error

	mu      sync.Mutex
	left    int      // that may yet be added
	claimed []uint64 // a bit by blob
	queue   []ID
	working int
	ended   bool
}

// add has a stored blob visited that was not before. It does not wait for that.
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
