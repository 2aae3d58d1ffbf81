package e2e

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"regsweep/guard"
	"regsweep/storage"
)

// midway is a storage whose registry turns writable while a batch is removed. The batch
// takes longer than the watch needs to see that. It is a fake of the time that this takes.
type midway struct {
	storage.Store
	turn             func()
	removed, refused *atomic.Int64
}

func (s midway) Remove(ctx context.Context, refs []storage.Ref) []storage.Outcome {
	if !strings.HasPrefix(refs[0].Path, storage.BlobsDir+"/") {
		return s.Store.Remove(ctx, refs)
	}
	var outcomes []storage.Outcome
	for _, ref := range refs {
		outcome := s.Store.Remove(ctx, []storage.Ref{ref})[0]
		outcomes = append(outcomes, outcome)
		if outcome.Err != nil {
			s.refused.Add(1)
			continue
		}
		if s.removed.Add(1) == 1 {
			s.turn()
		}
		time.Sleep(100 * time.Millisecond)
	}
	return outcomes
}

// stoppedHeadline is the first line of a refusal once something is removed.
const stoppedHeadline = "STOPPED: nothing more may be removed.\n"

// TestNoRemovalBeginsOnceTheRegistryIsWritable: not even the rest of a batch that has begun. What
// went before is reported, and nothing else (4, 6).
func TestNoRemovalBeginsOnceTheRegistryIsWritable(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	_, alive := s.unrelated()
	const garbage = 200
	for n := range garbage {
		s.tree.Blob(layer(n + 100).Content)
	}
	s.must(s.registry.SetReadOnly(true))
	before := len(s.files())
	var removed, refused atomic.Int64
	wrapped.Store(s.tree.Root(), func(store storage.Store) storage.Store {
		return midway{store, func() { s.must(s.registry.SetReadOnly(false)) }, &removed, &refused}
	})
	defer wrapped.Delete(s.tree.Root())
	run := s.gc()
	if run.code != 3 || !strings.Contains(run.report.Error, "writable") {
		t.Errorf("it ends with %d, %q", run.code, run.report.Error)
	}
	gone := before - len(s.files())
	if want := fmt.Sprintf("; stopped after %d of %d removals", gone, garbage); !strings.HasSuffix(run.report.Error, want) {
		t.Errorf("it says %q, want %q at its end", run.report.Error, want)
	}
	if refused.Load() == 0 || gone != int(removed.Load()) || gone != run.report.Removed.Blobs.Count {
		t.Errorf("%d of %d blobs are gone, %d were removed, %d refused, and it reports %d", gone, garbage, removed.Load(), refused.Load(), run.report.Removed.Blobs.Count)
	}
	if strings.Contains(run.stderr, "not removed") {
		t.Errorf("it reports removals as failed that it has not begun: %s", run.stderr)
	}

	// The little that --quiet prints says so too.
	s.must(s.registry.SetReadOnly(true))
	before = len(s.files())
	removed.Store(0)
	code, stdout, stderr := regsweep(s, "gc", "--quiet", "--yes", "--registry", s.registry.URL(), s.config(s.registry.ConfigYAML()))
	want := fmt.Sprintf("; stopped after %d of %d removals\n", before-len(s.files()), garbage-gone)
	if code != 3 || stdout != "" || !strings.HasPrefix(stderr, stoppedHeadline) || !strings.HasSuffix(stderr, want) {
		t.Errorf("quiet, it ends with %d, %q, %q, want %q and %q", code, stdout, stderr, stoppedHeadline, want)
	}
	s.pull("afterwards", s.client, []image{alive})
}

// TestARequestThatWasSentIsWaitedFor: the registry turns writable while a bucket works on a
// request. The answer is waited for and reported, and no other request is sent (4, 6).
func TestARequestThatWasSentIsWaitedFor(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.plant("team/app", "v1", app(1, 2))
	for n := range 5 {
		s.plant("team/app", "", app(10+n))
	}
	s.on(bucket)
	s.must(s.registry.SetReadOnly(true))
	behind, err := url.Parse(s.registry.URL())
	s.must(err)
	// What stands before the registry sees how the registry answers to a probe.
	var writable atomic.Bool
	seen := make(chan struct{})
	see := sync.OnceFunc(func() { close(seen) })
	pass := httputil.NewSingleHostReverseProxy(behind)
	pass.ModifyResponse = func(r *http.Response) error {
		if writable.Load() && r.Request.Method == http.MethodPut && r.StatusCode != http.StatusMethodNotAllowed {
			see()
		}
		return nil
	}
	registry := httptest.NewServer(pass)
	t.Cleanup(registry.Close)

	var sent atomic.Int64
	front := &faultyFront{matches: func(r *http.Request, body string) bool {
		if r.Method != http.MethodPost || !r.URL.Query().Has("delete") || strings.Contains(body, "/.regsweep/") {
			return false
		}
		if sent.Add(1) > 1 {
			return false
		}
		s.must(s.registry.SetReadOnly(false))
		writable.Store(true)
		select {
		case <-seen:
			time.Sleep(time.Second) // until the watch has drawn its conclusion
		case <-time.After(20 * time.Second):
			t.Error("nobody asks the registry meanwhile")
		}
		return false
	}}
	config := s.behindFront(front)
	run := s.gcOn(config, "-m", "--no-cache", "--registry", registry.URL)
	if run.code != 3 || !strings.Contains(run.report.Error, "writable") {
		t.Errorf("it ends with %d, %q", run.code, run.report.Error)
	}
	if run.report.Removed.Revisions.Count != 5 || run.report.Removed.Blobs.Count != 0 || sent.Load() != 1 {
		t.Errorf("it reports %v, and sent %d requests", run.report.Removed.counts(), sent.Load())
	}
	s.pull("afterwards", s.client, []image{pulls("team/app", "v1")})
}

// TestASuspendedRunProvesAnewBeforeItRemoves: while it is suspended, for less time than its lock
// lives, the registry turns writable and what had been garbage is pushed again. When it wakes it
// removes nothing (1, 4).
func TestASuspendedRunProvesAnewBeforeItRemoves(t *testing.T) {
	t.Parallel()
	onBoth(t, func(c *contested) {
		first := startProgram(c.T, "regsweep", nil, c.slowly...)
		c.midway()
		first.signal(c.T, syscall.SIGSTOP)
		if c.left() == 0 {
			c.Fatal("it was done already")
		}
		suspended := time.Now()
		c.must(c.registry.SetReadOnly(false))
		pushed := []image{c.image}
		for n := range 60 { // the garbage of contest
			tag := fmt.Sprintf("again-%d", n)
			m := app(10+3*n, 11+3*n)
			c.push("team/app:"+tag, m)
			pushed = append(pushed, pulls("team/app", tag, m))
		}
		time.Sleep(guard.ProofAge + time.Second - time.Since(suspended))
		everything, sent := len(c.files()), c.sent()
		first.signal(c.T, syscall.SIGCONT)
		c.proceed()
		// Where the pushes took longer than the lock lives, that is what it finds first.
		told := c.ends(first, 3, 5)
		isLost := strings.Contains(told, "the lock is lost")
		if !isLost && !strings.Contains(told, "writable") {
			c.Errorf("it says %q", told)
		}
		if !isLost && c.isLocked() {
			c.Error("its lock is left")
		} else if c.tree != nil && !isLost {
			everything-- // the lock
		}
		gone := everything - len(c.files())
		// On a filesystem each of four batches may have been between its lease and a removal.
		if c.tree != nil && gone > 4 || c.tree == nil && c.sent() != sent {
			c.Errorf("it went on: %d files are gone, %d more removals were sent", gone, c.sent()-sent)
		}
		if gone == 0 || c.tree == nil {
			c.pull("after it all", c.client, pushed)
		}
	})
}
