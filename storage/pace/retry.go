package pace

import (
	"context"
	"math/rand/v2"
	"time"

	"regsweep/storage"
)

// Retries says how often an operation is tried again that failed for a reason
// that passes, and passes every try through the pace of the storage.
//
// An operation that the server refuses as too much is not counted out while the server
// takes others: it fails once nothing at all was taken for as long as patience, or when
// it was refused for the twentieth time while the server took most of what it was asked.
// Then it is not refused for being one too many.
type Retries struct {
	Pace  *Pace
	Tries int // at most, the first included, of an operation that is not refused
	// The wait before the second try is between half of Base and Base, and each
	// following one twice that, up to Max.
	Base, Max time.Duration
	random    func() float64 // in [0, 1)
	Patience  time.Duration  // with a server that refuses everything
	silence   time.Duration  // after which an operation is not tried again, if nothing was answered
}

// refusedTries is how often an operation may be refused by a server that takes most.
const refusedTries = 20

// DefaultRetries gives a storage between 22 and 45 seconds to come back, over
// eight tries: as long as a MinIO takes to restart, and S3 to split a partition. They have no Pace
// yet.
var DefaultRetries = Retries{Tries: 8, Base: 400 * time.Millisecond, Max: 20 * time.Second, random: rand.Float64, Patience: time.Minute, silence: 2 * time.Minute}

// Hasten makes all waits shorter.
func (r Retries) Hasten(t storage.Transport) Retries {
	r.Base, r.Max, r.Patience, r.silence = t.Wait(r.Base), t.Wait(r.Max), t.Wait(r.Patience), t.SilentAfter(r.silence)
	return r
}

// Do calls op until it succeeds, fails for good, or has had its tries, and
// returns its last error. It returns ctx's error as soon as ctx is done.
func (r Retries) Do(ctx context.Context, op func() error) error {
	before := r.Pace.account()
	if lost := before.gaveUp; lost != nil && before.at.Sub(lost.at) < r.Pace.quiet {
		return lost
	}
	for try := 1; ; try++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := r.Pace.do(ctx, op)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case !Transient(err):
			return err
		case r.exhausted(try, before, err):
			return r.explain(before, err)
		}
		if err := r.Wait(ctx, try); err != nil {
			return err
		}
	}
}

// exhausted reports whether an operation that has failed so often has had its tries.
// before is the account when it began.
func (r Retries) exhausted(try int, before account, err error) bool {
	now := r.Pace.account()
	if !busy(err) {
		return try >= r.Tries || now.gaveUp != nil || now.at.Sub(latest(now.heard, before.at)) >= r.silence
	}
	silent := now.at.Sub(latest(now.accepted, before.at))
	return silent >= r.Patience || try >= refusedTries && now.taken-before.taken > now.refused-before.refused
}

// Silence is the error of an operation that ended since the server answered nothing at all.
type Silence struct {
	error
	Lasted time.Duration
	at     time.Time // when it ended
}

func (s *Silence) Unwrap() error { return s.error }

// explain makes the last error a silence, if it is one. What begins in the next half minute
// fails at once with it: otherwise each step of a run would wait for minutes.
func (r Retries) explain(before account, err error) error {
	if TimedOut(err) == nil {
		return err
	}
	now := r.Pace.account()
	lasted := now.at.Sub(latest(now.heard, before.at))
	if earlier := now.gaveUp; earlier != nil {
		lasted = earlier.Lasted + now.at.Sub(earlier.at)
	} else if lasted < r.silence {
		return err
	}
	lost := &Silence{err, lasted, now.at}
	r.Pace.giveUp(lost)
	return lost
}

// Wait sleeps after the given failed try.
func (r Retries) Wait(ctx context.Context, try int) error { return sleep(ctx, r.delay(try)) }

// delay is how long to wait after the given failed try, counted from 1.
func (r Retries) delay(try int) time.Duration {
	whole := r.Base
	for i := 1; i < try && whole < r.Max; i++ {
		whole *= 2
	}
	return jitter(r.random, min(whole, r.Max))
}
