package guard

import (
	"errors"
	"testing"
	"time"
	"unsafe"

	"regsweep/storage"
)

// asOfSuspended returns a time as a machine sees it after a suspension during which the monotonic
// clock stood still: its monotonic part is later than its wall clock part. Such a time can only be
// made through the layout of a time.Time.
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

// The monotonic clock may stand still while a machine is suspended. Then the wall clock shows that
// the lock and the proof are old.
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
	_ = held.Release(t.Context()) // this fails, since the lock counts as lost
}
