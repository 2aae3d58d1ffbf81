// Package pace decides when a request may go to a storage and how often it is tried again.
package pace

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"regsweep/storage"

	"golang.org/x/time/rate"
)

// Pace decides when a request may go to a storage. All requests of a store pass
// through one pace, so that a refusal of one request slows down all requests. It may be
// used concurrently, and holds no goroutine of its own.
//
// Nothing but the limits of the user holds a request back until the server refuses one (503
// SlowDown, 429, or many 5xx). Then all requests wait for a moment, or as long as Retry-After
// says. The first refusal may be an accident, so it has no other effect. A second refusal
// within 10 s sets a limit of requests a second: seven tenths of the rate that the server took.
// The limit grows by a fifth of its first value each second. Each further refusal cuts it to seven
// tenths again. It is gone after 10 s without a refusal.
type Pace struct {
	slots     chan struct{} // full when as many requests are under way as may be
	gate      chan struct{} // full while a request waits for its turn: the next turn is given after it
	most      rate.Limit    // requests a second, whatever the server takes
	random    func() float64
	FirstWait time.Duration // after a refusal
	forget    time.Duration // a limit is gone after so long without a refusal

	mu      sync.Mutex
	limiter *rate.Limiter
	limit   rate.Limit // of the limiter after the last refusal; rate.Inf if the server sets none
	cut     time.Time  // of the last refusal: requests sent earlier tell nothing of the new rate
	resume  time.Time  // no request is sent before
	// How the server answered in the last second or two.
	began         time.Time
	taken, faults int
	seen          account

	// OnSilence, if set, is called when no request was answered for as long as quiet.
	// The request that found it does not end before OnSilence returns.
	OnSilence func(since time.Time)
	quiet     time.Duration
	reported  time.Time // the last call of OnSilence
}

// account is how a server has answered so far.
type account struct {
	at             time.Time // now
	heard          time.Time // the last answer, a refusal too
	accepted       time.Time // the last answer that was no refusal, or a later time that Retry-After names
	taken, refused int
	gaveUp         *Silence // the last operation that ended since nothing was answered; nil after an answer
}

const (
	cutTo  = 0.7  // of the rate that the server took
	growth = 2.0  // by how often its first value a limit grows, until it is forgotten
	faulty = 0.05 // the share of 5xx from which they mean overload

	// A server may ask to be left alone for so long, and no longer.
	longestRest = 5 * time.Minute
)

// New lets so many requests be under way at once and, if maxRequests is not 0, so
// many begin in a second.
func New(concurrency, maxRequests int) *Pace {
	p := &Pace{
		slots: make(chan struct{}, concurrency), gate: make(chan struct{}, 1), most: rate.Inf, random: rand.Float64,
		FirstWait: 100 * time.Millisecond, forget: 10 * time.Second, quiet: 30 * time.Second,
		limit: rate.Inf,
	}
	if maxRequests > 0 {
		p.most = rate.Limit(maxRequests)
	}
	p.limiter = rate.NewLimiter(p.most, 1)
	return p
}

// Hasten makes all waits shorter.
func (p *Pace) Hasten(t storage.Transport) {
	p.quiet = t.SilentAfter(p.quiet)
	p.FirstWait, p.forget = t.Wait(p.FirstWait), t.Wait(p.forget)
}

// do calls request when its turn has come, and learns from the answer. request sends one request and
// reads the whole answer. It must not call do. do returns the error of request, or of ctx if ctx ends
// before the turn.
func (p *Pace) do(ctx context.Context, request func() error) error {
	if isUrgent(ctx) {
		p.count()
	} else {
		if err := enter(ctx, p.slots); err != nil {
			return err
		}
		defer func() { <-p.slots }()
		if err := p.Wait(ctx); err != nil {
			return err
		}
	}
	sent := time.Now()
	if p.OnSilence != nil && !isUrgent(ctx) { // a lock is refreshed even if nobody reads the message
		defer p.watchSilence(sent)()
	}
	err := request()
	if ctx.Err() == nil {
		p.learn(sent, time.Now(), err)
	}
	return err
}

// Wait returns when the next request may go, or with ctx's error.
func (p *Pace) Wait(ctx context.Context) error {
	if err := enter(ctx, p.gate); err != nil {
		return err
	}
	defer func() { <-p.gate }()
	for {
		wait := p.take()
		if err := sleep(ctx, wait); err != nil || wait <= 0 {
			return err
		}
	}
}

// take returns 0 if a request may go now, and counts it. Otherwise it returns how long to wait before the
// next try: a refusal or an urgent request meanwhile makes the wait longer.
func (p *Pace) take() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if rest := p.resume.Sub(now); rest > 0 {
		return rest
	}
	turn := p.reserve(now)
	wait := turn.DelayFrom(now)
	if wait > 0 {
		turn.CancelAt(now)
	}
	return wait
}

// count counts a request that does not wait. The requests after it wait longer.
func (p *Pace) count() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reserve(time.Now())
}

// reserve gives out the next turn. The caller holds p.mu.
func (p *Pace) reserve(now time.Time) *rate.Reservation {
	if p.limit != rate.Inf {
		elapsed := float64(max(0, now.Sub(p.resume))) / float64(p.forget)
		if elapsed >= 1 {
			p.limit = rate.Inf
		}
		// If the limit was forgotten just now, it is infinite, and the user's limit is left.
		p.limiter.SetLimitAt(now, min(p.most, p.limit*rate.Limit(1+growth*elapsed)))
	}
	return p.limiter.ReserveN(now, 1)
}

// learn takes in the answer to a request.
func (p *Pace) learn(sent, now time.Time, err error) {
	refused, fault, after := judge(err, now)
	p.mu.Lock()
	defer p.mu.Unlock()
	answered := err == nil || ErrorStatus(err) != 0 && TimedOut(err) == nil
	if answered {
		p.seen.heard, p.seen.gaveUp = now, nil
	}
	if p.began.IsZero() {
		p.began = sent
	}
	if age := now.Sub(p.began); age > 2*time.Second {
		p.began, p.taken, p.faults = now.Add(-age/2), p.taken/2, p.faults/2
	}
	switch {
	case refused:
		p.seen.refused++
	case fault:
		p.faults++
		refused = float64(p.faults) > faulty*float64(p.taken+p.faults)
	case answered:
		p.seen.taken++
		p.seen.accepted = latest(p.seen.accepted, now)
		p.taken++
	}
	if refused && sent.After(p.cut) {
		p.slow(now)
	}
	if after > 0 {
		p.rest(now, now.Add(min(after, longestRest)))
		p.seen.accepted = latest(p.seen.accepted, p.resume)
	}
}

// slow makes all requests wait and, if the last refusal was not long ago, limits their rate. The
// caller holds p.mu.
func (p *Pace) slow(now time.Time) {
	if !p.cut.IsZero() && now.Sub(p.resume) < p.forget {
		took := rate.Every(p.FirstWait / 2) // if it took nothing yet
		if p.taken > 0 {
			took = rate.Limit(float64(p.taken) / max(now.Sub(p.began), p.FirstWait).Seconds())
		}
		p.limit = max(cutTo*min(p.limiter.Limit(), took), rate.Every(10*p.FirstWait))
	}
	p.cut = now
	p.rest(now, now.Add(jitter(p.random, p.FirstWait)))
}

// rest lets no request be sent before a time. The caller holds p.mu.
func (p *Pace) rest(now, until time.Time) {
	p.resume = latest(p.resume, until)
	p.limiter.SetLimitAt(now, min(p.most, p.limit)) // the requests that went before still count
}

func (p *Pace) account() account {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen.at = time.Now()
	return p.seen
}

// watchSilence reports a silence after a request was sent, until stop is called. stop waits for a call
// of OnSilence that has begun: a run must not print it after its report.
func (p *Pace) watchSilence(sent time.Time) (stop func()) {
	reported := make(chan struct{})
	timer := time.AfterFunc(p.quiet, func() {
		defer close(reported)
		p.checkSilence(sent)
	})
	return func() {
		if !timer.Stop() {
			<-reported
		}
	}
}

// checkSilence reports a silence that has lasted since a request was sent, once.
func (p *Pace) checkSilence(sent time.Time) {
	p.mu.Lock()
	isNew := !p.seen.heard.After(sent) && (p.reported.IsZero() || p.seen.heard.After(p.reported))
	if isNew {
		p.reported = time.Now()
	}
	p.mu.Unlock()
	if isNew {
		p.OnSilence(sent)
	}
}

// giveUp notes that an operation has ended since nothing was answered.
func (p *Pace) giveUp(s *Silence) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen.gaveUp = s
}

// urgentKey marks the context of requests that must not wait behind others.
type urgentKey struct{}

// Urgent returns a context whose requests do not wait: a lock that is not refreshed in time is
// lost, and a lost lock ends the run.
func Urgent(ctx context.Context) context.Context { return context.WithValue(ctx, urgentKey{}, true) }

func isUrgent(ctx context.Context) bool { return ctx.Value(urgentKey{}) != nil }

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// jitter is between half of a time and all of it, so that many goroutines that were told to slow
// down do not return together.
func jitter(random func() float64, whole time.Duration) time.Duration {
	return whole/2 + time.Duration(random()*float64(whole/2))
}

// enter takes a place in a channel, or returns ctx's error as soon as ctx is done.
func enter(ctx context.Context, places chan struct{}) error {
	select {
	case places <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// sleep returns ctx's error as soon as ctx is done.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
	return ctx.Err()
}
