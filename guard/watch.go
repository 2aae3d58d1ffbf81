package guard

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// The causes for which Watch cancels its context. Both are found with errors.Is in
// what context.Cause returns, which is a *LostError.
var (
	// ErrTurnedWritable: a registry was seen that takes pushes to this storage.
	ErrTurnedWritable = errors.New("the registry turned writable")
	// ErrProofLost: the proof fails for another reason, such as no answer.
	ErrProofLost = errors.New("the proof that nobody can write is lost")
)

// LostError says why Watch cancelled its context.
type LostError struct {
	Verdict Verdict // the verdict that ended it
	err     error
}

func (e *LostError) Error() string {
	if e.Verdict.Reason == "" {
		return e.err.Error()
	}
	return fmt.Sprintf("%v: %s", e.err, e.Verdict.Reason)
}

func (e *LostError) Unwrap() error { return e.err }

// WatchInterval is how often a sweep's proof is repeated (section 6 of the design).
const WatchInterval = 15 * time.Second

// patience is how many verdicts in a row may be unknown before the proof counts as
// lost: one request that times out is no reason to end a sweep of an hour, and a
// registry that does not answer for long is one.
const patience = 3

// Watch repeats the proof of o every interval until stop is called, ctx is done, or the
// proof fails. Then the context that it returns is cancelled, with a *LostError as its
// cause: at once where the verdict says why not, after patience tries, a fifth of the
// interval apart, where it only does not know. stop ends the watch, waits for its
// goroutine, and returns the cause if the proof has failed; it may be called more than
// once. seen, if it is not nil, gets each verdict, in the watch's goroutine.
//
// With Options.Unsafe there is nothing to repeat, and the context lives on.
func Watch(ctx context.Context, o Options, interval time.Duration, seen func(Verdict)) (watched context.Context, stop func() error) {
	watched, cancel := context.WithCancelCause(ctx)
	asking, enough := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := watch(asking, o, interval, seen); err != nil {
			cancel(err)
		}
	}()
	return watched, func() error {
		enough()
		<-done
		cause := context.Cause(watched)
		cancel(context.Canceled)
		if lost := (*LostError)(nil); errors.As(cause, &lost) {
			return lost
		}
		return nil
	}
}

// watch returns nil once ctx is done, and a *LostError where the proof fails.
func watch(ctx context.Context, o Options, interval time.Duration, seen func(Verdict)) error {
	if o.Unsafe {
		return nil
	}
	pause, unknown := interval, 0
	for {
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		v, err := Prove(ctx, o)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return &LostError{err: fmt.Errorf("%w: %w", ErrProofLost, err)}
		}
		if seen != nil {
			seen(v)
		}
		switch {
		case v.MayRemove():
			pause, unknown = interval, 0
			continue
		case v.By == ByWritable:
			return &LostError{Verdict: v, err: ErrTurnedWritable}
		case v.By != ByUnknown:
			return &LostError{Verdict: v, err: ErrProofLost}
		}
		if unknown++; unknown == patience {
			return &LostError{Verdict: v, err: ErrProofLost}
		}
		pause = interval / 5
	}
}
