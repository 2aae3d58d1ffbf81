package pace

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// requestTimeout is after what time a request to S3 fails that nobody answers.
const requestTimeout = 75 * time.Second

// TestSilenceEndsARun: a server that answers nothing is reported after 30 s, once, and an
// operation ends within three minutes.
func TestSilenceEndsARun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := pacedRetries(8, 0)
		began := time.Now()
		var mu sync.Mutex // guards reported
		var reported []string
		r.Pace.OnSilence = func(since time.Time) {
			mu.Lock()
			defer mu.Unlock()
			reported = append(reported, fmt.Sprint(since.Sub(began), " after ", time.Since(began)))
		}
		var all sync.WaitGroup
		for range 4 { // all that are under way
			all.Go(func() {
				err := r.Do(t.Context(), func() error {
					time.Sleep(requestTimeout)
					return &url.Error{Op: "Get", URL: "http://server", Err: os.ErrDeadlineExceeded}
				})
				if took := time.Since(began); err == nil || took > 3*time.Minute {
					t.Errorf("%v after %v", err, took)
				}
			})
		}
		all.Wait()
		mu.Lock()
		defer mu.Unlock()
		if fmt.Sprint(reported) != "[0s after 30s]" {
			t.Errorf("reported: %v", reported)
		}
	})
}

// TestSilenceOfOneOperationEndsTheNext: what begins in the half minute after it fails at once.
// What was under way has no further try, and what begins later has one, until an answer comes.
func TestSilenceOfOneOperationEndsTheNext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := pacedRetries(8, 0)
		silent := func() error {
			time.Sleep(requestTimeout)
			return &url.Error{Op: "Get", URL: "http://server", Err: os.ErrDeadlineExceeded}
		}
		takes := func(name string, want time.Duration) {
			began := time.Now()
			var lost *Silence
			if err := r.Do(t.Context(), silent); !errors.As(err, &lost) || time.Since(began).Round(10*time.Second) != want.Round(10*time.Second) || lost.Lasted < 2*requestTimeout {
				t.Errorf("%s: %v after %v", name, err, time.Since(began))
			}
		}
		var all sync.WaitGroup
		all.Go(func() {
			time.Sleep(100 * time.Second)
			takes("under way", requestTimeout)
		})
		takes("the first", 2*requestTimeout)
		takes("at once", 0)
		all.Wait() // for 25 s
		time.Sleep(time.Minute)
		takes("later", requestTimeout)
		takes("at once after that", 0)
		time.Sleep(time.Minute)
		if err := r.Do(t.Context(), func() error { return nil }); err != nil {
			t.Error(err)
		}
		takes("after an answer", 2*requestTimeout)
	})
}

// TestSilenceIsReportedAgain after an answer, and not while others are answered.
func TestSilenceIsReportedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := pacedRetries(8, 0)
		began := time.Now()
		var mu sync.Mutex // guards reported
		var reported []time.Duration
		r.Pace.OnSilence = func(since time.Time) {
			mu.Lock()
			defer mu.Unlock()
			reported = append(reported, since.Sub(began))
		}
		ask := func(takes time.Duration) {
			if err := r.Do(t.Context(), func() error { time.Sleep(takes); return nil }); err != nil {
				t.Error(err)
			}
		}
		ask(40 * time.Second) // from 0 s
		ask(time.Second)
		ask(50 * time.Second) // from 41 s
		stop := work(r, 1, func() error { time.Sleep(time.Second); return nil })
		ask(50 * time.Second)
		stop()
		mu.Lock()
		defer mu.Unlock()
		if fmt.Sprint(reported) != "[0s 41s]" {
			t.Errorf("silences from %v", reported)
		}
	})
}

// TestSilenceIsReportedBeforeTheRequestEnds: a message that has begun is complete before the run goes on,
// so it is not printed after the report.
func TestSilenceIsReportedBeforeTheRequestEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := pacedRetries(8, 0)
		var reported atomic.Bool
		r.Pace.OnSilence = func(time.Time) {
			time.Sleep(2 * time.Second) // a slow terminal
			reported.Store(true)
		}
		if err := r.Do(t.Context(), func() error { time.Sleep(31 * time.Second); return nil }); err != nil {
			t.Fatal(err)
		}
		if !reported.Load() {
			t.Error("the request ended before the message was printed")
		}
	})
}
