package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"time"

	"regsweep/guard"
	"regsweep/storage"
)

// locked holds the lock of the storage while work runs.
func (r *runner) locked(ctx context.Context, store storage.Locker, command string, work func(context.Context) error) error {
	locked, unlock, err := r.lock(ctx, store, command)
	if err != nil {
		return err
	}
	return unlock(work(locked))
}

// lock takes the lock of the storage. The context that it returns is cancelled if the lock is lost.
// unlock takes the error of the work and returns the error of the run: the error of the work comes
// first, then an error of the release.
func (r *runner) lock(ctx context.Context, store storage.Locker, command string) (locked context.Context, unlock func(error) error, err error) {
	locked, lock, err := guard.Lock(ctx, store, guard.LockOptions{
		Host: r.env.Host, PID: os.Getpid(), User: r.env.User, Command: "regsweep " + command, Process: guard.ThisProcess(),
		Now: r.env.Now, Random: rand.Reader, Refresh: r.env.LockRefresh, Stale: r.env.LockStale,
		OnWait: func(holder guard.Holder, wait time.Duration) {
			r.progress.Enter("watching the lock of another run")
			r.say(fmt.Sprintf("there is a lock of %s on %s, since %s: watching for up to %s whether its holder lives",
				holder.User, holder.Host, holder.Started.UTC().Format(time.RFC3339), wait))
		},
	})
	if err != nil {
		return nil, nil, err
	}
	return locked, func(err error) error {
		err = withCause(locked, err)
		released := lock.Release(context.WithoutCancel(ctx))
		if err == nil {
			return released
		}
		if released != nil && !errors.Is(err, guard.ErrLockLost) {
			r.say(released.Error())
		}
		return err
	}, nil
}

// lockForRun takes the lock for a run, unless the window around the run holds it.
func (g *gcRun) lockForRun(ctx context.Context) (locked context.Context, unlock func(error) error, err error) {
	if g.window != nil {
		return ctx, func(err error) error { return err }, nil
	}
	return g.lock(ctx, g.store, g.report.Command)
}
