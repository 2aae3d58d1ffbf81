package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestSilenceEndsARun: a server that answers nothing is reported after 30 s, once, and an
// operation ends within three minutes.
func TestSilenceEndsARun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := pacedRetries(8, 0)
		began := time.Now()
		var mu sync.Mutex // guards reported
		var reported []string
		r.pace.onSilence = func(since time.Time) {
			mu.Lock()
			defer mu.Unlock()
			reported = append(reported, fmt.Sprint(since.Sub(began), " after ", time.Since(began)))
		}
		var all sync.WaitGroup
		for range 4 { // all that are under way
			all.Go(func() {
				err := r.do(t.Context(), func() error {
					time.Sleep(s3Silence)
					return sent(os.ErrDeadlineExceeded)
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
			time.Sleep(s3Silence)
			return sent(os.ErrDeadlineExceeded)
		}
		takes := func(name string, want time.Duration) {
			began := time.Now()
			var lost *silence
			if err := r.do(t.Context(), silent); !errors.As(err, &lost) || time.Since(began).Round(10*time.Second) != want.Round(10*time.Second) || lost.lasted < 2*s3Silence {
				t.Errorf("%s: %v after %v", name, err, time.Since(began))
			}
		}
		var all sync.WaitGroup
		all.Go(func() {
			time.Sleep(100 * time.Second)
			takes("under way", s3Silence)
		})
		takes("the first", 2*s3Silence)
		takes("at once", 0)
		all.Wait() // for 25 s
		time.Sleep(time.Minute)
		takes("later", s3Silence)
		takes("at once after that", 0)
		time.Sleep(time.Minute)
		if err := r.do(t.Context(), func() error { return nil }); err != nil {
			t.Error(err)
		}
		takes("after an answer", 2*s3Silence)
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
		r.pace.onSilence = func(since time.Time) {
			mu.Lock()
			defer mu.Unlock()
			reported = append(reported, since.Sub(began))
		}
		ask := func(takes time.Duration) {
			if err := r.do(t.Context(), func() error { time.Sleep(takes); return nil }); err != nil {
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

// TestS3ServerThatNeverAnswers: it accepts connections, or answers for a while and stops, or
// stops within an answer. The error names the endpoint.
func TestS3ServerThatNeverAnswers(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]func(n int, w http.ResponseWriter, release chan struct{}){
		"from the start": func(_ int, _ http.ResponseWriter, release chan struct{}) { <-release },
		"within a body": func(_ int, w http.ResponseWriter, release chan struct{}) {
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, "<ListBucketResult>")
			w.(http.Flusher).Flush()
			<-release
		},
		"after two answers": func(n int, w http.ResponseWriter, release chan struct{}) {
			if n > 2 {
				<-release
			}
			io.WriteString(w, listing(fmt.Sprint(n), fmt.Sprint("blobs/", n)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			release := make(chan struct{})
			usual, asked := fakeServer(t, func(n int, w http.ResponseWriter, r *http.Request) { answer(n, w, release) })
			t.Cleanup(func() { close(release) }) // before the server closes, which waits for its answers
			var reports atomic.Int32
			opened, err := Open(t.Context(), Config{
				Driver: "s3", Transport: Transport{Haste: 500, Silence: 500},
				Parameters: Parameters{"accesskey": "a", "secretkey": "s", "bucket": "bucket", "regionendpoint": usual.parameters.endpoint, "forcepathstyle": true},
				OnSilence: func(endpoint string, _ time.Time) {
					if reports.Add(1); endpoint != usual.parameters.endpoint {
						t.Errorf("silent is %s", endpoint)
					}
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			store := opened.(*s3Store)
			after, token := "", ""
			for err == nil {
				var page s3Page
				page, err = store.page(context.WithoutCancel(t.Context()), BlobsDir, after, token)
				after, token = page.last, page.token
			}
			if !strings.Contains(err.Error(), "no answer from "+usual.parameters.endpoint) {
				t.Error(err)
			}
			if n := asked.Load(); n > 6 || reports.Load() < 1 {
				t.Errorf("%d requests, reported %d times", n, reports.Load())
			}
		})
	}
}
