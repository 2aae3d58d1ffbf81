package storage

import (
	"context"
	"sync"
	"sync/atomic"
)

// Each calls f for each number from 0 to n-1. At most limit calls run at once, and at least one.
// Each returns after all calls have returned. Its error is the first one, of f or of ctx. After an
// error it starts no more calls, and cancels the context of the running ones.
//
// Each goroutine makes many calls, because starting a goroutine costs more than a stat does.
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
