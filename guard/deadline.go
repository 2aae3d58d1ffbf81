package guard

import (
	"context"
	"errors"
	"time"

	"regsweep/storage"
)

// ErrTimeUp is the cause with which a run is cancelled at its deadline.
var ErrTimeUp = errors.New("the time is used up")

// Until returns a context that is cancelled with ErrTimeUp at the deadline, or ctx if there is none. stop
// must be called. Until reads both clocks every second, as isWithin does.
func Until(ctx context.Context, deadline time.Time, now func() time.Time) (limited context.Context, stop func()) {
	if deadline.IsZero() {
		return ctx, func() {}
	}
	limited, cancel := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			now := now()
			left := min(deadline.Sub(now), deadline.Round(0).Sub(now.Round(0)))
			if left <= 0 {
				cancel(ErrTimeUp)
				return
			}
			select {
			case <-time.After(min(left, time.Second)):
			case <-limited.Done():
				return
			}
		}
	}()
	return limited, func() {
		cancel(context.Canceled)
		<-ended
	}
}

// NoneAfter returns a context under which no removal begins after the deadline of Until. A batch may have a
// thousand removals, and take minutes on a slow storage. Other than after an interruption, the rest of it
// is left.
func NoneAfter(limited context.Context) context.Context {
	return storage.WithBegin(limited, func() error {
		if cause := context.Cause(limited); errors.Is(cause, ErrTimeUp) {
			return cause
		}
		return nil
	})
}
