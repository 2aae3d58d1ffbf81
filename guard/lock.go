package guard

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync/atomic"
	"time"

	"regsweep/storage"
)

// LockPath is the lock object, below the layout's root. Distribution reads only blobs and
// repositories there.
const LockPath = ".regsweep/lock"

// ErrLockLost is the cause for which Lock's context is cancelled: somebody else has changed
// or removed the lock, or it could not be refreshed in time.
var ErrLockLost = errors.New("the lock is lost")

// Holder is the run that holds the lock. It is the content of the lock object, in JSON.
type Holder struct {
	Token     string    `json:"token"` // random; each run has its own
	Host      string    `json:"host"`
	PID       int       `json:"pid"`
	Process   string    `json:"process,omitempty"` // see ThisProcess
	User      string    `json:"user"`
	Command   string    `json:"command"`
	Started   time.Time `json:"started"`
	Refreshed time.Time `json:"refreshed"`
	// Refreshes makes each refresh differ from the last, even if the clock stands still:
	// the version of an object may be a hash of its content.
	Refreshes int `json:"refreshes"`

	empty bool // the lock object has no content: no run has ever held it
}

// LockOptions describe the run that takes the lock. Host, PID, User and Command are for humans.
type LockOptions struct {
	Host    string
	PID     int
	User    string
	Command string
	// Process is ThisProcess(). If it is "", other runs can't find out from it whether this
	// run has ended.
	Process string

	// Now is the time in the lock, for humans. No decision compares the clocks of two machines.
	Now func() time.Time
	// Random is the source of the token, such as crypto/rand.Reader.
	Random io.Reader
	// Refresh is the time between refreshes. 0 means 5 s.
	Refresh time.Duration
	// Stale is how long a lock must not change before another run takes it over. 0 means
	// 60 s. All runs on one storage must have the same value.
	Stale time.Duration
	// OnWait, if it is not nil, is called once if there is a lock. Finding out whether its
	// holder is alive takes up to the given time.
	OnWait func(Holder, time.Duration)
}

func (o LockOptions) refresh() time.Duration {
	if o.Refresh <= 0 {
		return 5 * time.Second
	}
	return o.Refresh
}

func (o LockOptions) stale() time.Duration {
	if o.Stale <= 0 {
		return 60 * time.Second
	}
	return o.Stale
}

// HeldError means that another run holds the lock and is alive.
type HeldError struct{ Holder Holder }

func (e *HeldError) Error() string {
	h := e.Holder
	if h.Token == "" {
		return "another run holds the lock " + storage.Root + "/" + LockPath
	}
	return fmt.Sprintf("another run holds the lock: %s by %s on %s (process %d), since %s",
		h.Command, h.User, h.Host, h.PID, h.Started.UTC().Format(time.RFC3339))
}

// Held is a lock that is held. Its goroutine refreshes the lock until Release.
type Held struct {
	store   storage.Locker
	options LockOptions
	holder  Holder
	version string             // belongs to the refreshing goroutine until done is closed
	stop    context.CancelFunc // ends the refreshing, after the write that is under way
	abort   context.CancelFunc // ends the write that is under way too
	done    chan struct{}
	cancel  context.CancelCauseFunc
	until   atomic.Pointer[time.Time] // when the lock is lost if it is not refreshed
	lost    atomic.Pointer[error]     // nil while this run has the lock
}

// Lock takes the lock, or returns a *HeldError. The context that it returns is derived from
// ctx. Once the lock is lost, this context is cancelled with ErrLockLost as its cause. All
// removals must use this context.
//
// If the holder of a lock is killed, the lock remains. The times in the lock do not show
// this, since the clocks of two machines may differ by a lot. Instead, a run that wants the
// lock watches it and uses only its own clock. If the lock changes, its holder is alive; this
// takes at most one refresh. If the lock has not changed for Stale, the run replaces exactly
// this version. The holder itself counts the lock as lost if it could not refresh it for two
// thirds of Stale. This time begins before its last successful refresh. So the holder stops
// well before another run takes the lock.
//
// There are two cases in which a run waits for less time. If the holder was a process of
// this host, the run can find out that it has ended (hasEnded). If the lock is empty, its
// writer died before it held the lock. The run then waits for a second, since a writer on
// another host may be about to write.
//
// A holder that was suspended notices that before it removes anything: the context is also
// a lease (storage.WithLease), and every removal first checks the clock. Two gaps remain. A
// goroutine may have passed the check before the suspension, and then makes one more call.
// And if the clock stood still while the machine was suspended, the holder notices the loss
// only with the next refresh.
func Lock(ctx context.Context, store storage.Locker, o LockOptions) (context.Context, *Held, error) {
	token := make([]byte, 16)
	if _, err := io.ReadFull(o.Random, token); err != nil {
		return nil, nil, fmt.Errorf("lock: make a token: %w", err)
	}
	h := &Held{store: store, options: o, done: make(chan struct{}), holder: Holder{
		Token: hex.EncodeToString(token),
		Host:  o.Host, PID: o.PID, Process: o.Process, User: o.User, Command: o.Command,
		Started: o.Now().UTC(),
	}}
	took, err := h.take(ctx)
	if err != nil {
		return nil, nil, err
	}
	h.refreshed(took)
	locked, cancel := context.WithCancelCause(ctx)
	h.cancel = cancel
	// The refreshing goes on after ctx is done: a sweep that is interrupted finishes its batches.
	writing, abort := context.WithCancel(context.WithoutCancel(ctx))
	refreshing, stop := context.WithCancel(writing)
	h.stop, h.abort = stop, abort
	go func() {
		defer close(h.done)
		if err := h.keep(refreshing, writing, took); err != nil {
			h.lose(err)
		}
	}()
	return storage.WithLease(locked, h.valid), h, nil
}

// limit returns how long this run has the lock without a refresh.
func (h *Held) limit() time.Duration { return h.options.stale() * 2 / 3 }

// refreshed records when the last successful write began.
func (h *Held) refreshed(begun time.Time) {
	until := begun.Add(h.limit())
	h.until.Store(&until)
}

// lose cancels the context of the run. Only the first error counts.
func (h *Held) lose(err error) {
	h.lost.CompareAndSwap(nil, &err)
	h.cancel(err)
}

// valid is the lease for storage.WithLease. It returns nil if this run still has the lock. It
// reads the clock itself, so it does not depend on the refreshing goroutine. It also returns
// nil after an interruption, so that batches under way can end.
func (h *Held) valid(context.Context) error {
	if lost := h.lost.Load(); lost != nil {
		return *lost
	}
	// Both clocks are read, as isWithin does.
	now, until := time.Now(), *h.until.Load()
	if !now.After(until) && !now.Round(0).After(until.Round(0)) {
		return nil
	}
	err := fmt.Errorf("%w: it was not refreshed for %s", ErrLockLost, h.limit())
	h.lose(err)
	return err
}

// content returns the next content of the lock object.
func (h *Held) content() ([]byte, error) {
	h.holder.Refreshed = h.options.Now().UTC()
	h.holder.Refreshes++
	content, err := json.Marshal(h.holder)
	if err != nil {
		return nil, fmt.Errorf("write lock: %w", err)
	}
	return append(content, '\n'), nil
}

// take makes the lock, or takes over a stale one. It returns when the write of the lock began.
func (h *Held) take(ctx context.Context) (time.Time, error) {
	waited := false
	for tries := 1; ; tries++ {
		content, err := h.content()
		if err != nil {
			return time.Time{}, err
		}
		begun := time.Now()
		h.version, err = h.store.Create(ctx, LockPath, content)
		if err == nil {
			return begun, nil
		}
		if errors.Is(err, storage.ErrLost) {
			return time.Time{}, fmt.Errorf("%w: %w", &HeldError{}, err)
		}
		if !errors.Is(err, fs.ErrExist) {
			return time.Time{}, fmt.Errorf("make the lock %s/%s: %w", storage.Root, LockPath, err)
		}
		other, version, err := h.read(ctx)
		switch {
		case errors.Is(err, fs.ErrNotExist) && tries < 10:
			continue // released in between
		case err != nil:
			return time.Time{}, err
		case other.Token == h.holder.Token:
			// This run has written it, and the answer was lost.
			h.version = version
			return begun, nil
		}
		patience := h.options.stale()
		switch {
		case other.empty:
			patience = min(patience, time.Second)
		case h.options.Process != "" && other.Host == h.options.Host && hasEnded(other.PID, other.Process, h.options.Process):
			patience = 0
		case !waited && h.options.OnWait != nil:
			h.options.OnWait(other, patience)
			waited = true
		}
		released, err := h.outlast(ctx, other, version, patience)
		switch {
		case err != nil:
			return time.Time{}, err
		case released:
			continue
		}
		begun, err = h.takeOver(ctx, version)
		if errors.Is(err, storage.ErrLost) {
			// Another run was faster, or the holder has refreshed it.
			if now, _, err := h.read(ctx); err == nil {
				other = now
			}
			return time.Time{}, &HeldError{Holder: other}
		}
		return begun, err
	}
}

// outlast watches the lock until it has not changed for the time in patience. It returns a
// *HeldError if the lock changes, and released if the lock does not exist any more.
func (h *Held) outlast(ctx context.Context, other Holder, version string, patience time.Duration) (released bool, err error) {
	since := time.Now()
	for {
		left := patience - time.Since(since)
		if left <= 0 {
			return false, nil
		}
		if err := sleep(ctx, min(left, h.options.refresh()/2)); err != nil {
			return false, fmt.Errorf("wait for the lock of %s: %w", other.Host, err)
		}
		now, nowVersion, err := h.read(ctx)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return true, nil
		case err != nil:
			return false, err
		case nowVersion != version:
			return false, &HeldError{Holder: now}
		}
	}
}

// takeOver replaces this version of the lock, which is stale.
func (h *Held) takeOver(ctx context.Context, version string) (time.Time, error) {
	h.holder.Started = h.options.Now().UTC()
	content, err := h.content()
	if err != nil {
		return time.Time{}, err
	}
	begun := time.Now()
	h.version, err = h.replace(ctx, content, version)
	if err != nil {
		return time.Time{}, fmt.Errorf("take over the stale lock: %w", err)
	}
	return begun, nil
}

// replace writes the lock if it still has this version. If the answer of the write is lost, the
// retry finds another version. The token in it shows whether this run has written it.
func (h *Held) replace(ctx context.Context, content []byte, version string) (string, error) {
	written, err := h.store.Replace(ctx, LockPath, content, version)
	if !errors.Is(err, storage.ErrLost) && !errors.Is(err, fs.ErrNotExist) {
		return written, err
	}
	now, nowVersion, readErr := h.read(ctx)
	switch {
	case errors.Is(readErr, fs.ErrNotExist):
		return "", fmt.Errorf("it was removed: %w", storage.ErrLost)
	case readErr != nil:
		return "", readErr
	case now.Token != h.holder.Token:
		return "", fmt.Errorf("it now belongs to %s on %s (process %d): %w", now.User, now.Host, now.PID, storage.ErrLost)
	case nowVersion == version:
		return "", fmt.Errorf("the storage does not write it: %w", err)
	}
	return nowVersion, nil
}

// read returns the holder in the lock. It returns the zero Holder if the content is not a lock of
// regsweep.
func (h *Held) read(ctx context.Context) (Holder, string, error) {
	content, version, err := h.store.Version(ctx, LockPath)
	if err != nil {
		return Holder{}, "", fmt.Errorf("read the lock: %w", err)
	}
	var other Holder
	if err := json.Unmarshal(content, &other); err != nil {
		other = Holder{empty: len(content) == 0}
	}
	return other, version, nil
}

// keep refreshes the lock until ctx is done. Then it waits for a write that is under way, since
// the storage might otherwise perform it after the lock was removed. last is when the last
// successful write began. It returns ErrLockLost (wrapped) if the lock is lost.
func (h *Held) keep(ctx, writing context.Context, last time.Time) error {
	limit := h.limit()
	pause := h.options.refresh()
	for {
		if err := sleep(ctx, min(pause, time.Until(last.Add(limit)))); err != nil {
			return nil
		}
		content, err := h.content()
		if err != nil {
			return fmt.Errorf("%w: %w", ErrLockLost, err)
		}
		begun := time.Now()
		attempt, cancel := context.WithDeadline(writing, last.Add(limit))
		version, err := h.replace(attempt, content, h.version)
		cancel()
		switch {
		case err == nil:
			h.version, last, pause = version, begun, h.options.refresh()
			h.refreshed(begun)
			continue
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, storage.ErrLost):
			return fmt.Errorf("%w: %w", ErrLockLost, err)
		case time.Since(last) >= limit:
			return fmt.Errorf("%w: it could not be refreshed for %s: %w", ErrLockLost, limit, err)
		}
		pause = h.options.refresh() / 5
	}
}

// Release stops the refreshing, waits for its goroutine, and removes the lock if this run still
// has it. The removal is conditional if the storage supports that (storage.Locker), so a run that
// is suspended here does not remove the lock of the next run. Release is called once. The context
// of Lock may be done, so ctx must be another one. The error is ErrLockLost (wrapped) if the lock
// does not exist or belongs to another run.
func (h *Held) Release(ctx context.Context) error {
	h.stop()
	hurry := context.AfterFunc(ctx, h.abort)
	<-h.done
	hurry()
	h.abort()
	h.cancel(context.Canceled)
	err := h.store.Delete(storage.WithLease(ctx, h.valid), LockPath, h.version)
	if errors.Is(err, storage.ErrLost) {
		// This run still has the lock if the last refresh succeeded and only its answer was lost.
		now, version, readErr := h.read(ctx)
		switch {
		case errors.Is(readErr, fs.ErrNotExist):
			return fmt.Errorf("release: %w: it was removed", ErrLockLost)
		case readErr != nil:
			return fmt.Errorf("release: %w", readErr)
		case now.Token != h.holder.Token:
			return fmt.Errorf("release: %w: it now belongs to %s on %s (process %d)", ErrLockLost, now.User, now.Host, now.PID)
		}
		err = h.store.Delete(storage.WithLease(ctx, h.valid), LockPath, version)
	}
	if err != nil {
		return fmt.Errorf("release the lock: %w", err)
	}
	return nil
}

// sleep waits for d, or returns the cause of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(max(d, 0))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
