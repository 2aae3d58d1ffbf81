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

// Why a proof is lost. Each is found with errors.Is in a *LostError. The first two are causes for
// which Watch cancels its context.
var (
	// ErrTurnedWritable: a registry was seen that takes pushes to this storage.
	ErrTurnedWritable = errors.New("the registry turned writable")
	// ErrProofLost: the proof fails for another reason, such as no answer.
	ErrProofLost = errors.New("the proof that nobody can write is lost")
	// ErrPushed: something was pushed during the sweep, whatever was proved.
	ErrPushed = errors.New("somebody pushed during the removal")
)

// PushedError is for a push during a sweep.
func PushedError(push Upload) *LostError {
	return &LostError{err: fmt.Errorf("%w, to %s at %s: a registry on this storage was not asked, or was writable for a moment. Stop it or make it read-only, run regsweep again, and then push again what was pushed meanwhile: it may lack layers",
		ErrPushed, push.Repository, push.Touched.UTC().Format(time.RFC3339))}
}

// LostError says why nothing more may be removed.
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

// ProofAge is how old the proof may be when a removal begins. It counts from the moment
// at which the registry was asked, not from its answer.
const ProofAge = 5 * time.Second

// WatchInterval is how often Watch repeats the proof. It is short enough that one failed
// probe does not hold up the removals.
const WatchInterval = 2 * time.Second

// overdue is how late the next proof may be before removals wait for it, although the last one is
// younger than ProofAge. A process that was suspended for a few seconds does not go on with a proof
// from before.
const overdue = time.Second

// patience is how many probes in a row may bring no proof before the proof counts as lost.
// Removals wait meanwhile, so patience costs time only. A registry that is slow for a
// moment must not end a sweep of an hour.
const patience = 10

// Watch repeats the proof of o every interval until stop is called or the proof fails.
//
// The context that it returns is also a lease (storage.WithLease). A removal begins only
// if the last proof is at most ProofAge old, and the next one is not overdue. Otherwise, because
// the registry is slow or because this process was suspended, the removal waits for the next
// proof. There is no proof before the first probe of the watch itself.
//
// If the proof fails, no removal begins any more, and the context is cancelled with a
// *LostError as its cause. A verdict that gives a reason to refuse has this effect at once.
// Unknown verdicts and probes that take longer than ProofAge have it after patience tries. So
// has a recent upload: the upload was known before, and what is missing is the answer of
// the registry that explains it.
//
// The watch goes on when ctx is done: a batch that has begun must end under a valid lease.
// stop ends the watch, waits for its goroutine, and returns the cause if the proof has
// failed. It may be called more than once. seen, if it is not nil, gets each verdict, in
// the goroutine of the watch.
//
// With Options.Unsafe there is no proof to repeat, and the context has no lease of its own.
func Watch(ctx context.Context, o Options, interval time.Duration, seen func(Verdict)) (watched context.Context, stop func() error) {
	watched, cancel := context.WithCancelCause(ctx)
	w := &watch{options: o, interval: interval, seen: seen, cancel: cancel, done: watched.Done()}
	w.options.Quick, w.options.Timeout = true, min(o.timeout(), ProofAge*4/5)
	if o.Stopped { // nobody is expected to answer, and waiting for an answer must not hold up the removals
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

// watch is a proof that is repeated.
type watch struct {
	options  Options
	interval time.Duration
	seen     func(Verdict)
	cancel   context.CancelCauseFunc
	done     <-chan struct{} // of the watched context
	proof    atomic.Pointer[lastProof]
}

// lastProof is what is known of the proof, until next is closed.
type lastProof struct {
	asked time.Time     // when the probe began that proved; zero before the first
	lasts time.Duration // how long removals may begin from then on
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

// isWithin reports whether no more than an age has passed since a proof was asked for. It reads
// both clocks. A machine that was suspended may have stopped the monotonic clock, and somebody may
// set the other one. If one of them is wrong, a removal only waits for the next proof.
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
			// The next proof is asked for after the interval, and takes about as long as this one.
			took := time.Since(asked)
			w.set(lastProof{asked: asked, lasts: min(ProofAge, max(w.interval, took)+took+overdue)})
			failed = 0
		case err == nil && !isProof && v.By != ByUnknown && v.By != ByRecentUpload:
			failed = patience // the registry itself gave a reason
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

// lostFor says why the proof is lost after a probe that brought none.
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

// probe asks once. An answer that takes longer than ProofAge has no use.
func (w *watch) probe(ctx context.Context) (Verdict, error) {
	ctx, cancel := context.WithTimeout(ctx, ProofAge)
	defer cancel()
	return Prove(ctx, w.options)
}
