package storage

import (
	"context"
	"errors"
)

type leaseKey struct{}

// ErrNotBegun matches the outcome of a removal, or of a Mover.Put, that was not begun because its
// lease has ended. The outcome also wraps the error of the lease.
var ErrNotBegun = errors.New("not begun")

type notBegun struct{ error }

func (e notBegun) Unwrap() error        { return e.error }
func (e notBegun) Is(target error) bool { return target == ErrNotBegun }

// WithLease returns a context under which every removal and every Mover.Put first calls may. The
// removal is made only if may returns nil. may is called after all other waiting, immediately before the call
// that removes. It is also called where the context was detached from its parent so that a batch
// can end. may can wait for the lease to be renewed, until its own context is done. If ctx
// already has a lease, a removal needs both leases.
//
// A cancelled context alone is not enough: another goroutine has to find the reason
// first and cancel it. may reads the clock itself, so a process that was suspended for an
// hour removes nothing when it wakes. Many goroutines call may, for every file on a
// filesystem and for every request to S3.
func WithLease(ctx context.Context, may func(context.Context) error) context.Context {
	outer, both := leaseOf(ctx), may
	if outer != nil {
		both = func(ctx context.Context) error {
			if err := may(ctx); err != nil {
				return err
			}
			return outer(ctx)
		}
	}
	return context.WithValue(ctx, leaseKey{}, both)
}

func leaseOf(ctx context.Context) func(context.Context) error {
	may, _ := ctx.Value(leaseKey{}).(func(context.Context) error)
	return may
}

// MayRemove returns nil if the lease of ctx allows a removal now, or if ctx has no lease.
func MayRemove(ctx context.Context) error {
	if may := leaseOf(ctx); may != nil {
		if err := may(ctx); err != nil {
			return notBegun{err}
		}
	}
	return nil
}

// MayRemoveNow reports whether the lease of ctx allows a removal now. It does not wait for the lease.
func MayRemoveNow(ctx context.Context) bool {
	may := leaseOf(ctx)
	return may == nil || may(noWait) == nil
}

type beginKey struct{}

// WithBegin returns a context under which a removal or a move begins only if may returns nil. Other than a
// lease, may is called once for each object, before the removal waits for anything. What has begun is
// completed: the directory of a file is removed too, and the original of a copy.
func WithBegin(ctx context.Context, may func() error) context.Context {
	return context.WithValue(ctx, beginKey{}, may)
}

// MayBegin returns nil if the removal of an object may begin under ctx.
func MayBegin(ctx context.Context) error {
	if may, _ := ctx.Value(beginKey{}).(func() error); may != nil {
		if err := may(); err != nil {
			return notBegun{err}
		}
	}
	return nil
}

// Begun returns a context for the rest of a removal that has begun.
func Begun(ctx context.Context) context.Context {
	return WithBegin(ctx, nil)
}

// noWait is a context that is done. A lease that would have to wait for it returns an error at once.
var noWait = func() context.Context {
	done, cancel := context.WithCancel(context.Background())
	cancel()
	return done
}()
