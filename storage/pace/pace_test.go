package pace

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// throttle is a server that takes so many requests a second and refuses what is more,
// by a bucket that fills as time goes on and holds a second's worth. Time is the test's.
type throttle struct {
	latency time.Duration

	mu             sync.Mutex
	rate, full     float64
	at             time.Time
	taken, refused int
	under, most    int // requests under way, and the most there were
}

func (s *throttle) serve() error {
	s.mu.Lock()
	now := time.Now()
	if !s.at.IsZero() {
		s.full = min(s.rate, s.full+s.rate*now.Sub(s.at).Seconds())
	}
	s.at = now
	s.under++
	s.most = max(s.most, s.under)
	took := s.full >= 1
	if took {
		s.full--
		s.taken++
	} else {
		s.refused++
	}
	s.mu.Unlock()
	time.Sleep(s.latency)
	s.mu.Lock()
	s.under--
	s.mu.Unlock()
	if !took {
		return answered(503, "SlowDown")
	}
	return nil
}

func (s *throttle) allow(rate float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rate, s.full, s.at = rate, min(s.full, rate), time.Now()
}

func (s *throttle) counts() (taken, refused int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.taken, s.refused
}

// work sends operations from so many goroutines until stop is called, which returns
// those that failed for good.
func work(r Retries, goroutines int, op func() error) (stop func() (failed int64)) {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	var failed atomic.Int64
	for range goroutines {
		all.Go(func() {
			for ctx.Err() == nil {
				if err := r.Do(ctx, op); err != nil && ctx.Err() == nil {
					failed.Add(1)
				}
			}
		})
	}
	return func() int64 { cancel(); all.Wait(); return failed.Load() }
}

// pacedRetries are the default ones with a pace.
func pacedRetries(concurrency, maxRequests int) Retries {
	r := DefaultRetries
	r.Pace = New(concurrency, maxRequests)
	var mu sync.Mutex
	source := rand.New(rand.NewPCG(1, 1)) // the same waits in each run of the test
	random := func() float64 {
		mu.Lock()
		defer mu.Unlock()
		return source.Float64()
	}
	r.random, r.Pace.random = random, random
	return r
}

// TestPaceKeepsNearWhatAServerTakes, whatever that is: few requests are refused, little
// of what it would take is left, no operation fails, and when the server takes more it
// is soon asked for it.
func TestPaceKeepsNearWhatAServerTakes(t *testing.T) {
	t.Parallel()
	rates := []float64{2, 100, 3500}
	if testing.Short() {
		rates = rates[:2]
	}
	for _, rate := range rates {
		synctest.Test(t, func(t *testing.T) {
			server := &throttle{latency: 15 * time.Millisecond, rate: rate, full: rate}
			r := pacedRetries(64, 0)
			for range 60 { // a minute in which little is asked
				if err := r.Do(t.Context(), server.serve); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
			}
			server.taken = 0
			stop := work(r, 200, server.serve)
			time.Sleep(10 * time.Second)
			soon, first := server.counts()
			if least := int(0.75*rate*10) - 5; soon < least {
				t.Errorf("%v/s: %d taken in the first 10 s, want at least %d", rate, soon, least)
			}
			time.Sleep(2 * time.Minute)
			taken, refused := server.counts()
			t.Logf("%v/s: %d taken, %d refused, %d of them in the first 10 s", rate, taken, refused, first)
			// Two rounds of requests under way are refused before there is a limit.
			if most := 2*64 + 40 + taken/200; refused > most {
				t.Errorf("%v/s: %d refused of %d, want at most %d", rate, refused, taken, most)
			}
			// Of the few at 2/s a pause or two more or less, which chance decides, are a dozen.
			if least := int(0.9*rate*130) - 15; taken < least {
				t.Errorf("%v/s: %d taken, want at least %d", rate, taken, least)
			}
			server.allow(1e6)
			time.Sleep(15 * time.Second)
			before, _ := server.counts()
			time.Sleep(10 * time.Second)
			after, _ := server.counts()
			// 64 under way for 15 ms each are 4266 a second.
			if perSecond := (after - before) / 10; perSecond < 4000 && perSecond < int(50*rate) {
				t.Errorf("%v/s: %d a second after the server has recovered", rate, perSecond)
			}
			if failed := stop(); failed > 0 {
				t.Errorf("%v/s: %d operations failed", rate, failed)
			}
			if server.most > 64 {
				t.Errorf("%v/s: %d requests under way", rate, server.most)
			}
		})
	}
}

// TestPaceBoundsRequests by --max-requests, from the first second on, also after refusals.
func TestPaceBoundsRequests(t *testing.T) {
	t.Parallel()
	for _, refusing := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			server := &throttle{latency: 15 * time.Millisecond, rate: 1e6, full: 1e6}
			stop := work(pacedRetries(8, 50), 20, server.serve)
			for second := range 30 {
				before, refused := server.counts()
				if refusing && second == 3 {
					server.allow(0)
				} else if second == 5 {
					server.allow(1e6)
				}
				time.Sleep(time.Second)
				after, more := server.counts()
				n := after - before + more - refused
				if n > 51 || n < 49 && (!refusing || second < 3 || second > 18) {
					t.Errorf("refusing %t: %d requests in second %d", refusing, n, second)
				}
			}
			stop()
			if server.most > 8 {
				t.Errorf("%d requests under way", server.most)
			}
		})
	}
}

// TestUrgentRequestsCountAfterARefusal: they do not wait for their turns, so the requests that follow
// wait longer. A refusal does not change that, and --max-requests holds.
func TestUrgentRequestsCountAfterARefusal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := pacedRetries(8, 10)
		began, asked := time.Now(), 0
		op := func() error {
			asked++
			time.Sleep(time.Millisecond)
			if asked == 30 {
				return answered(503, "SlowDown")
			}
			return nil
		}
		for asked < 30 {
			if err := r.Pace.do(Urgent(t.Context()), op); err != nil && asked < 30 {
				t.Fatal(err)
			}
		}
		for asked < 100 {
			if err := r.Pace.do(t.Context(), op); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took < 9900*time.Millisecond || took > 11*time.Second {
			t.Errorf("%d requests, 10 a second, took %v", asked, took)
		}
	})
}

// TestPaceHoldsBackAll: requests that wait for their turn when another is refused wait longer. Then
// --max-requests holds as before.
func TestPaceHoldsBackAll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := pacedRetries(8, 10)
		r.Pace.FirstWait = 10 * time.Second
		began := time.Now()
		var asked, early atomic.Int32
		stop := work(r, 8, func() error {
			if n := asked.Add(1); n > 1 && time.Since(began) < 5*time.Second {
				early.Add(1)
			}
			time.Sleep(15 * time.Millisecond)
			if time.Since(began) < 5*time.Second {
				return answered(503, "SlowDown")
			}
			return nil
		})
		time.Sleep(20 * time.Second)
		stop()
		if n := asked.Load(); n < 50 || n > 160 || early.Load() > 0 {
			t.Errorf("%d requests, %d of them too early", asked.Load(), early.Load())
		}
	})
}

// TestPaceHeedsRetryAfter of any one request, for all.
func TestPaceHeedsRetryAfter(t *testing.T) {
	t.Parallel()
	for name, value := range map[string]func() string{
		"seconds": func() string { return "30" },
		"a date":  func() string { return time.Now().Add(30 * time.Second).UTC().Format(http.TimeFormat) },
	} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			var asked, early atomic.Int32
			stop := work(pacedRetries(4, 0), 8, func() error {
				since := time.Since(began)
				time.Sleep(10 * time.Millisecond)
				switch {
				case asked.Add(1) == 1:
					return answer{503, "SlowDown", value()}
				case since > 10*time.Millisecond && since < 29*time.Second:
					early.Add(1)
				}
				return nil
			})
			time.Sleep(time.Minute)
			if failed := stop(); failed > 0 || early.Load() > 0 {
				t.Errorf("%s: %d requests before the time, %d failed", name, early.Load(), failed)
			}
			if asked.Load() < 20 {
				t.Errorf("%s: %d requests in a minute", name, asked.Load())
			}
		})
	}
}

// TestPaceIsPatientWhileItIsToldToWait: longer than with a server that says nothing.
func TestPaceIsPatientWhileItIsToldToWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		err := pacedRetries(4, 0).Do(t.Context(), func() error {
			if asked++; asked < 4 {
				return answer{503, "SlowDown", "120"}
			}
			return nil
		})
		if err != nil {
			t.Errorf("%v after %d requests", err, asked)
		}
	})
}

// TestPaceForgivesAccidents: an error now and then, at any rate, says nothing of the
// load, and many do.
func TestPaceForgivesAccidents(t *testing.T) {
	t.Parallel()
	for share, slowed := range map[int32]bool{100: false, 4: true} { // one of so many fails
		synctest.Test(t, func(t *testing.T) {
			var n atomic.Int32
			r := pacedRetries(64, 0)
			stop := work(r, 800, func() error {
				time.Sleep(15 * time.Millisecond)
				if n.Add(1)%share == 0 {
					return answered(500, "InternalError")
				}
				return nil
			})
			time.Sleep(10 * time.Second)
			stop()
			if got := n.Load() < 10*3000; got != slowed {
				t.Errorf("one fault in %d: %d requests in 10 s", share, n.Load())
			}
		})
	}
}

// TestPaceIsPatient: a server that takes next to nothing fails no operation, however long
// it goes on; one that takes nothing at all for a minute does; and so does an
// operation that alone is refused for ever.
func TestPaceIsPatient(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := &throttle{latency: 15 * time.Millisecond, rate: 0.1, full: 1}
		server.allow(0.1)
		full := func() error { // the bucket holds one request, always
			server.mu.Lock()
			server.full = min(1, server.full+time.Since(server.at).Seconds()*0.1)
			server.at = time.Now()
			took := server.full >= 1
			if took {
				server.full, server.taken = 0, server.taken+1
			}
			server.mu.Unlock()
			if took {
				return nil
			}
			return answered(503, "SlowDown")
		}
		stop := work(pacedRetries(64, 0), 64, full)
		time.Sleep(30 * time.Minute)
		if failed := stop(); failed > 0 || server.taken < 60 {
			t.Errorf("%d operations failed, %d were taken", failed, server.taken)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		began, asked := time.Now(), 0
		err := pacedRetries(64, 0).Do(t.Context(), func() error { asked++; return answered(503, "SlowDown") })
		if took := time.Since(began); !busy(err) || took < time.Minute || took > 2*time.Minute || asked > 15 {
			t.Errorf("%v after %v and %d requests", err, took, asked)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		r := pacedRetries(64, 0)
		stop := work(r, 10, func() error { time.Sleep(15 * time.Millisecond); return nil })
		began := time.Now()
		err := r.Do(t.Context(), func() error { return answered(503, "SlowDownRead") })
		if took := time.Since(began); !busy(err) || took < 3*time.Minute || took > 10*time.Minute {
			t.Errorf("%v after %v", err, took)
		}
		stop()
	})
}

// TestPaceCountsEveryRequest: those of a lock, and those that are refused.
func TestPaceCountsEveryRequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := pacedRetries(1, 1)
		began, asked := time.Now(), 0
		for range 2 {
			if err := r.Do(Urgent(t.Context()), func() error { return nil }); err != nil {
				t.Error(err)
			}
		}
		err := r.Do(t.Context(), func() error {
			if asked++; asked == 1 {
				return answered(503, "SlowDown")
			}
			return nil
		})
		if took := time.Since(began); err != nil || took.Round(time.Second) != 3*time.Second {
			t.Errorf("%v after %v", err, took)
		}
	})
}

// TestPaceLetsALockThrough, and ends at once when the run does.
func TestPaceLetsALockThrough(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := pacedRetries(1, 1)
		stop := work(r, 100, func() error { time.Sleep(5 * time.Second); return nil })
		time.Sleep(time.Second)
		began := time.Now()
		if err := r.Do(Urgent(t.Context()), func() error { return nil }); err != nil || time.Since(began) > 0 {
			t.Errorf("the lock waited %v: %v", time.Since(began), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.Do(ctx, func() error { return nil }); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > time.Second {
			t.Errorf("cancelled after %v: %v", time.Since(began), err)
		}
		stop()
	})
}
