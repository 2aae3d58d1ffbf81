package storage

import (
	"context"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// Each calls f for each of 0 to n-1, up to limit of them at once (or one), and returns the
// first error after all calls have returned: of f, or ctx's. After an error none is begun, and
// the context of those under way is done.
//
// A goroutine takes one after the other. To start one for each costs more than f does, where
// that is a look at a file.
func Each(ctx context.Context, n, limit int, f func(ctx context.Context, i int) error) error {
	g, ctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	for range min(max(limit, 1), n) {
		g.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return nil
				}
				if err := ctx.Err(); err != nil {
					return err
				}
				if err := f(ctx, i); err != nil {
					return err
				}
			}
		})
	}
	return g.Wait()
}
