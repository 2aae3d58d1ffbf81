package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"regsweep/internal/miniotest"
	"regsweep/internal/registrytest"
	"regsweep/storage"
)

// spoiledFront stands before a real S3 server and hands its answers on, but for one.
type spoiledFront struct {
	*httptest.Server
	// matches is asked of each request; of those that it takes, the one counted at, from
	// 1, is spoiled, or with 0 each.
	matches func(r *http.Request, body string) bool
	at      int
	// spoil answers in the server's stead. answer asks the server.
	spoil func(w http.ResponseWriter, answer func() *http.Response)

	mu           sync.Mutex
	counted, met int
	dead         bool
}

func (f *spoiledFront) start(t testing.TB, endpoint string) {
	t.Helper()
	behind, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the client has gone
		}
		answer := func() *http.Response {
			out := r.Clone(r.Context())
			out.URL.Scheme, out.URL.Host, out.RequestURI = behind.Scheme, behind.Host, ""
			out.Body = io.NopCloser(bytes.NewReader(body))
			response, err := http.DefaultTransport.RoundTrip(out)
			if err != nil {
				return nil
			}
			return response
		}
		f.mu.Lock()
		strikes := f.matches(r, string(body))
		if strikes {
			f.counted++
			strikes = f.at == 0 || f.at == f.counted
		}
		if strikes {
			f.met++
		}
		dead := f.dead
		f.mu.Unlock()
		switch {
		case dead:
			cut(w)
		case strikes:
			f.spoil(w, answer)
		default:
			hand(w, answer(), nil)
		}
	}))
	t.Cleanup(func() {
		f.Close()
		if f.met == 0 {
			t.Error("the fault was never met")
		}
	})
}

// hand hands an answer on, its body changed.
func hand(w http.ResponseWriter, answer *http.Response, change func(body []byte) []byte) {
	if answer == nil {
		cut(w)
		return
	}
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.Body.Close() != nil {
		cut(w)
		return
	}
	if change != nil {
		body = change(body)
		answer.Header.Del("Content-Length")
	}
	for name, values := range answer.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.StatusCode)
	if _, err := w.Write(body); err != nil {
		return // the client has gone
	}
}

// cut cuts the connection.
func cut(w http.ResponseWriter) {
	connection, _, err := w.(http.Hijacker).Hijack()
	if err == nil && connection.Close() != nil {
		return
	}
}

// changed answers with the server's answer changed.
func altered(change func(body []byte) []byte) func(http.ResponseWriter, func() *http.Response) {
	return func(w http.ResponseWriter, answer func() *http.Response) { hand(w, answer(), change) }
}

func refused(status int, code string) func(http.ResponseWriter, func() *http.Response) {
	return func(w http.ResponseWriter, _ func() *http.Response) {
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(status)
		fmt.Fprintf(w, "<Error><Code>%s</Code><Message>a fault on purpose</Message></Error>", code)
	}
}

var (
	isListing = func(r *http.Request, _ string) bool {
		return r.URL.Query().Get("list-type") == "2" && strings.Contains(r.URL.Query().Get("prefix"), "repositories")
	}
	isRead = func(r *http.Request, _ string) bool {
		return r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/")
	}
	// The removal of the lock is not among them: the next run would watch it for a minute.
	isRemoval = func(r *http.Request, body string) bool {
		return r.Method == http.MethodPost && r.URL.Query().Has("delete") && strings.Contains(body, "/repositories/")
	}
	isWrite = func(r *http.Request, _ string) bool { return r.Method != http.MethodGet && r.Method != http.MethodHead }
	isAny   = func(*http.Request, string) bool { return true }

	truncatedElement = regexp.MustCompile(`<IsTruncated>\w+</IsTruncated>`)
	contentsElement  = regexp.MustCompile(`(?s)<Contents>.*?</Contents>`)
)

// TestSpoiledAnswersOfS3: an S3 server, or a proxy before it, gives an answer that is well formed and
// wrong. The run waits and asks again, or stops. Nothing that is alive is removed, and without the
// fault the next run ends as it should (1). For requests that fail see TestEachRequestToS3Fails.
func TestSpoiledAnswersOfS3(t *testing.T) {
	t.Parallel()
	manyAlike(t)
	withoutOne := func(body []byte) []byte {
		all := contentsElement.FindAllIndex(body, -1)
		if len(all) == 0 {
			return body
		}
		one := all[len(all)/2]
		return slices.Concat(body[:one[0]], body[one[1]:])
	}
	twice := func(body []byte) []byte {
		all := contentsElement.FindAllIndex(body, -1)
		if len(all) == 0 {
			return body
		}
		one := all[len(all)/2]
		return slices.Concat(body[:one[1]], body[one[0]:])
	}
	for _, test := range []struct {
		name    string
		matches func(*http.Request, string) bool
		at      int
		spoil   func(http.ResponseWriter, func() *http.Response)
		exit    int
	}{
		{"a listing's XML ends half way, once", isListing, 2, altered(func(b []byte) []byte { return b[:len(b)/2] }), 0},
		{"a listing says not whether it is cut", isListing, 0, altered(func(b []byte) []byte { return truncatedElement.ReplaceAll(b, nil) }), 1},
		{"a listing is cut, and does not go on", isListing, 0, altered(func(b []byte) []byte {
			return truncatedElement.ReplaceAll(b, []byte("<IsTruncated>true</IsTruncated>"))
		}), 1},
		{"a listing has a key twice", isListing, 0, altered(twice), 1},
		{"the inventory's listing lacks a key", isListing, 2, altered(withoutOne), 1},
		{"a manifest has a bit flipped", isRead, 5, altered(flipped(100)), 4},
		{"every manifest has a bit flipped, so that no registry can be known by one", isRead, 0, altered(flipped(100)), 3},
		{"a removal says nothing of its keys", isRemoval, 0, altered(func([]byte) []byte { return []byte("<DeleteResult></DeleteResult>") }), 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newFixture(t)
			want, _ := faulty(s)
			s.moveToBucket()
			s.must(s.registry.SetReadOnly(true))
			before := s.files()
			front := &spoiledFront{matches: test.matches, at: test.at, spoil: test.spoil}
			front.start(t, s.s3.Endpoint)
			run := s.gcOn(s.config(strings.ReplaceAll(s.registry.ConfigYAML(), s.s3.Endpoint, front.URL)), "--registry", s.registry.URL(), "--no-cache")
			if run.code != test.exit {
				t.Errorf("ends with %d, want %d: %s", run.code, test.exit, run.report.Error)
			}
			if test.exit == 0 {
				s.same("the files", keys(s.files()), keys(without(before, want.goes)))
			}
			s.pull("after the run", s.client, want.alive)
			if next := s.gc("--no-cache"); next.code != 0 {
				t.Errorf("the next run ends with %d: %s", next.code, next.report.Error)
			}
			s.same("the files after the next run", keys(s.files()), keys(without(before, want.goes)))
			s.pull("after the next run", s.client, want.alive)
		})
	}
}

// TestKilledAtEachRequestToS3: the program is killed when a request of its comes to the
// server, or when the answer would come to it, and the bucket is whole; the next run leaves
// what an undisturbed one leaves, byte for byte (3).
func TestKilledAtEachRequestToS3(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	want, _ := faulty(s)
	root := s.tree.Root()
	s.moveToBucket()
	s.must(s.registry.SetReadOnly(true))
	layout := strings.TrimPrefix(s3Root, "/") + "/"
	snapshot := func() map[string]string {
		files, err := s.s3.Snapshot(t.Context(), s.bucket, s3Root)
		s.must(err)
		return files
	}
	args := func(endpoint string) []string {
		config := s.config(strings.ReplaceAll(s.registry.ConfigYAML(), s.s3.Endpoint, endpoint))
		return []string{"gc", config, "--no-cache", "--registry-stopped", "--concurrency=1"}
	}
	s.must(s.registry.Stop()) // it would have to answer for each of many runs
	writes := 0
	count := &spoiledFront{at: -1, met: 1, matches: func(r *http.Request, body string) bool {
		if isWrite(r, body) {
			writes++
		}
		return true
	}}
	count.start(t, s.s3.Endpoint)
	if code := start(t, args(count.URL)...).exit(t); code != 0 {
		t.Fatalf("undisturbed it ends with %d", code)
	}
	after := snapshot()
	requests := count.counted
	if requests < 12 || writes < 4 {
		t.Fatalf("only %d requests, and %d that change something", requests, writes)
	}
	s.serve(registrytest.Config{Storage: s.s3.Storage(s.bucket, s3Root), ReadOnly: true})
	// A request that changes nothing is like any other: of these every fifth is tried.
	kill := func(matches func(*http.Request, string) bool, k int) {
		for _, arrives := range []bool{false, true}[k%2 : k%2+1] {
			what := fmt.Sprintf("killed at request %d, which arrives: %t", k, arrives)
			s.must(miniotest.UploadTree(t.Context(), s.s3, s.bucket, s3Root, root))
			if code := killedAt(t, s.s3.Endpoint, matches, k, arrives, args); code != -1 {
				t.Errorf("%s: ends with %d", what, code)
			}
			s.pull(what, s.client, want.alive)
			lock := layout + layoutRoot + ".regsweep/lock"
			s.must(s.removeKey(lock))
			if code := start(t, args(s.s3.Endpoint)...).exit(t); code != 0 {
				t.Errorf("%s: the next run ends with %d", what, code)
			}
			if d := difference(snapshot(), after); d != "" {
				t.Errorf("%s: after the next run:%s", what, s.readable(d))
			}
		}
	}
	// The first listing ends with the first page. Requests that it would have sent at the same time
	// may not have been sent, so there are one or two more or fewer. The last ones are writes.
	for k := 1; k <= requests-2; k += apart(5) {
		kill(isAny, k)
	}
	for k := 1; k <= writes; k += apart(1) {
		kill(isWrite, k)
	}
}

// killedAt kills a command at the k-th matching request that it sends to a server, which
// arrives there or does not, and returns what it ends with. args are for the endpoint given.
func killedAt(t *testing.T, endpoint string, matches func(*http.Request, string) bool, k int, arrives bool, args func(endpoint string) []string) int {
	t.Helper()
	var run *running
	started := make(chan struct{})
	front := &spoiledFront{matches: matches, at: k}
	front.spoil = func(w http.ResponseWriter, answer func() *http.Response) {
		if arrives {
			answer()
		}
		<-started
		front.mu.Lock()
		front.dead = true
		front.mu.Unlock()
		run.signal(t, killSignal)
		cut(w)
	}
	front.start(t, endpoint)
	run = start(t, args(front.URL)...)
	close(started)
	return run.exit(t)
}

// TestSilentStorageIsNamed: a storage accepts connections and never answers. The run says so,
// ends, and names the endpoint. A step that can do without its answer costs no minutes of
// its own: the run ends with the first operation.
func TestSilentStorageIsNamed(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	release := make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		asked.Add(1)
		<-release
	}))
	t.Cleanup(silent.Close)
	t.Cleanup(func() { close(release) })
	s := newFixture(t)
	const bucket = "silent-bucket"
	transports.Store(bucket, storage.Transport{Haste: 500, Silence: 500})
	t.Cleanup(func() { transports.Delete(bucket) })
	file := s.config("version: 0.1\nstorage: {s3: {bucket: " + bucket + ", accesskey: a, secretkey: s, forcepathstyle: true, regionendpoint: '" + silent.URL + "'}}\nhttp: {addr: ':5000'}\n")
	code, _, stderr := regsweep(s, "gc", "-d", file, "--registry-stopped", "--no-cache", "--quiet")
	if code != 1 || strings.Count(stderr, "no answer from "+silent.URL+" since ") != 1 ||
		!strings.Contains(stderr, "s3://"+bucket+"/docker/registry/v2/blobs/: no answer from "+silent.URL+" for ") ||
		!strings.HasSuffix(stderr, "s: check the endpoint and the firewall\n") {
		t.Errorf("ends with %d: %s", code, stderr)
	}
	if n := asked.Load(); n != 2 {
		t.Errorf("%d requests, want the two of the first operation", n)
	}
}
