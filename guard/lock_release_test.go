package guard

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"regsweep/internal/miniotest"
	"regsweep/storage"
	"regsweep/storage/config"
	"regsweep/storage/open"
)

// paused is a fake storage. Its run is suspended immediately before it removes its lock.
type paused struct {
	storage.Store
	meanwhile func()
}

func (p paused) Delete(ctx context.Context, path, version string) error {
	p.meanwhile()
	return p.Store.Delete(ctx, path, version)
}

func (p paused) Remove(ctx context.Context, refs []storage.Ref) []storage.Outcome {
	p.meanwhile()
	return p.Store.Remove(ctx, refs)
}

// A run is suspended while it releases its lock, and then finds the lock of the next run. That run
// has taken the lock over, or made its own after somebody removed the old one.
func TestPromise4ARunReleasesOnlyItsOwnLock(t *testing.T) {
	const successor = `{"token":"y","host":"two","pid":7,"user":"root","command":"regsweep gc"}`
	test := func(t *testing.T, config config.Config) {
		store, err := open.Store(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		for name, meanwhile := range map[string]func(version string) error{
			"taken over": func(version string) error {
				_, err := store.Replace(t.Context(), LockPath, []byte(successor), version)
				return err
			},
			"made anew": func(version string) error {
				if err := store.Delete(t.Context(), LockPath, version); err != nil {
					return err
				}
				_, err := store.Create(t.Context(), LockPath, []byte(successor))
				return err
			},
		} {
			var held *Held
			_, held = mustLock(t, paused{store, func() {
				if err := meanwhile(held.version); err != nil {
					t.Error(err)
				}
			}}, run("one"))
			if err := held.Release(t.Context()); !errors.Is(err, ErrLockLost) || !strings.Contains(err.Error(), "two (process 7)") {
				t.Errorf("%s: released: %v", name, err)
			}
			content, version, err := store.Version(t.Context(), LockPath)
			if err != nil || string(content) != successor {
				t.Errorf("%s: the successor's lock is %q, %v", name, content, err)
			}
			if err := store.Delete(t.Context(), LockPath, version); err != nil {
				t.Error(err)
			}
		}
	}
	t.Run("filesystem", func(t *testing.T) {
		root, _ := content(t)
		test(t, config.Config{Driver: "filesystem", Parameters: config.Parameters{"rootdirectory": root}})
	})
	t.Run("s3", func(t *testing.T) {
		minio := miniotest.SharedMinIO(t)
		test(t, config.Config{Driver: "s3", Parameters: config.Parameters(minio.Parameters(minio.NewBucketT(t), "/team"))})
	})
}

// A server may ignore the condition of a removal. So a run that was suspended for longer than its
// lock lasts sends no removal: the lock may belong to another run.
func TestPromise4AReleaseThatComesTooLateRemovesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := false
		store := &leased{memory: &memory{}, onDelete: func(may error) { asked = errors.Is(may, ErrLockLost) }}
		_, held := mustLock(t, store, run("one"))
		store.breaks(func(_ context.Context, op string) error {
			if op == "remove" {
				time.Sleep(75 * time.Second)
			}
			return nil
		})
		if err := held.Release(t.Context()); err == nil || !asked || store.content == nil {
			t.Errorf("released: %v, the lease was lost: %t, the lock is %q", err, asked, store.content)
		}
	})
}

// leased is a memory that checks the lease immediately before it removes, as a bucket does.
type leased struct {
	*memory
	onDelete func(may error)
}

func (l *leased) Delete(ctx context.Context, path, version string) error {
	if err := l.before(ctx, "remove"); err != nil {
		return err
	}
	may := storage.MayRemove(ctx)
	l.onDelete(may)
	if may != nil {
		return may
	}
	return l.memory.Delete(ctx, path, version)
}

// Nobody holds an empty lock: its writer died before it wrote the content. A writer that is about
// to write has a second to do so.
func TestAnEmptyLockHasNoHolder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &memory{content: []byte{}}
		o := run("two")
		o.OnWait = func(other Holder, wait time.Duration) { t.Errorf("asked to wait %s for %+v", wait, other) }
		begun := time.Now()
		_, held := mustLock(t, store, o)
		if waited := time.Since(begun); waited != time.Second {
			t.Errorf("taken over after %s", waited)
		}
		mustRelease(t, held)

		// The writer writes within that second.
		store = &memory{content: []byte{}}
		go func() {
			time.Sleep(500 * time.Millisecond)
			store.set([]byte(`{"token":"y","host":"three"}`))
		}()
		var refused *HeldError
		if _, _, err := Lock(t.Context(), store, o); !errors.As(err, &refused) || refused.Holder.Host != "three" {
			t.Errorf("a lock that is being written: %v", err)
		}
	})
}
