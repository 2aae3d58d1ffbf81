package guard_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"regsweep/guard"
	"regsweep/storage"
)

// The run is cancelled at the deadline, with its cause, and no removal may begin after it.
func TestTheDeadlineEndsTheRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		ctx, stop := guard.Until(t.Context(), start.Add(90*time.Minute+time.Millisecond), time.Now)
		defer stop()
		sweep := guard.NoneAfter(ctx)
		time.Sleep(90 * time.Minute)
		if err := errors.Join(ctx.Err(), storage.MayBegin(sweep)); err != nil {
			t.Errorf("before the deadline: %v", err)
		}
		<-ctx.Done()
		if took := time.Since(start); took != 90*time.Minute+time.Millisecond || !errors.Is(context.Cause(ctx), guard.ErrTimeUp) {
			t.Errorf("it ends after %s: %v", took, context.Cause(ctx))
		}
		if err := storage.MayBegin(context.WithoutCancel(sweep)); !errors.Is(err, guard.ErrTimeUp) || !errors.Is(err, storage.ErrNotBegun) {
			t.Errorf("after the deadline a removal may begin: %v", err)
		}
	})
}

// A batch that was sent before an interruption is completed.
func TestAnInterruptionIsNoDeadline(t *testing.T) {
	errInterrupted := errors.New("interrupted")
	interrupted, cancel := context.WithCancelCause(t.Context())
	ctx, stop := guard.Until(interrupted, time.Now().Add(time.Hour), time.Now)
	defer stop()
	cancel(errInterrupted)
	if err := storage.MayBegin(context.WithoutCancel(guard.NoneAfter(ctx))); err != nil || context.Cause(ctx) != errInterrupted {
		t.Errorf("%v, %v", err, context.Cause(ctx))
	}
}

// A machine that was suspended has a monotonic clock that is late. The other clock counts, too.
func TestTheDeadlineComesWhileAMachineIsSuspended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var suspended atomic.Int64
		now := func() time.Time { return time.Now().Round(0).Add(time.Duration(suspended.Load())) }
		ctx, stop := guard.Until(t.Context(), now().Add(6*time.Hour), now)
		defer stop()
		time.Sleep(500 * time.Millisecond)
		suspended.Store(int64(7 * time.Hour))
		time.Sleep(time.Second)
		synctest.Wait()
		if !errors.Is(context.Cause(ctx), guard.ErrTimeUp) {
			t.Error("it goes on")
		}
	})
}
