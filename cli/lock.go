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

// locked does the work while no other run can.
func (r *runner) locked(ctx context.Context, store storage.Locker, command string, progress *progress, work func(context.Context) error) error {
	locked, unlock, err := r.lock(ctx, store, command, progress)
	if err != nil {
		return err
	}
	return unlock(work(locked))
}

// lock keeps other runs away until unlock is called, with the error of the work, which decides how
// the run ends. The context that it returns is done if the lock is lost.
func (r *runner) lock(ctx context.Context, store storage.Locker, command string, progress *progress) (locked context.Context, unlock func(error) error, err error) {
	locked, lock, err := guard.Lock(ctx, store, guard.LockOptions{
		Host: r.env.Host, PID: os.Getpid(), User: r.env.User, Command: "regsweep " + command, Process: guard.ThisProcess(),
		Now: r.env.Now, Random: rand.Reader, Refresh: r.env.LockRefresh, Stale: r.env.LockStale,
		OnWait: func(holder guard.Holder, wait time.Duration) {
			progress.note(fmt.Sprintf("there is a lock of %s on %s, since %s: watching for up to %s whether its holder lives",
				holder.User, holder.Host, holder.Started.UTC().Format(time.RFC3339), wait))
		},
	})
	if err != nil {
		return nil, nil, err
	}
	return locked, func(err error) error {
		err = because(locked, err)
		released := lock.Release(context.WithoutCancel(ctx))
		if err == nil {
			return released
		}
		if released != nil && !errors.Is(err, guard.ErrLockLost) {
			progress.note(released.Error())
		}
		return err
	}, nil
}
