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

// LockPath is the lock object, below the layout's root. Distribution looks at blobs
// and repositories there, and at nothing else.
const LockPath = ".regsweep/lock"

// ErrLockLost is the cause for which Lock's context is cancelled: the lock was changed
// or removed by somebody else, or could not be refreshed in time.
var ErrLockLost = errors.New("the lock is lost")

// Holder is who holds the lock, as the lock object has it in JSON.
type Holder struct {
	Token     string    `json:"token"` // random, tells runs apart
	Host      string    `json:"host"`
	PID       int       `json:"pid"`
	Process   string    `json:"process,omitempty"` // see ThisProcess
	User      string    `json:"user"`
	Command   string    `json:"command"`
	Started   time.Time `json:"started"`
	Refreshed time.Time `json:"refreshed"`
	// Refreshes makes each refresh differ from the last, whatever the clock does:
	// a storage may know a version by a hash of the content.
	Refreshes int `json:"refreshes"`

	empty bool // the lock object has no content: no run has ever held it
}

// LockOptions says who wants the lock. Host, PID, User and Command are for humans.
type LockOptions struct {
	Host    string
	PID     int
	User    string
	Command string
	// Process is ThisProcess(), or "" where other runs should not find out by it whether
	// this one has ended.
	Process string

	// Now stamps the lock, for humans: no decision compares two machines' clocks.
	Now func() time.Time
	// Random is where the token comes from, such as crypto/rand.Reader.
	Random io.Reader
	// Refresh is the time between refreshes; 0 means 5 s.
	Refresh time.Duration
	// Stale is how long a lock must be seen not to change before it is taken over;
	// 0 means 60 s. All runs on one storage must agree on it.
	Stale time.Duration
	// OnWait, if it is not nil, is told once that there is a lock, and that it
	// takes up to the time given to see whether its holder lives.
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

// HeldError means that another run holds the lock, and lives.
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
	version string             // of the refreshing goroutine until done is closed
	stop    context.CancelFunc // ends refreshing after the write that is under way
	abort   context.CancelFunc // ends that write too
	done    chan struct{}
	cancel  context.CancelCauseFunc
	until   atomic.Pointer[time.Time] // when it is lost unless it is refreshed
	lost    atomic.Pointer[error]     // nil while it is ours
}

// Lock takes the lock, or returns a *HeldError. The context that it returns, derived
// from ctx, is cancelled with ErrLockLost as its cause once the lock is lost; whoever
// removes must do so under that context.
//
// A lock whose holder was killed stays behind. Whether it did is not read from times
// in it, since two machines' clocks may differ by more than any period worth waiting
// for: the taker watches the lock itself, by its own clock alone. If it changes, its
// holder lives, which shows within one refresh. If it has not changed for Stale, the
// taker replaces that very version. A holder for its part counts the lock as lost
// when it was unable to refresh it for two thirds of Stale, counted from before its
// last success, so that it has stopped well before anybody takes over.
//
// There are two cases in which the taker does not wait so long. If the holder was a process
// of this host, the taker can see that it has ended (hasEnded). If the lock is empty, its
// writer died before it held the lock; the taker waits for a second, since a writer on
// another host may be about to write.
//
// A holder that was suspended finds that out before it does anything else: the context
// is also a lease (storage.WithLease), by which every removal looks at the clock first.
// What remains is the one call of each goroutine that was past that look already, and a
// machine that was suspended with its clock, whose holder learns of it with the next
// refresh.
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
	// Refreshing goes on when ctx is done: a sweep that stops still has to end.
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

// limit is how long the lock is ours without being refreshed.
func (h *Held) limit() time.Duration { return h.options.stale() * 2 / 3 }

// refreshed notes when the last write that succeeded began.
func (h *Held) refreshed(begun time.Time) {
	until := begun.Add(h.limit())
	h.until.Store(&until)
}

// lose ends the run. The first reason stays.
func (h *Held) lose(err error) {
	h.lost.CompareAndSwap(nil, &err)
	h.cancel(err)
}

// valid says, for storage.WithLease, whether the lock is still ours: by the clock, even
// if nobody has had the time to find out. It says so of a run that was interrupted too,
// whose batches under way are seen through.
func (h *Held) valid(context.Context) error {
	if lost := h.lost.Load(); lost != nil {
		return *lost
	}
	// Both clocks are read, as isFresh does.
	now, until := time.Now(), *h.until.Load()
	if !now.After(until) && !now.Round(0).After(until.Round(0)) {
		return nil
	}
	err := fmt.Errorf("%w: it was not refreshed for %s", ErrLockLost, h.limit())
	h.lose(err)
	return err
}

// content is the lock object as it is to be written now.
func (h *Held) content() ([]byte, error) {
	h.holder.Refreshed = h.options.Now().UTC()
	h.holder.Refreshes++
	content, err := json.Marshal(h.holder)
	if err != nil {
		return nil, fmt.Errorf("write lock: %w", err)
	}
	return append(content, '\n'), nil
}

// take makes the lock, or takes over one that is stale. It returns when it began to
// write what now is the lock.
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
			// The storage made it, and lost its answer.
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
		gone, err := h.outlast(ctx, other, version, patience)
		switch {
		case err != nil:
			return time.Time{}, err
		case gone:
			continue
		}
		begun, err = h.takeOver(ctx, version)
		if errors.Is(err, storage.ErrLost) {
			// Another taker was faster, or the holder came back to life.
			if now, _, err := h.read(ctx); err == nil {
				other = now
			}
			return time.Time{}, &HeldError{Holder: other}
		}
		return begun, err
	}
}

// outlast watches the lock until it has not changed for so long. It returns a *HeldError
// once it changes, and gone once it is released.
func (h *Held) outlast(ctx context.Context, other Holder, version string, patience time.Duration) (gone bool, err error) {
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

// takeOver replaces the version of a lock that was seen to be stale.
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

// replace writes the lock if it still has the version. A storage that wrote, lost its
// answer and was asked again finds a version that it has just made itself: the token
// tells.
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

// read returns the holder that the lock names; the zero holder where what is there
// is no lock of ours.
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

// keep refreshes the lock until ctx is done, and lets a write that is under way then
// end, since the storage might yet perform it after the lock was removed. last is when
// the last write that succeeded began. It returns an ErrLockLost where the lock is lost.
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

// Release stops refreshing, waits for the goroutine, and removes the lock if it is
// still ours, in one step where the storage can (storage.Locker). A run that is suspended
// here does not remove the lock of the next one. It is called once, with a context that is
// not done: that of Lock may be. The error is ErrLockLost (wrapped) if the lock is gone or belongs
// to somebody else.
func (h *Held) Release(ctx context.Context) error {
	h.stop()
	hurry := context.AfterFunc(ctx, h.abort)
	<-h.done
	hurry()
	h.abort()
	h.cancel(context.Canceled)
	err := h.store.Delete(storage.WithLease(ctx, h.valid), LockPath, h.version)
	if errors.Is(err, storage.ErrLost) {
		// It is ours yet if the storage made the last refresh and lost its answer.
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
