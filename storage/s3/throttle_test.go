package s3

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"regsweep/internal/miniotest"
	"regsweep/storage"
	"regsweep/storage/storagetest"

	"golang.org/x/sync/errgroup"
)

// throttled is a proxy before a real server. It refuses some of the first requests as too many.
type throttled struct {
	asked, refused atomic.Int64
	to             http.Handler
}

func (s *throttled) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if n := s.asked.Add(1); n > 20 && n <= 60 {
		s.refused.Add(1)
		writeFault(w, 503, "SlowDown")
		return
	}
	s.to.ServeHTTP(w, r)
}

// TestS3ThrottledRunLosesNothing: a real server refuses forty requests, and all objects are still
// listed, read and removed.
func TestS3ThrottledRunLosesNothing(t *testing.T) {
	t.Parallel()
	server := miniotest.SharedMinIO(t)
	bucket := server.NewBucketT(t)
	plant := func(path string) { server.PutT(t, bucket, storage.Root+"/"+path, path) }
	const blobs = 400
	want := map[string]string{}
	var group errgroup.Group
	group.SetLimit(8)
	for i := range blobs {
		path := storagetest.BlobPath("sha256", storagetest.HexOf(i))
		want[path] = ""
		group.Go(func() error { plant(path); return nil })
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	target, err := url.Parse(server.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	gate := &throttled{
		to: &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = target.Scheme, target.Host, r.In.Host
		}},
	}
	proxy := httptest.NewServer(gate)
	t.Cleanup(proxy.Close)
	parameters := server.Parameters(bucket, "")
	parameters["regionendpoint"] = proxy.URL
	store := storagetest.MustOpen(t)(Open(t.Context(), parameters, Options{}))

	listed := storagetest.Scan(t, store, storage.BlobsDir)
	storagetest.SamePaths(t, storagetest.KeysOf(listed), want)
	var mu sync.Mutex
	read := map[string]bool{}
	group.SetLimit(store.Concurrency())
	for path := range listed {
		group.Go(func() error {
			content, err := store.Read(t.Context(), path, 1000)
			if err == nil && string(content) != path {
				err = fmt.Errorf("%s holds %q", path, content)
			}
			mu.Lock()
			defer mu.Unlock()
			read[path] = true
			return err
		})
	}
	if err := group.Wait(); err != nil || len(read) != blobs {
		t.Fatalf("%d read: %v", len(read), err)
	}
	if refused := gate.refused.Load(); refused != 40 {
		t.Errorf("%d requests were refused", refused)
	}
	if requests := store.Requests(); requests.Get+requests.List != gate.asked.Load() {
		t.Errorf("%+v is counted, not %d", requests, gate.asked.Load())
	}
	var refs []storage.Ref
	for path := range listed {
		refs = append(refs, storage.Ref{Path: path})
	}
	for _, outcome := range store.Remove(t.Context(), refs) {
		if outcome.Err != nil {
			t.Fatal(outcome.Err)
		}
	}
	if left := storagetest.Scan(t, store, storage.BlobsDir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// TestS3ThrottledKeysSlowDownTheRest: an accepted bulk removal may refuse single keys as too
// many. That counts like a refusal of the whole request.
func TestS3ThrottledKeysSlowDownTheRest(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var times []time.Time
	store, _ := fakeServer(t, func(n int, w http.ResponseWriter, r *http.Request) {
		keys, _ := readDelete(t, r)
		mu.Lock()
		times = append(times, time.Now())
		mu.Unlock()
		var answer strings.Builder
		for _, key := range keys {
			if n == 1 {
				fmt.Fprintf(&answer, `<Error><Key>%s</Key><Code>SlowDown</Code><Message>m</Message></Error>`, key)
			} else {
				fmt.Fprintf(&answer, `<Deleted><Key>%s</Key></Deleted>`, key)
			}
		}
		fmt.Fprintf(w, `<DeleteResult>%s</DeleteResult>`, answer.String())
	})
	store.retries.Pace.FirstWait = time.Second
	if outcome := store.Remove(t.Context(), []storage.Ref{{Path: "blobs/a"}, {Path: "blobs/b"}})[0]; outcome.Err != nil {
		t.Fatal(outcome.Err)
	}
	if waited := times[1].Sub(times[0]); waited < 400*time.Millisecond {
		t.Errorf("the next request came %v after a key was refused", waited)
	}
}
