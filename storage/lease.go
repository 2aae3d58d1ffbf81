package storage

import "context"

type leaseKey struct{}

// WithLease returns a context under which every removal asks first whether it may still
// be made: immediately before the call that makes it, after all waiting, and also where
// the context was detached from its parent so that a batch is seen through to its end.
//
// That a context is cancelled is only known once another goroutine has found out and
// had its turn. may looks for itself, so that a process which was suspended for an hour
// removes nothing after it, whatever runs first. It is called from many goroutines, for
// every object on a filesystem and every request to S3.
func WithLease(ctx context.Context, may func() error) context.Context {
	return context.WithValue(ctx, leaseKey{}, may)
}

// mayRemove is the answer of the lease that ctx has, or nil.
func mayRemove(ctx context.Context) error {
	if may, ok := ctx.Value(leaseKey{}).(func() error); ok {
		return may()
	}
	return nil
}
