package storage

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Each calls f once for every number, and runs as many calls at once as its limit allows.
func TestEach(t *testing.T) {
	for _, c := range []struct{ n, limit, atOnce int }{{0, 4, 0}, {1, 4, 1}, {4, 4, 4}, {50, 4, 4}, {50, 1, 1}, {3, 100, 3}, {3, 0, 1}} {
		synctest.Test(t, func(t *testing.T) {
			calls := make([]atomic.Int32, c.n)
			var now, most atomic.Int32
			err := Each(t.Context(), c.n, c.limit, func(_ context.Context, i int) error {
				calls[i].Add(1)
				most.Store(max(most.Load(), now.Add(1)))
				time.Sleep(time.Second) // until all others wait too
				now.Add(-1)
				return nil
			})
			if err != nil || int(most.Load()) != c.atOnce {
				t.Errorf("%d calls, %d at once: %v, %d at once", c.n, c.limit, err, most.Load())
			}
			for i := range calls {
				if got := calls[i].Load(); got != 1 {
					t.Errorf("%d calls: number %d was passed %d times", c.n, i, got)
				}
			}
		})
	}
}

// After an error no call begins, and the running calls are cancelled.
func TestEachEndsWithAnError(t *testing.T) {
	for name, end := range map[string]func(cancel func()) error{
		"of a call":  func(func()) error { return errors.New("failed") },
		"of the ctx": func(cancel func()) error { cancel(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				var begun, cancelled atomic.Int32
				err := Each(ctx, 1000, 4, func(ctx context.Context, i int) error {
					begun.Add(1)
					if i == 10 {
						return end(cancel)
					}
					select {
					case <-ctx.Done():
						cancelled.Add(1)
						return ctx.Err()
					case <-time.After(time.Second):
						return nil
					}
				})
				if err == nil || begun.Load() > 12 || cancelled.Load() == 0 { // three rounds of four
					t.Errorf("%v, after %d calls, %d of which were cancelled", err, begun.Load(), cancelled.Load())
				}
			})
		})
	}
}
