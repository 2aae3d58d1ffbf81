// Package pace decides when a request may go to a storage and how often it is tried again.
package pace

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"time"

	"regsweep/storage"
)

// Pace decides when a request may go to a storage. All requests of a store pass
// through one pace, so that what the server says to one of them slows down all, and
// what is under way together stays within Limits. It may be used concurrently, and
// holds no goroutine of its own.
//
// Nothing but Limits holds a request back until the server refuses one (503 SlowDown,
// 429, or many 5xx). Then all wait for a moment, or as long as Retry-After says, and
// go on at four fifths of the rate that the server took in the second before. From there
// the rate rises by exp(t²/g), t in seconds. The first refusal may be an accident: with
// g = 0.1 the bound is gone after a second. After the second refusal g is 2. After more of
// them g is 200: the rate is back at what was refused after 7 s, rises slowly there, and is
// 90 times that after 30 s without a refusal. So a server with a fixed limit is kept near
// it and refuses about one request in a hundred, and one that had a bad minute is soon
// asked at full speed again.
type Pace struct {
	slots    chan struct{} // full when as many requests are under way as may be
	interval time.Duration // between two requests, by Limits.MaxRequests; 0 if there is no bound
	random   func() float64
	// The wait after a refusal; it doubles while nothing is taken.
	FirstWait, lastWait time.Duration
	haste               float64 // see Transport

	mu   sync.Mutex
	next time.Time // when the next request may go
	cuts int       // counts the cuts: a turn that was given before one is void

	slowed   bool      // the rate is bounded by what the server has refused
	base     float64   // requests a second, at resume
	level    int       // counts the refusals that the last one followed closely
	cut      time.Time // of the last cut: what was sent earlier tells nothing of the new rate
	resume   time.Time // nothing goes before
	streak   int       // cuts in a row without an answer in between that was no refusal
	accepted time.Time // the last such answer, or a later time until which the server asked to be left alone

	taken, refused int // so far

	// OnSilence, if set, is called when no request was answered for as long as quiet.
	OnSilence func(since time.Time)
	quiet     time.Duration
	heard     time.Time // the last answer, a refusal too
	reported  time.Time // the last call of OnSilence
	gaveUp    *Silence  // the last operation that ended since nothing was answered; nil if there is none

	recent [paceBuckets]paceBucket
}

// paceGrowth is by how much the rate grows (g, in s²) after the first refusal, the second,
// and those that follow.
var paceGrowth = [...]float64{0.1, 2, 200}

// paceBucket counts the answers of a tenth of a second.
type paceBucket struct {
	tenth            int64 // since the epoch
	accepted, faults int
}

const (
	paceBuckets = 10
	paceTenth   = time.Second / paceBuckets

	paceCut    = 0.8  // of the rate that the server took
	paceLeast  = 1.0  // requests a second, however little was taken
	paceFirst  = 20.0 // requests a second where nothing was taken yet; half of it after each further refusal
	paceFree   = 1e5  // requests a second at which there is no bound any more
	paceFaults = 0.05 // the share of 5xx from which they mean overload

	// A refusal that comes so long after the one before counts as the first.
	paceForget = 30 * time.Second

	// A server may ask to be left alone for so long, and no longer.
	paceLongestWait = 5 * time.Minute
)

// New lets so many requests be under way at once and, if maxRequests is not 0, so
// many begin in a second.
func New(concurrency, maxRequests int) *Pace {
	p := &Pace{
		slots: make(chan struct{}, concurrency), random: rand.Float64,
		FirstWait: 100 * time.Millisecond, lastWait: 20 * time.Second, haste: 1, quiet: 30 * time.Second,
	}
	if maxRequests > 0 {
		p.interval = time.Second / time.Duration(maxRequests)
	}
	return p
}

// Hasten makes all waits shorter.
func (p *Pace) Hasten(t storage.Transport) {
	p.quiet = t.SilentAfter(p.quiet)
	p.FirstWait, p.lastWait, p.haste = t.Wait(p.FirstWait), t.Wait(p.lastWait), float64(max(1, t.Haste))
}

// do sends one request when its turn has come, and learns from the answer. request
// sends and reads it wholly, and must not call do again. The error is request's, or
// ctx's while it waited.
func (p *Pace) do(ctx context.Context, request func() error) error {
	if isUrgent(ctx) {
		p.mu.Lock()
		p.turn(time.Now())
		p.mu.Unlock()
	} else {
		select {
		case p.slots <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		defer func() { <-p.slots }()
		if err := p.Wait(ctx); err != nil {
			return err
		}
	}
	sent := time.Now()
	if p.OnSilence != nil {
		timer := time.AfterFunc(p.quiet, func() { p.checkSilence(sent) })
		defer timer.Stop()
	}
	err := request()
	if ctx.Err() == nil {
		p.learn(sent, time.Now(), err)
	}
	return err
}

// checkSilence reports a silence that has lasted since a request was sent, once.
func (p *Pace) checkSilence(sent time.Time) {
	p.mu.Lock()
	isNew := !p.heard.After(sent) && (p.reported.IsZero() || p.heard.After(p.reported))
	if isNew {
		p.reported = time.Now()
	}
	p.mu.Unlock()
	if isNew {
		p.OnSilence(sent)
	}
}

// Wait returns when the next request may go.
func (p *Pace) Wait(ctx context.Context) error {
	for {
		now := time.Now()
		p.mu.Lock()
		at, given := p.turn(now), p.cuts
		p.mu.Unlock()
		if !at.After(now) {
			return nil
		}
		timer := time.NewTimer(at.Sub(now))
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
		p.mu.Lock()
		valid := p.cuts == given
		p.mu.Unlock()
		if valid {
			return nil
		}
	}
}

// turn gives away the next time at which a request may go. The caller holds p.mu.
func (p *Pace) turn(now time.Time) time.Time {
	interval := p.interval
	if p.slowed {
		rate := p.rate(now)
		if rate > paceFree {
			p.slowed = false
		} else {
			interval = max(interval, time.Duration(float64(time.Second)/rate))
		}
	}
	at := now
	if interval > 0 || p.resume.After(now) {
		if p.next.After(at) {
			at = p.next
		}
		if p.resume.After(at) {
			at = p.resume
		}
	}
	p.next = at.Add(interval)
	return at
}

// rate is how many requests may begin in a second. The caller holds p.mu, and p is
// slowed.
func (p *Pace) rate(now time.Time) float64 {
	t := p.haste * max(0, now.Sub(p.resume).Seconds())
	return p.base * math.Exp(t*t/paceGrowth[min(p.level, len(paceGrowth)-1)])
}

// learn takes in what became of a request.
func (p *Pace) learn(sent, now time.Time, err error) {
	refused, fault, after := judge(err, now)
	p.mu.Lock()
	defer p.mu.Unlock()
	answered := err == nil || ErrorStatus(err) != 0 && TimedOut(err) == nil
	if answered {
		p.heard = latest(p.heard, now)
	}
	bucket := p.bucket(now)
	switch {
	case refused:
		p.refused++
	case fault:
		bucket.faults++
		accepted, faults := p.lastSecond(now)
		refused = float64(faults) > paceFaults*float64(accepted+faults)
	case answered:
		bucket.accepted++
		p.taken++
		p.accepted = latest(p.accepted, now)
		if sent.After(p.cut) {
			p.streak = 0
		}
	}
	if after > 0 {
		p.rest(now.Add(min(after, paceLongestWait)))
		p.accepted = latest(p.accepted, p.resume)
	}
	if refused && sent.After(p.cut) {
		p.slow(now)
	}
}

// slow cuts the rate below what the server took in the last second. The caller holds
// p.mu.
func (p *Pace) slow(now time.Time) {
	if p.level++; p.cut.IsZero() || now.Sub(p.cut) > paceForget {
		p.level = 0
	}
	accepted, _ := p.lastSecond(now)
	rate := paceCut * float64(accepted)
	if spell := now.Sub(p.resume); p.level == 1 && spell < time.Second {
		accepted, _ = p.since(p.resume)
		rate = paceCut * float64(accepted) / max(spell, paceTenth).Seconds()
	}
	if accepted == 0 || p.level == 0 {
		rate = max(rate, p.haste*paceFirst/float64(int(1)<<min(p.streak, 16)))
	}
	if p.slowed {
		rate = min(rate, paceCut*p.rate(now))
	}
	wait := min(p.FirstWait<<min(p.streak, 16), p.lastWait)
	p.streak++
	p.slowed, p.base, p.cut = true, max(p.haste*paceLeast, rate), now
	p.rest(now.Add(wait/2 + time.Duration(p.random()*float64(wait/2))))
}

// rest lets nothing go before a time. The caller holds p.mu.
func (p *Pace) rest(until time.Time) {
	p.resume = latest(p.resume, until)
	p.next = p.resume
	p.cuts++
}

// paceTotals is what a server took and refused up to a time.
type paceTotals struct {
	at              time.Time
	accepted, heard time.Time // see pace
	taken, refused  int
	gaveUp          *Silence // nil if something was answered since
}

func (p *Pace) totals() paceTotals {
	p.mu.Lock()
	defer p.mu.Unlock()
	totals := paceTotals{time.Now(), p.accepted, p.heard, p.taken, p.refused, p.gaveUp}
	if p.gaveUp != nil && p.heard.After(p.gaveUp.at) {
		totals.gaveUp = nil
	}
	return totals
}

// giveUp notes that an operation has ended since nothing was answered.
func (p *Pace) giveUp(s *Silence) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gaveUp = s
}

// bucket is where the answers of now are counted. The caller holds p.mu.
func (p *Pace) bucket(now time.Time) *paceBucket {
	tenth := now.UnixNano() / int64(paceTenth)
	bucket := &p.recent[tenth%paceBuckets]
	if bucket.tenth != tenth {
		*bucket = paceBucket{tenth: tenth}
	}
	return bucket
}

// lastSecond adds up the answers of about a second. The caller holds p.mu.
func (p *Pace) lastSecond(now time.Time) (accepted, faults int) {
	return p.since(now.Add(paceTenth - time.Second))
}

// since adds up the answers of the last second that are not older than a time. The caller
// holds p.mu.
func (p *Pace) since(first time.Time) (accepted, faults int) {
	for _, bucket := range p.recent {
		if bucket.tenth >= first.UnixNano()/int64(paceTenth) {
			accepted += bucket.accepted
			faults += bucket.faults
		}
	}
	return accepted, faults
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// judge tells an answer that asks to slow down from one that may or may not: a 5xx now
// and then is an accident, and many are overload. after is what Retry-After says, or 0.
func judge(err error, now time.Time) (refused, fault bool, after time.Duration) {
	if err == nil {
		return false, false, 0
	}
	status := ErrorStatus(err)
	switch {
	case busy(err):
		refused = true
	case ErrorCode(err) == "InternalError", transientStatus(status) && status >= 500:
		fault = true
	}
	if refused || fault {
		after = retryAfter(err, now)
	}
	return refused, fault, after
}

// busy reports whether the server refused a request, or one key of a bulk removal,
// because there are too many.
func busy(err error) bool {
	switch ErrorCode(err) {
	case "SlowDown", "SlowDownRead", "SlowDownWrite", "ServiceUnavailable", "Throttling", "ThrottlingException",
		"RequestLimitExceeded", "BandwidthLimitExceeded", "TooManyRequests", "KMS.ThrottlingException":
		return true
	}
	status := ErrorStatus(err)
	return status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable
}

// retryAfter reads what an error has of the header of that name, seconds or a date, or returns 0.
func retryAfter(err error, now time.Time) time.Duration {
	var answered interface{ RetryAfter() string }
	if !errors.As(err, &answered) {
		return 0
	}
	value := answered.RetryAfter()
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if date, err := http.ParseTime(value); err == nil {
		return max(0, date.Sub(now))
	}
	return 0
}

// urgentKey marks the context of requests that must not wait behind others: a lock that
// is not refreshed in time is lost, and a lost lock ends the run.
type urgentKey struct{}

func Urgent(ctx context.Context) context.Context { return context.WithValue(ctx, urgentKey{}, true) }

func isUrgent(ctx context.Context) bool { return ctx.Value(urgentKey{}) != nil }
