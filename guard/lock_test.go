package guard

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"regsweep/internal/miniotest"
	"regsweep/storage"
	"regsweep/storage/config"
	"regsweep/storage/open"
)

// memory is a fake storage. The tests of the lock use a fake clock, and a real storage has a real
// one. TestLockOnRealStorages tests real storages.
type memory struct {
	mu      sync.Mutex
	content []byte // nil if there is no lock
	version int

	// fault, if it is set, is called before each call.
	fault func(ctx context.Context, op string) error
	// forget, if it is set, makes a write succeed and its answer be lost. The condition of the
	// storage's own retry then does not hold.
	forget func(op string) bool
}

func (m *memory) before(ctx context.Context, op string) error {
	m.mu.Lock()
	fault := m.fault
	m.mu.Unlock()
	if fault != nil {
		if err := fault(ctx, op); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (m *memory) put(op string, content []byte, refused error) (string, error) {
	m.version++
	m.content = bytes.Clone(content)
	if m.forget != nil && m.forget(op) {
		return "", refused
	}
	return fmt.Sprint(m.version), nil
}

func (m *memory) Create(ctx context.Context, path string, content []byte) (string, error) {
	if err := m.before(ctx, "create"); err != nil {
		return "", err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.content != nil {
		return "", fmt.Errorf("create %s: %w", path, fs.ErrExist)
	}
	return m.put("create", content, fs.ErrExist)
}

func (m *memory) Version(ctx context.Context, path string) ([]byte, string, error) {
	if err := m.before(ctx, "version"); err != nil {
		return nil, "", err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.content == nil {
		return nil, "", fmt.Errorf("read %s: %w", path, fs.ErrNotExist)
	}
	return m.content, fmt.Sprint(m.version), nil
}

func (m *memory) Replace(ctx context.Context, path string, content []byte, version string) (string, error) {
	if err := m.before(ctx, "replace"); err != nil {
		return "", err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.content == nil || fmt.Sprint(m.version) != version {
		return "", fmt.Errorf("replace %s: %w", path, storage.ErrLost)
	}
	return m.put("replace", content, storage.ErrLost)
}

func (m *memory) Delete(ctx context.Context, path, version string) error {
	if err := m.before(ctx, "remove"); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.content == nil || fmt.Sprint(m.version) != version {
		return fmt.Errorf("remove %s: %w", path, storage.ErrLost)
	}
	m.content = nil
	return nil
}

// set writes the lock without any condition.
func (m *memory) set(content []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.content = content
	m.version++
}

func (m *memory) breaks(fault func(ctx context.Context, op string) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fault = fault
}

func (m *memory) holder(t *testing.T) (h Holder) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.content == nil {
		return Holder{}
	}
	if err := json.Unmarshal(m.content, &h); err != nil {
		t.Error(err)
	}
	return h
}

// run are the lock options of a run on a host.
func run(host string) LockOptions {
	return LockOptions{Host: host, PID: 42, User: "root", Command: "regsweep gc", Now: time.Now, Random: rand.Reader}
}

func mustLock(t *testing.T, store storage.Locker, o LockOptions) (context.Context, *Held) {
	t.Helper()
	ctx, held, err := Lock(t.Context(), store, o)
	if err != nil {
		t.Fatal(err)
	}
	return ctx, held
}

func mustRelease(t *testing.T, held *Held) {
	t.Helper()
	if err := held.Release(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
}

func TestOneRunAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &memory{}
		first, held := mustLock(t, store, run("one"))
		since := time.Now()
		time.Sleep(time.Hour)

		asked := time.Now()
		_, _, err := Lock(t.Context(), store, run("two"))
		var refused *HeldError
		if !errors.As(err, &refused) || refused.Holder.Host != "one" {
			t.Fatalf("a second run: %v", err)
		}
		for _, want := range []string{"one", "regsweep gc", "root", "42", since.UTC().Format(time.RFC3339)} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("want %q in %q", want, err)
			}
		}
		// A live holder is noticed within one refresh, and not only after Stale.
		if waited := time.Since(asked); waited > 10*time.Second {
			t.Errorf("it took %s to tell", waited)
		}
		if first.Err() != nil {
			t.Errorf("the first run lost its lock: %v", context.Cause(first))
		}
		mustRelease(t, held)
		if first.Err() == nil {
			t.Error("the context outlives the lock")
		}
		_, held = mustLock(t, store, run("two"))
		mustRelease(t, held)
		if store.content != nil {
			t.Errorf("a lock is left: %s", store.content)
		}
	})
}

func TestALockLeftBehindIsTakenOver(t *testing.T) {
	for name, left := range map[string]string{
		"of a killed run":  `{"token":"x","host":"gone","pid":1,"user":"root","command":"regsweep gc","started":"2026-01-01T00:00:00Z","refreshed":"2026-01-01T00:00:00Z"}`,
		"from the future":  `{"token":"x","host":"gone","refreshed":"2999-01-01T00:00:00Z"}`,
		"of no known make": "occupied",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := &memory{content: []byte(left)}
				calls := 0
				o := run("two")
				o.OnWait = func(other Holder, wait time.Duration) {
					calls++
					if wait != time.Minute || left[0] == '{' && other.Host != "gone" {
						t.Errorf("asked to wait %s for %+v", wait, other)
					}
				}
				begun := time.Now()
				ctx, held := mustLock(t, store, o)
				if waited := time.Since(begun); waited != time.Minute {
					t.Errorf("taken over after %s, want a minute", waited)
				}
				if got := store.holder(t); got.Host != "two" || calls != 1 {
					t.Errorf("the lock is %+v, reported %d times", got, calls)
				}
				time.Sleep(10 * time.Minute)
				if ctx.Err() != nil {
					t.Errorf("lost again: %v", context.Cause(ctx))
				}
				mustRelease(t, held)
			})
		})
	}
}

// The clocks of machines differ. A holder whose clock is slow, fast or stuck counts as alive.
func TestALiveLockIsNotTakenWhateverTheClocksSay(t *testing.T) {
	for name, clock := range map[string]func() time.Time{
		"a day behind": func() time.Time { return time.Now().Add(-24 * time.Hour) },
		"a day ahead":  func() time.Time { return time.Now().Add(24 * time.Hour) },
		"stuck":        func() time.Time { return time.Unix(0, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				// The versions of this storage are hashes, as in S3.
				store := hashing{&memory{}}
				o := run("one")
				o.Now = clock
				ctx, held := mustLock(t, store, o)
				for range 5 {
					time.Sleep(17 * time.Second)
					var refused *HeldError
					if _, _, err := Lock(t.Context(), store, run("two")); !errors.As(err, &refused) {
						t.Fatalf("a second run: %v", err)
					}
				}
				if ctx.Err() != nil {
					t.Errorf("lost: %v", context.Cause(ctx))
				}
				mustRelease(t, held)
			})
		})
	}
}

// hashing is a fake storage whose versions are hashes of the content.
type hashing struct{ *memory }

func (h hashing) Version(ctx context.Context, path string) ([]byte, string, error) {
	content, _, err := h.memory.Version(ctx, path)
	return content, string(content), err
}

func (h hashing) Create(ctx context.Context, path string, content []byte) (string, error) {
	_, err := h.memory.Create(ctx, path, content)
	return string(content), err
}

func (h hashing) Replace(ctx context.Context, path string, content []byte, version string) (string, error) {
	h.mu.Lock()
	now, number := string(h.content), fmt.Sprint(h.version)
	h.mu.Unlock()
	if now != version {
		return "", fmt.Errorf("replace %s: %w", path, storage.ErrLost)
	}
	_, err := h.memory.Replace(ctx, path, content, number)
	return string(content), err
}

func (h hashing) Delete(ctx context.Context, path, version string) error {
	h.mu.Lock()
	now, number := string(h.content), fmt.Sprint(h.version)
	h.mu.Unlock()
	if now != version {
		return fmt.Errorf("remove %s: %w", path, storage.ErrLost)
	}
	return h.memory.Delete(ctx, path, number)
}

func TestALockThatIsTakenAwayEndsTheRun(t *testing.T) {
	for name, content := range map[string][]byte{
		"removed":           nil,
		"of somebody else":  []byte(`{"token":"y","host":"three"}`),
		"no longer a lock":  []byte("broken"),
		"same, but not his": []byte(`{"token":"","host":"one"}`),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := &memory{}
				ctx, held := mustLock(t, store, run("one"))
				time.Sleep(7 * time.Second)
				store.set(content)
				taken := time.Now()
				<-ctx.Done()
				if cause := context.Cause(ctx); !errors.Is(cause, ErrLockLost) {
					t.Errorf("the cause is %v", cause)
				}
				if took := time.Since(taken); took > 5*time.Second {
					t.Errorf("noticed after %s", took)
				}
				if err := held.Release(t.Context()); !errors.Is(err, ErrLockLost) {
					t.Errorf("release: %v", err)
				}
				if !bytes.Equal(store.content, content) {
					t.Errorf("another's lock %q was changed to %q", content, store.content)
				}
			})
		})
	}
}

// A holder that can't refresh must have stopped before anybody may take over.
func TestAHolderThatCannotRefreshStopsBeforeItIsReplaced(t *testing.T) {
	for name, fault := range map[string]func(context.Context, string) error{
		"errors": func(context.Context, string) error { return errors.New("503 SlowDown") },
		"hangs": func(ctx context.Context, _ string) error {
			<-ctx.Done()
			return ctx.Err()
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := &memory{}
				ctx, held := mustLock(t, store, run("one"))
				time.Sleep(12 * time.Second) // refreshed at 10 s
				store.breaks(fault)
				cut := time.Now()
				<-ctx.Done()
				if cause := context.Cause(ctx); !errors.Is(cause, ErrLockLost) {
					t.Errorf("the cause is %v", cause)
				}
				stopped := time.Since(cut)
				if stopped != 38*time.Second {
					t.Errorf("stopped %s after the storage did, want 40 s after the last refresh", stopped)
				}
				store.breaks(nil)
				_, second := mustLock(t, store, run("two"))
				if err := held.Release(t.Context()); !errors.Is(err, ErrLockLost) {
					t.Errorf("release: %v", err)
				}
				mustRelease(t, second)
			})
		})
	}
}

func TestAShortFaultLosesNoLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &memory{}
		ctx, held := mustLock(t, store, run("one"))
		for range 5 {
			time.Sleep(10 * time.Second)
			store.breaks(func(context.Context, string) error { return errors.New("reset by peer") })
			time.Sleep(30 * time.Second)
			store.breaks(nil)
		}
		if ctx.Err() != nil {
			t.Errorf("lost: %v", context.Cause(ctx))
		}
		mustRelease(t, held)
	})
}

func TestOfManyTakersOneWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &memory{content: []byte(`{"token":"x","host":"gone"}`)}
		var wait sync.WaitGroup
		var mu sync.Mutex
		var winners []*Held
		for i := range 20 {
			wait.Go(func() {
				_, held, err := Lock(t.Context(), store, run(fmt.Sprint(i)))
				var refused *HeldError
				switch {
				case err == nil:
					mu.Lock()
					winners = append(winners, held)
					mu.Unlock()
				case !errors.As(err, &refused):
					t.Error(err)
				}
			})
		}
		wait.Wait()
		if len(winners) != 1 {
			t.Fatalf("%d runs have the lock", len(winners))
		}
		mustRelease(t, winners[0])
	})
}

// If an answer is lost, the storage's retry finds its own write, and reports that somebody
// else was faster. The lock still belongs to this run.
func TestALostAnswerIsNoLostLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &memory{forget: func(string) bool { return true }}
		begun := time.Now()
		ctx, held := mustLock(t, store, run("one"))
		if waited := time.Since(begun); waited != 0 {
			t.Errorf("waited %s for itself", waited)
		}
		time.Sleep(10 * time.Minute)
		if ctx.Err() != nil {
			t.Errorf("lost: %v", context.Cause(ctx))
		}
		mustRelease(t, held)
	})
}

func TestWaitingForALockCanBeInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		left := []byte(`{"token":"x","host":"gone"}`)
		store := &memory{content: left}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		_, _, err := Lock(ctx, store, run("two"))
		if !errors.Is(err, context.DeadlineExceeded) || !bytes.Equal(store.content, left) {
			t.Errorf("got %v, and the lock is %s", err, store.content)
		}
	})
}

func TestTheLockOutlivesTheInterruptionOfItsRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &memory{}
		parent, cancel := context.WithCancel(t.Context())
		ctx, held, err := Lock(parent, store, run("one"))
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		<-ctx.Done()
		time.Sleep(5 * time.Minute) // a removal that is under way may take long
		var refused *HeldError
		if _, _, err := Lock(t.Context(), store, run("two")); !errors.As(err, &refused) {
			t.Errorf("a second run: %v", err)
		}
		mustRelease(t, held)
	})
}

// lagging is a fake storage that performs each replacement some time after the request, even
// if the caller has given up.
type lagging struct{ *memory }

func (l lagging) Replace(ctx context.Context, path string, content []byte, version string) (string, error) {
	type result struct {
		version string
		err     error
	}
	done := make(chan result, 1)
	go func() {
		time.Sleep(8 * time.Second)
		version, err := l.memory.Replace(context.WithoutCancel(ctx), path, content, version)
		done <- result{version, err}
	}()
	select {
	case r := <-done:
		return r.version, r.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// A write that is under way when the lock is released must not overwrite the lock of the next run.
func TestReleaseWaitsForTheWriteUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, held := mustLock(t, lagging{&memory{}}, run("one"))
		time.Sleep(6 * time.Second) // a refresh is under way since 5 s
		begun := time.Now()
		mustRelease(t, held)
		if waited := time.Since(begun); waited != 7*time.Second {
			t.Errorf("waited %s, want 7 s", waited)
		}

		// A release whose context is done stops waiting.
		store := &memory{}
		_, held = mustLock(t, lagging{store}, run("one"))
		time.Sleep(6 * time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begun = time.Now()
		if err := held.Release(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("release: %v", err)
		}
		if waited := time.Since(begun); waited != time.Second {
			t.Errorf("waited %s, want 1 s", waited)
		}
		time.Sleep(time.Minute)
	})
}

func TestATakerThatComesSecondIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &memory{content: []byte(`{"token":"x","host":"gone"}`)}
		store.breaks(func(_ context.Context, op string) error {
			if op == "replace" {
				store.set([]byte(`{"token":"y","host":"three"}`))
			}
			return nil
		})
		var refused *HeldError
		if _, _, err := Lock(t.Context(), store, run("two")); !errors.As(err, &refused) {
			t.Errorf("got %v", err)
		}
		if got := store.holder(t); got.Host != "three" {
			t.Errorf("the lock of three is now %+v", got)
		}
	})
}

func TestAStorageThatCannotLockSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		denied := errors.New("access denied")
		store := &memory{fault: func(context.Context, string) error { return denied }}
		if _, _, err := Lock(t.Context(), store, run("one")); !errors.Is(err, denied) || !strings.Contains(err.Error(), LockPath) {
			t.Errorf("got %v", err)
		}
		store = &memory{}
		_, held := mustLock(t, store, run("one"))
		store.breaks(func(_ context.Context, op string) error {
			if op == "remove" {
				return denied
			}
			return nil
		})
		if err := held.Release(t.Context()); !errors.Is(err, denied) {
			t.Errorf("release: %v", err)
		}
	})
}

func TestLockOnRealStorages(t *testing.T) {
	t.Run("filesystem", func(t *testing.T) {
		root, _ := content(t)
		lockOnRealStorage(t, config.Config{Driver: "filesystem", Parameters: config.Parameters{"rootdirectory": root}})
	})
	t.Run("filesystem that nobody has pushed to", func(t *testing.T) {
		lockOnRealStorage(t, config.Config{Driver: "filesystem", Parameters: config.Parameters{"rootdirectory": t.TempDir()}})
	})
	t.Run("s3", func(t *testing.T) {
		minio := miniotest.SharedMinIO(t)
		lockOnRealStorage(t, config.Config{Driver: "s3", Parameters: config.Parameters(minio.Parameters(minio.NewBucketT(t), "/team"))})
	})
}

func lockOnRealStorage(t *testing.T, config config.Config) {
	t.Parallel() // they mostly wait
	quick := func(host string) LockOptions {
		o := run(host)
		o.Refresh, o.Stale = 100*time.Millisecond, 5*time.Second
		return o
	}
	open := func() storage.Store { // each process has a store of its own
		t.Helper()
		store, err := open.Store(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		return store
	}
	var refused *HeldError

	ctx, held := mustLock(t, open(), quick("one"))
	if _, _, err := Lock(t.Context(), open(), quick("two")); !errors.As(err, &refused) || refused.Holder.Host != "one" {
		t.Errorf("a second run: %v", err)
	}
	time.Sleep(3 * time.Second)
	if ctx.Err() != nil {
		t.Errorf("lost: %v", context.Cause(ctx))
	}
	mustRelease(t, held)
	if _, _, err := open().Version(t.Context(), LockPath); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after the release: %v", err)
	}

	// A killed run has left its lock, and several runs find it.
	if _, err := open().Create(t.Context(), LockPath, []byte(`{"token":"x","host":"gone"}`)); err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	var mu sync.Mutex
	var winners []*Held
	for i := range 4 {
		store := open()
		wait.Go(func() {
			_, held, err := Lock(t.Context(), store, quick(fmt.Sprint(i)))
			var refused *HeldError
			if err == nil {
				mu.Lock()
				winners = append(winners, held)
				mu.Unlock()
			} else if !errors.As(err, &refused) {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if len(winners) != 1 {
		t.Fatalf("%d runs have the lock", len(winners))
	}

	// Somebody removes the lock by hand.
	store := open()
	if outcome := store.Remove(t.Context(), []storage.Ref{{Path: LockPath}}); outcome[0].Err != nil {
		t.Fatal(outcome[0].Err)
	}
	if err := winners[0].Release(t.Context()); !errors.Is(err, ErrLockLost) {
		t.Errorf("release: %v", err)
	}
}
