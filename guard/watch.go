package guard

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"regsweep/storage"
)

// These errors are the reasons why a proof is lost. A *LostError wraps one of them. Watch cancels its context
// for the first two.
var (
	// ErrTurnedWritable: a registry accepts pushes to this storage.
	ErrTurnedWritable = errors.New("the registry turned writable")
	// ErrProofLost: the proof fails for another reason, such as no answer.
	ErrProofLost = errors.New("the proof that nobody can write is lost")
	// ErrPushed: somebody has pushed during the sweep, in spite of the proof.
	ErrPushed = errors.New("somebody pushed during the removal")
)

// PushedError is the error for a push during a sweep.
func PushedError(push Upload) *LostError {
	return &LostError{err: fmt.Errorf("%w, to %s at %s: a registry on this storage was not asked, or was writable for a moment. Stop it or make it read-only, run regsweep again, and then push again what was pushed meanwhile: it may lack layers",
		ErrPushed, push.Repository, push.Touched.UTC().Format(time.RFC3339))}
}

// LostError is the reason why nothing more may be removed.
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

// ProofAge is how old the proof may be when a removal begins. The age counts from the request to
// the registry, and not from its answer.
const ProofAge = 5 * time.Second

// WatchInterval is how often Watch repeats the proof. It is short enough that one failed
// probe does not hold up the removals.
const WatchInterval = 2 * time.Second

// overdue is how late the next proof may be. If it is later, removals wait for it, even if the last
// proof is younger than ProofAge. So a process that was suspended for a few seconds does not use a
// proof from before the suspension.
const overdue = time.Second

// patience is how many probes in a row may fail before the proof counts as lost. Removals wait
// meanwhile, so patience costs only time. A registry that is slow for a moment must not end a sweep
// of an hour.
const patience = 10

// Watch repeats the proof of o every interval until stop is called or the proof fails.
//
// The context that it returns is also a lease (storage.WithLease). A removal begins only
// if the last proof is at most ProofAge old, and the next one is not overdue. Otherwise the
// registry is slow or this process was suspended, and the removal waits for the next
// proof. Before the first probe of the watch itself there is no proof.
//
// If the proof fails, no further removal begins, and the context is cancelled with a
// *LostError as its cause. A verdict with a reason to refuse has this effect at once.
// Unknown verdicts, and probes that take longer than ProofAge, have this effect after patience
// tries. So does a recent upload: the upload was known before, and only the answer of the
// registry that explains it is missing.
//
// The watch goes on after ctx is done: a batch that has begun must end under a valid lease.
// stop ends the watch, waits for its goroutine, and returns the cause if the proof has
// failed. It may be called more than once. seen, if it is not nil, is called with each
// verdict, in the goroutine of the watch.
//
// With Options.Unsafe there is no proof to repeat, and the context has no lease of its own.
func Watch(ctx context.Context, o Options, interval time.Duration, seen func(Verdict)) (watched context.Context, stop func() error) {
	watched, cancel := context.WithCancelCause(ctx)
	w := &watch{options: o, interval: interval, seen: seen, cancel: cancel, done: watched.Done()}
	w.options.Quick, w.options.Timeout = true, min(o.timeout(), ProofAge*4/5)
	if o.Stopped { // no answer is expected, and removals must not wait for one
		w.options.Timeout = min(o.timeout(), ProofAge/5)
	}
	w.options.Lookup = func(ctx context.Context, host string) ([]string, error) {
		ctx, cancel := context.WithTimeout(ctx, w.options.Timeout)
		defer cancel()
		return o.lookup(ctx, host)
	}
	w.proof.Store(&lastProof{next: make(chan struct{})})
	asking, enough := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if !o.Unsafe {
			w.run(asking)
		}
	}()
	stop = func() error {
		enough()
		<-ended
		cancel(context.Canceled)
		return w.proof.Load().lost
	}
	if o.Unsafe {
		return watched, stop
	}
	return storage.WithLease(watched, w.mayRemove), stop
}

// watch repeats a proof.
type watch struct {
	options  Options
	interval time.Duration
	seen     func(Verdict)
	cancel   context.CancelCauseFunc
	done     <-chan struct{} // of the watched context
	proof    atomic.Pointer[lastProof]
}

// lastProof is the last proof. It is replaced when next is closed.
type lastProof struct {
	asked time.Time     // when its probe began; zero before the first proof
	lasts time.Duration // how long after asked removals may begin
	lost  error         // a *LostError once the proof has failed
	next  chan struct{}
}

func (w *watch) set(now lastProof) {
	now.next = make(chan struct{})
	close(w.proof.Swap(&now).next)
}

// mayRemove is the lease that Watch describes.
func (w *watch) mayRemove(ctx context.Context) error {
	for {
		proof := w.proof.Load()
		switch {
		case proof.lost != nil:
			return proof.lost
		case isWithin(proof.lasts, proof.asked):
			return nil
		}
		select {
		case <-proof.next:
		case <-w.done:
			return cmp.Or(w.proof.Load().lost, context.Canceled)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// isWithin reports whether a proof that was requested at asked is at most this old. It reads both
// clocks: the monotonic clock may stop while a machine is suspended, and somebody may set the other
// one. If one of them is wrong, a removal only waits for the next proof.
func isWithin(age time.Duration, asked time.Time) bool {
	now := time.Now()
	return now.Sub(asked) <= age && now.Round(0).Sub(asked.Round(0)) <= age
}

// run returns once ctx is done or the proof has failed.
func (w *watch) run(ctx context.Context) {
	pause := time.Duration(0)
	for failed := 0; ; {
		if sleep(ctx, pause) != nil {
			return
		}
		asked := time.Now()
		v, err := w.probe(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil && w.seen != nil {
			w.seen(v)
		}
		isProof := err == nil && v.MayRemove()
		switch {
		case isProof && isWithin(ProofAge, asked):
			// The next probe begins after the interval, and takes about as long as this one.
			took := time.Since(asked)
			w.set(lastProof{asked: asked, lasts: min(ProofAge, max(w.interval, took)+took+overdue)})
			failed = 0
		case err == nil && !isProof && v.By != ByUnknown && v.By != ByRecentUpload:
			failed = patience // the verdict has a definite reason
		default:
			failed++
		}
		if failed >= patience {
			lost := lostFor(v, err)
			w.set(lastProof{lost: lost})
			w.cancel(lost)
			return
		}
		pause = w.interval - time.Since(asked)
	}
}

// lostFor returns why the proof is lost after a failed probe.
func lostFor(v Verdict, err error) *LostError {
	switch {
	case err == nil && v.By == ByWritable:
		return &LostError{Verdict: v, err: ErrTurnedWritable}
	case err == nil && !v.MayRemove():
		return &LostError{Verdict: v, err: ErrProofLost}
	case err == nil || errors.Is(err, context.DeadlineExceeded):
		return &LostError{err: fmt.Errorf("%w: the registry takes longer than %s to answer", ErrProofLost, ProofAge)}
	}
	return &LostError{err: fmt.Errorf("%w: %w", ErrProofLost, err)}
}

// probe repeats the proof once. A proof that takes longer than ProofAge is useless.
func (w *watch) probe(ctx context.Context) (Verdict, error) {
	ctx, cancel := context.WithTimeout(ctx, ProofAge)
	defer cancel()
	return Prove(ctx, w.options)
}
