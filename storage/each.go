package storage

import (
	"context"
	"sync"
	"sync/atomic"
)

// Each calls f for each of 0 to n-1, up to limit of them at once (or one), and returns the
// first error after all calls have returned: of f, or ctx's. After an error none is begun, and
// the context of those under way is done.
//
// A goroutine takes one after the other. To start one for each costs more than f does, where
// that is a look at a file.
func Each(ctx context.Context, n, limit int, f func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var first error
	var once sync.Once
	fail := func(err error) { once.Do(func() { first = err; cancel() }) }
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(max(limit, 1), n) {
		workers.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				err := ctx.Err()
				if err == nil {
					err = f(ctx, i)
				}
				if err != nil {
					fail(err)
					return
				}
			}
		})
	}
	workers.Wait()
	return first
}
