package guard

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"regsweep/internal/registrytest"
	"regsweep/storage"
)

const often = 20 * time.Millisecond

// await fails the test if ctx is not done soon.
func await(t *testing.T, ctx context.Context) {
	t.Helper()
	select {
	case <-ctx.Done():
	case <-time.After(20 * time.Second):
		t.Fatal("the context lives on")
	}
}

// watching starts a watch and returns a channel of its verdicts.
func watching(t *testing.T, o Options) (ctx context.Context, stop func() error, verdicts chan Verdict) {
	t.Helper()
	verdicts = make(chan Verdict, 1000)
	ctx, stop = Watch(t.Context(), o, often, func(v Verdict) { verdicts <- v })
	t.Cleanup(func() { _ = stop() }) // the test checks the error of its own call
	return ctx, stop, verdicts
}

func TestPromise4ARegistryThatTurnsWritableEndsTheSweep(t *testing.T) {
	root, samples := content(t)
	registry := registrytest.StartT(t, registrytest.Config{Root: root, ReadOnly: true})
	ctx, stop, verdicts := watching(t, Options{Endpoints: []string{registry.URL()}, Samples: samples})
	for range 3 {
		wantProven(t, <-verdicts, ByReadOnly)
	}
	if ctx.Err() != nil {
		t.Fatalf("ended early: %v", context.Cause(ctx))
	}
	if err := registry.SetReadOnly(false); err != nil {
		t.Fatal(err)
	}
	await(t, ctx)
	var lost *LostError
	if cause := context.Cause(ctx); !errors.Is(cause, ErrTurnedWritable) || !errors.As(cause, &lost) || lost.Verdict.By != ByWritable {
		t.Errorf("the cause is %v", cause)
	}
	if err := leaseOf(ctx)(); !errors.Is(err, ErrTurnedWritable) || !errors.Is(err, storage.ErrNotBegun) {
		t.Errorf("the lease says %v", err)
	}
	for range 2 {
		if err := stop(); !errors.Is(err, ErrTurnedWritable) {
			t.Errorf("stop returns %v", err)
		}
	}
}

func TestPromise4ASweepWithoutProofEnds(t *testing.T) {
	root, samples := content(t)
	registry, err := registrytest.Start(t.Context(), registrytest.Config{Root: root, ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	// Nothing listens any more, and config.yml does not say read-only: the registry may come back
	// writable.
	ctx, stop, verdicts := watching(t, Options{Config: configured(t, registry.Host(), saysNothing), Samples: samples})
	wantProven(t, <-verdicts, ByReadOnly)
	if err := registry.Stop(); err != nil {
		t.Fatal(err)
	}
	await(t, ctx)
	if err := stop(); !errors.Is(err, ErrProofLost) || errors.Is(err, ErrTurnedWritable) {
		t.Errorf("stop returns %v", err)
	}
	unknown := 0
	for close(verdicts); len(verdicts) > 0; {
		if v := <-verdicts; v.State == Refused {
			unknown++
		}
	}
	if unknown != patience {
		t.Errorf("asked %d times without an answer, want %d", unknown, patience)
	}
}

func TestOneHiccupEndsNoSweep(t *testing.T) {
	root, samples := content(t)
	var requests atomic.Int64
	registry := front(t, root, true, func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodHead || requests.Add(1)%3 == 0 {
			return false
		}
		http.Error(w, "busy", http.StatusServiceUnavailable) // two times of three
		return true
	})
	ctx, stop, verdicts := watching(t, Options{Endpoints: []string{registry.URL()}, Samples: samples})
	for proven := 0; proven < 3; {
		select {
		case v := <-verdicts:
			if v.State == Proven {
				proven++
			}
		case <-ctx.Done():
			t.Fatal(context.Cause(ctx))
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// An upload counts as explained while config.yml's own address says read-only. If that address
// is busy for a moment, the sweep waits for it. If it stays busy, the sweep ends.
func TestAHiccupOfTheRegistryThatExplainsAnUpload(t *testing.T) {
	root, samples := content(t)
	named := registrytest.StartT(t, registrytest.Config{Root: root, ReadOnly: true})
	var left atomic.Int64
	own := front(t, root, true, func(w http.ResponseWriter, _ *http.Request) bool {
		busy := left.Add(-1) >= 0
		if busy {
			http.Error(w, "busy", http.StatusServiceUnavailable)
		}
		return busy
	})
	o := Options{Config: configured(t, own.Host(), saysReadOnly), Endpoints: []string{named.URL()}, Samples: samples,
		LastUpload: &Upload{Repository: "app", Touched: time.Now()}}
	o.Config.Changed = o.LastUpload.Touched.Add(time.Second)
	ctx, stop, verdicts := watching(t, o)
	wantProven(t, <-verdicts, ByReadOnly)
	left.Store(4)
	refused := 0
	for v := range verdicts {
		if v.State == Refused {
			wantRefused(t, v, ByRecentUpload)
			refused++
		} else if refused > 0 {
			break
		}
		if ctx.Err() != nil {
			t.Fatal(context.Cause(ctx))
		}
	}
	left.Store(1000)
	await(t, ctx)
	if err := stop(); !errors.Is(err, ErrProofLost) {
		t.Errorf("stop returns %v", err)
	}
}

func TestWatchEndsWhenItIsTold(t *testing.T) {
	parent, cancel := context.WithCancelCause(t.Context())
	ctx, stop := Watch(parent, Options{Stopped: true}, often, nil)
	interrupted := errors.New("interrupted")
	cancel(interrupted)
	await(t, ctx)
	if cause := context.Cause(ctx); cause != interrupted {
		t.Errorf("the cause is %v", cause)
	}
	if err := stop(); err != nil {
		t.Errorf("stop returns %v", err)
	}

	ctx, stop = Watch(t.Context(), Options{Stopped: true}, time.Hour, nil)
	if err := stop(); err != nil {
		t.Errorf("stop returns %v", err)
	}
	if ctx.Err() == nil {
		t.Error("the context outlives the watch")
	}
}

func TestWatchAsksNothingOfTheUnsafe(t *testing.T) {
	ctx, stop := Watch(t.Context(), Options{Unsafe: true}, time.Nanosecond, func(v Verdict) { t.Errorf("asked: %v", v) })
	time.Sleep(often)
	if ctx.Err() != nil {
		t.Error(context.Cause(ctx))
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}
