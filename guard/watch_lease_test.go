package guard

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"regsweep/storage"
)

// slowly are options whose proof takes as long as delay says: a registry takes half of it for each
// of two answers. The registry and the clock are fakes.
func slowly(delay *atomic.Int64) Options {
	sample := Sample{Repository: "app", Digest: "sha256:" + strings.Repeat("a", 64)}
	answers := map[string]string{
		http.MethodHead: "200 OK\r\nDocker-Content-Digest: " + sample.Digest,
		http.MethodPut:  "405 Method Not Allowed",
	}
	answer := func(conn net.Conn) {
		defer conn.Close()
		request, err := http.ReadRequest(bufio.NewReader(conn))
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, request.Body) // a client that has closed the connection needs no answer
		time.Sleep(time.Duration(delay.Load() / 2))
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 %s\r\nDocker-Distribution-Api-Version: registry/2.0\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", answers[request.Method])
	}
	return Options{Endpoints: []string{"http://192.0.2.2"}, Samples: []Sample{sample},
		Dial: func(context.Context, string, string) (net.Conn, error) {
			client, server := net.Pipe()
			go answer(server)
			return client, nil
		}}
}

// hangUp waits until the goroutines of abandoned connections have ended.
func hangUp() { time.Sleep(time.Hour) }

// leaseOf returns the lease of a removal whose context was detached from its run, as for a batch.
func leaseOf(ctx context.Context) func() error {
	return func() error { return storage.MayRemove(context.WithoutCancel(ctx)) }
}

func TestPromise4ARemovalWaitsForAProofOfTheLastSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var delay atomic.Int64
		begun := time.Now()
		delay.Store(int64(time.Second))
		ctx, stop := Watch(t.Context(), slowly(&delay), WatchInterval, nil)
		may := leaseOf(ctx)
		at := func(want time.Duration) {
			t.Helper()
			if err := may(); err != nil {
				t.Fatal(err)
			}
			if got := time.Since(begun); got != want {
				t.Errorf("it may remove after %s, want %s", got, want)
			}
		}
		at(time.Second) // there is no lease before the first proof of the watch itself
		time.Sleep(4 * time.Second)
		delay.Store(int64(3800 * time.Millisecond))
		// Asked at 4 s, answered at 5 s; asked at 6 s, answered at 9.8 s.
		at(5 * time.Second)
		time.Sleep(3 * time.Second)
		at(8 * time.Second) // a proof that takes as long as the last one would be there since 7 s
		time.Sleep(time.Millisecond)
		at(9800 * time.Millisecond)
		if err := stop(); err != nil {
			t.Error(err)
		}
		hangUp()
	})
}

// A process that was suspended for less than ProofAge waits for a new proof, since the last one is
// from before the suspension. The suspension is a fake: the registry stops answering.
func TestPromise4ARemovalWaitsForAProofThatIsOverdue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var delay atomic.Int64
		begun := time.Now()
		ctx, stop := Watch(t.Context(), slowly(&delay), WatchInterval, nil)
		may := leaseOf(ctx)
		if err := may(); err != nil {
			t.Fatal(err)
		}
		delay.Store(int64(ProofAge - time.Second)) // from 2 s to 6 s
		for _, c := range []struct{ sleep, may time.Duration }{{3 * time.Second, 3 * time.Second}, {time.Millisecond, 6 * time.Second}} {
			time.Sleep(c.sleep)
			if err := may(); err != nil {
				t.Fatal(err)
			}
			if got := time.Since(begun); got != c.may {
				t.Errorf("it may remove after %s, want %s", got, c.may)
			}
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
		hangUp()
	})
}

func TestPromise4AProofThatComesTooLateIsNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var delay atomic.Int64
		ctx, stop := Watch(t.Context(), slowly(&delay), WatchInterval, nil)
		may := leaseOf(ctx)
		if err := may(); err != nil {
			t.Fatal(err)
		}
		// A few slow answers do not end a sweep.
		delay.Store(int64(time.Minute))
		time.Sleep((patience - 2) * ProofAge)
		delay.Store(0)
		if err := may(); err != nil {
			t.Fatal(err)
		}
		delay.Store(int64(time.Minute))
		time.Sleep(ProofAge + time.Millisecond)
		slow := time.Now()
		err := may()
		if !errors.Is(err, ErrProofLost) || !errors.Is(err, storage.ErrNotBegun) {
			t.Errorf("the lease says %v", err)
		}
		if waited := time.Since(slow); waited < ProofAge || waited > patience*ProofAge {
			t.Errorf("it waits for %s", waited)
		}
		if cause := context.Cause(ctx); !errors.Is(cause, ErrProofLost) {
			t.Errorf("the cause is %v", cause)
		}
		if err := stop(); !errors.Is(err, ErrProofLost) || !strings.Contains(err.Error(), "longer than 5s") {
			t.Errorf("stop returns %v", err)
		}
		hangUp()
	})
}

// If the user says that the registry is stopped, its address may drop all packets, and a name
// server may not answer. The removals do not wait for them.
func TestPromise4SilenceOfAStoppedRegistryHoldsNothingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := Options{Stopped: true, Config: configured(t, "192.0.2.1:5000", saysNothing),
			Endpoints: []string{"http://192.0.2.2", "http://registry.example.com"},
			Dial: func(context.Context, string, string) (net.Conn, error) {
				time.Sleep(time.Hour)
				return nil, syscall.ETIMEDOUT
			},
			Lookup: func(ctx context.Context, _ string) ([]string, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}}
		ctx, stop := Watch(t.Context(), o, WatchInterval, nil)
		may := leaseOf(ctx)
		if err := may(); err != nil {
			t.Fatal(err)
		}
		for range 300 {
			begun := time.Now()
			if err := may(); err != nil {
				t.Fatal(err)
			}
			if waited := time.Since(begun); waited > 0 {
				t.Fatalf("it waits for %s", waited)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
		hangUp()
	})
}

// An interrupted run finishes the batches that it has begun, and its proof is repeated meanwhile.
// Once the watch has ended, its lease allows no removal.
func TestPromise4TheProofOutlivesAnInterruption(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parent, cancel := context.WithCancel(t.Context())
		ctx, stop := Watch(parent, Options{Stopped: true}, WatchInterval, nil)
		may := leaseOf(ctx)
		synctest.Wait()
		cancel()
		time.Sleep(time.Minute)
		if err := may(); err != nil {
			t.Errorf("the lease says %v", err)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
		time.Sleep(ProofAge + time.Millisecond)
		if err := may(); !errors.Is(err, storage.ErrNotBegun) {
			t.Errorf("after the watch the lease says %v", err)
		}
	})
}

// The lock and the proof are one lease: each removal needs both.
func TestPromise4ALeaseIsLockAndProof(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &memory{}
		locked, held := mustLock(t, store, run("one"))
		ctx, stop := Watch(locked, Options{Stopped: true}, WatchInterval, nil)
		may := leaseOf(ctx)
		if err := may(); err != nil {
			t.Fatal(err)
		}
		store.set(nil)
		<-locked.Done()
		if err := may(); !errors.Is(err, ErrLockLost) {
			t.Errorf("the lease says %v", err)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
		if err := held.Release(t.Context()); !errors.Is(err, ErrLockLost) {
			t.Errorf("release: %v", err)
		}
	})
}
