package guard

import (
	"errors"
	"testing"
	"time"
	"unsafe"

	"regsweep/storage"
)

// asOfSuspended returns a time as it looks after a suspension that has stopped the monotonic
// clock: by that clock it is later than by the other one. Nothing but the layout of a time.Time
// can be used for it.
func asOfSuspended(t *testing.T, at time.Time, slept time.Duration) time.Time {
	t.Helper()
	wall := at.Round(0)
	at = at.Add(-slept)
	*(*int64)(unsafe.Add(unsafe.Pointer(&at), unsafe.Sizeof(uint64(0)))) += int64(slept)
	if now := time.Now(); at.Round(0) != wall.Add(-slept) || at.Sub(now)-at.Round(0).Sub(now.Round(0)) < slept/2 {
		t.Fatal("the clocks do not differ: time.Time has another layout")
	}
	return at
}

// A machine that was suspended may have stopped the monotonic clock. The other clock shows
// that the lock and the proof are old.
func TestPromise4BothClocksAreRead(t *testing.T) {
	o := run("one")
	o.Refresh = time.Hour
	ctx, held := mustLock(t, &memory{}, o)
	if err := storage.MayRemove(ctx); err != nil {
		t.Fatal(err)
	}
	until := asOfSuspended(t, *held.until.Load(), 10*time.Minute)
	held.until.Store(&until)
	if err := storage.MayRemove(ctx); !errors.Is(err, ErrLockLost) {
		t.Errorf("after a suspension the lock says %v", err)
	}
	if now := time.Now(); !isWithin(ProofAge, now) || isWithin(ProofAge, asOfSuspended(t, now, 10*time.Minute)) {
		t.Error("a proof from before the suspension counts")
	}
	_ = held.Release(t.Context()) // which fails: the lock counts as lost
}
