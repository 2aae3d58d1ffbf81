package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"regsweep/internal/imagetest"
	"regsweep/storage"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"
)

// httpFault makes requests fail where they leave the S3 client for the network.
type httpFault struct {
	kind    string                     // one of httpFaults
	matches func(r *http.Request) bool // of these requests
	at      int                        // the one that fails, counted from 1; 0 is none
	lasting bool                       // it, and all that follow it

	mu           sync.Mutex
	counted, met int
	seen         []string
}

// httpFaults are the ways in which a request fails. "reset" and "lost" cut the connection
// before the server has read the request, and after it has carried it out. "no bucket" is a 404
// for the whole bucket. "short" is a listing that ends early as if that were all; it never
// lasts, since a server that always gives the same part can't be found out.
var httpFaults = []string{"403", "404", "no bucket", "503", "reset", "lost", "truncated", "short"}

// entryOf matches an entry of a listing.
var entryOf = regexp.MustCompile(`(?s)<(Contents|CommonPrefixes)>.*?</(Contents|CommonPrefixes)>`)

// shortened drops the last quarter of a listing and says that this is its end.
func shortened(body []byte) []byte {
	all := entryOf.FindAllIndex(body, -1)
	if len(all) < 2 {
		return body
	}
	from, to := all[len(all)*3/4][0], all[len(all)-1][1]
	return bytes.Replace(slices.Concat(body[:from], body[to:]), []byte("<IsTruncated>true<"), []byte("<IsTruncated>false<"), 1)
}

func anyRequest(*http.Request) bool { return true }

// isSampled reports whether the k-th case is tried, if one in n is.
func isSampled(k, n int) bool { return *everyFault || k%n == 0 }

// wrap is the Transport.Wrap of the fault.
func (f *httpFault) wrap(network storage.HTTPClient) storage.HTTPClient {
	return faultyNetwork{f, network}
}

type faultyNetwork struct {
	f       *httpFault
	network storage.HTTPClient
}

func (n faultyNetwork) Do(r *http.Request) (*http.Response, error) {
	if !n.f.strikes(r) {
		return n.network.Do(r)
	}
	reset := &url.Error{Op: r.Method, URL: r.URL.Redacted(), Err: syscall.ECONNRESET}
	switch n.f.kind {
	case "403":
		return answer(r, 403, "AccessDenied"), nil
	case "404":
		if object := strings.Count(strings.Trim(r.URL.Path, "/"), "/") > 0; object {
			return answer(r, 404, "NoSuchKey"), nil
		}
		return answer(r, 404, "NoSuchBucket"), nil
	case "no bucket":
		return answer(r, 404, "NoSuchBucket"), nil
	case "503":
		return answer(r, 503, "SlowDown"), nil
	case "reset":
		return nil, reset
	}
	response, err := n.network.Do(r)
	if err != nil {
		return response, err
	}
	body, err := io.ReadAll(response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil {
		return nil, err
	}
	isShort := n.f.kind == "short" && r.URL.Query().Get("list-type") == "2"
	if isShort {
		body = shortened(body)
		response.Body, response.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		response.Header.Set("Content-Length", strconv.Itoa(len(body)))
		return response, nil
	}
	if n.f.kind == "lost" || len(body) == 0 {
		return nil, reset
	}
	response.Body = io.NopCloser(io.MultiReader(bytes.NewReader(body[:len(body)/2]), failing{io.ErrUnexpectedEOF}))
	return response, nil
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// answer is one that the server never gave.
func answer(r *http.Request, status int, code string) *http.Response {
	text := fmt.Sprintf(`<?xml version="1.0"?><Error><Code>%s</Code><Message>a fault on purpose</Message></Error>`, code)
	if r.Method == http.MethodHead {
		text = ""
	}
	return &http.Response{
		StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header:        http.Header{"Content-Type": {"application/xml"}, "Content-Length": {strconv.Itoa(len(text))}},
		ContentLength: int64(len(text)), Body: io.NopCloser(strings.NewReader(text)),
	}
}

func (f *httpFault) strikes(r *http.Request) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.matches(r) {
		return false
	}
	f.counted++
	f.seen = append(f.seen, requestOf(r))
	strikes := f.at > 0 && (f.counted == f.at || f.lasting && f.counted > f.at)
	if strikes {
		f.met++
	}
	return strikes
}

// requestOf names a request, for messages and to tell requests apart.
func requestOf(r *http.Request) string {
	query := r.URL.Query()
	name := r.Method + " " + inBucket.ReplaceAllString(r.URL.Path, "")
	for _, key := range []string{"prefix", "delimiter", "uploads", "versions", "delete"} {
		if query.Has(key) {
			name += " " + key + " " + query.Get(key)
		}
	}
	return runName.ReplaceAllString(name, "/RUN/") // each has a name of its own
}

var (
	inBucket = regexp.MustCompile(`^/[^/]+/?`)
	runName  = regexp.MustCompile(`/[0-9]{8}T[0-9]{6}Z-[0-9a-f]+/`)
)

// faultyBucket is a registry in a bucket, and what a command makes of it.
type faultyBucket struct {
	*fixture
	args   func(f *faultyBucket) []string
	before map[string]string // the content of all objects before the command
	etags  map[string]string // and their entity tags
	needed []string          // what the tags need
	alive  []image
	lifted bool // what is missing afterwards may lie in a quarantine
}

// contents are all objects of the layout with what is in them.
func (s *fixture) contents() map[string]string {
	s.Helper()
	files := map[string]string{}
	var mu sync.Mutex
	var g errgroup.Group
	g.SetLimit(8)
	for name := range s.tags() {
		g.Go(func() error {
			key := s.key(name)
			object, err := s.s3.Client().GetObject(s.Context(), &s3.GetObjectInput{Bucket: &s.bucket, Key: &key})
			if err != nil {
				return err
			}
			content, err := io.ReadAll(object.Body)
			mu.Lock()
			files[name] = string(content)
			mu.Unlock()
			return errors.Join(err, object.Body.Close())
		})
	}
	s.must(g.Wait())
	return files
}

// tags are the entity tags of all objects of the layout.
func (s *fixture) tags() map[string]string {
	s.Helper()
	found := map[string]string{}
	prefix := s.key("")
	pages := s3.NewListObjectsV2Paginator(s.s3.Client(), &s3.ListObjectsV2Input{Bucket: &s.bucket, Prefix: &prefix})
	for pages.HasMorePages() {
		page, err := pages.NextPage(s.Context())
		s.must(err)
		for _, object := range page.Contents {
			found[strings.TrimPrefix(*object.Key, prefix)] = *object.ETag
		}
	}
	return found
}

// plantFaulty makes a registry with something of everything in it.
func plantFaulty(t *testing.T) *faultyBucket {
	s := newFixture(t)
	index := imagetest.Index(imagetest.OCI, app(1, 2), app(1, 3))
	signature := imagetest.Referrer(index, "application/vnd.example.signature", []byte("signed"))
	single, former := app(1, 4), app(1, 5)
	s.plant("app", "former", former)
	s.plant("app", "former", single)
	s.plant("app", "v1", index)
	s.plant("app", "", signature)
	s.plant("team/other", "v1", app(2, 7))
	s.plant("team/other", "", app(2, 8))
	s.tree.LayerLink("left/over", s.tree.Blob([]byte("all that is left")))
	s.tree.Blob([]byte("an unreferenced blob"))
	s.tree.Upload("app", "old-upload", time.Now().Add(-1000*time.Hour), []byte("half"))
	s.moveToBucket()
	s.must(s.registry.SetReadOnly(true))
	f := &faultyBucket{fixture: s, alive: []image{pulls("app", index, signature, single, "v1", "former"), pulls("team/other", "v1")}}
	f.remember()
	f.needed = neededByTags(f.before)
	if len(f.needed) < 30 {
		t.Fatalf("the oracle finds only %d files", len(f.needed))
	}
	return f
}

// remember makes what there is now what reset puts back.
func (f *faultyBucket) remember() {
	f.Helper()
	f.before, f.etags = f.contents(), f.tags()
}

// keepVersions lets the bucket keep versions from now on, with one of each object.
func (f *faultyBucket) keepVersions() {
	f.Helper()
	_, err := f.s3.Client().PutBucketVersioning(f.Context(), &s3.PutBucketVersioningInput{
		Bucket: &f.bucket, VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled},
	})
	f.must(err)
	f.etags = nil
	f.reset()
	f.remember()
}

func (f *faultyBucket) reset() {
	f.Helper()
	now := f.tags()
	var g errgroup.Group
	g.SetLimit(8)
	for name := range now {
		if _, was := f.before[name]; !was {
			g.Go(func() error { return f.removeKey(f.key(name)) })
		}
	}
	for name, content := range f.before {
		if now[name] != f.etags[name] {
			g.Go(func() error {
				key := f.key(name)
				_, err := f.s3.Client().PutObject(f.Context(), &s3.PutObjectInput{Bucket: &f.bucket, Key: &key, Body: strings.NewReader(content)})
				return err
			})
		}
	}
	f.must(g.Wait())
	for _, name := range f.multiparts() {
		f.Errorf("a multipart upload is left: %s", name)
	}
}

// run runs the command with a fault.
func (f *faultyBucket) run(fault *httpFault) gcRun {
	f.Helper()
	transports.Store(f.bucket, storage.Transport{Wrap: fault.wrap, Haste: 1000})
	defer transports.Delete(f.bucket)
	return f.reported(append(f.args(f), "--json", oneByOne)...)
}

// undisturbed runs the command without a fault, and returns its requests and what it leaves.
func (f *faultyBucket) undisturbed() (requests []string, after map[string]string) {
	f.Helper()
	for range 2 { // a listing that ends early sends a request more or less
		f.reset()
		watch := &httpFault{matches: anyRequest}
		if run := f.run(watch); run.code != 0 {
			f.Fatalf("undisturbed it ends with %d: %s", run.code, run.stderr)
		}
		if requests == nil || len(watch.seen) < len(requests) {
			requests = watch.seen
		}
	}
	return requests, f.tags()
}

// try lets a fault strike, and judges what is left.
func (f *faultyBucket) try(what string, fault *httpFault, after map[string]string, goOn bool) {
	f.Helper()
	f.reset()
	run := f.run(fault)
	for range 3 { // a listing that ends early sends a request more or less
		if fault.met > 0 {
			break
		}
		f.reset()
		fault.at, fault.counted = min(fault.at, max(1, fault.counted)), 0 // the last one, where there are fewer
		run = f.run(fault)
	}
	if fault.met == 0 {
		f.Errorf("%s: the fault was never met: %d requests", what, fault.counted)
	}
	now := f.tags()
	for _, name := range f.needed {
		if now[name] != f.etags[name] {
			f.Errorf("%s: %s is gone (it ends with %d: %s)", what, f.readable(name), run.code, run.report.Error)
		}
	}
	isOwn := func(name string) bool { return strings.HasPrefix(name, storage.OwnDir) }
	for name, etag := range f.etags {
		switch {
		case now[name] == etag, isOwn(name), after[name] == "":
		default:
			f.Errorf("%s: %s is gone, which is no garbage", what, f.readable(name))
		}
	}
	// A 404 may hide all that there is to do. Then nothing is done. What a lasting one hides is
	// neither moved nor restored.
	hides := fault.kind == "404" || fault.kind == "no bucket"
	if run.code == 0 && !(f.lifted && hides) && difference(now, f.etags) != "" {
		now, want := maps.Clone(now), maps.Clone(after)
		if slices.ContainsFunc(run.report.Problems, func(p problemJSON) bool { return p.Kind == "undated_upload" }) {
			for name := range f.before { // an upload whose age nothing tells
				if strings.Contains(name, "/_uploads/") {
					want[name] = f.etags[name]
				}
			}
		}
		if f.lifted {
			now, want = inPlaceOrHeld(now), inPlaceOrHeld(want)
		}
		if fault.lasting && hides {
			delete(now, ".regsweep/lock") // which each answer says is gone
		}
		if d := difference(now, want); d != "" {
			f.Errorf("%s: it ends with 0, and leaves%s", what, f.readable(d))
		}
	}
	if run.code != 0 && run.code != 1 && run.code != 3 && run.code != 4 && run.code != 5 {
		f.Errorf("%s: it ends with %d: %s", what, run.code, run.stderr)
	}
	if !goOn || run.code == 0 {
		return
	}
	f.must(f.removeKey(f.key(".regsweep/lock")))
	args := f.args(f)
	if args[1] != "restore" || runsIn(now)[args[2]] != nil { // or all is back, and there is no run to restore
		if next := f.reported(append(args, "--json", oneByOne)...); next.code != 0 {
			f.Errorf("%s: the next run ends with %d: %s", what, next.code, next.report.Error)
		}
	}
	now, after = f.tags(), maps.Clone(after)
	if f.lifted { // runs have names of their own, and reset makes what is left of an upload young
		now, after = inPlaceOrHeld(now), inPlaceOrHeld(after)
	}
	if d := difference(now, after); d != "" {
		f.Errorf("%s: after the next run:%s", what, f.readable(d))
	}
}

// inPlaceOrHeld are the objects of the registry, and those of all quarantines as if they were
// one, without the plans and the records of hidden versions.
func inPlaceOrHeld(tags map[string]string) map[string]string {
	all := map[string]string{}
	for name, etag := range tags {
		match := inRun.FindStringSubmatch(name)
		switch {
		case strings.Contains(name, "/_uploads/"):
		case match == nil:
			all[name] = etag
		case match[2] != "plan.jsonl" && match[2] != "versions.jsonl":
			all["held "+match[2]] = etag
		}
	}
	return all
}

// TestEachRequestToS3Fails: every single request of a run fails, once and from then on, and so
// do all requests for one key and for one prefix. What the tags need is complete in the bucket
// each time, nothing but garbage is gone, and the next run ends as an undisturbed one.
func TestEachRequestToS3Fails(t *testing.T) {
	t.Parallel()
	gc := func(flags ...string) func(*faultyBucket) []string {
		return func(f *faultyBucket) []string {
			return append([]string{"gc", "-m", "--no-cache", "--registry-stopped", f.config(f.registry.ConfigYAML())}, flags...)
		}
	}
	onRun := func(verb string, flags ...string) func(*faultyBucket) []string {
		return func(f *faultyBucket) []string {
			run := slices.Min(append(slices.Collect(maps.Keys(runsIn(f.etags))), "none"))
			args := []string{"quarantine", verb}
			if verb == "restore" {
				args = append(args, run)
			}
			return append(append(args, flags...), f.config(f.registry.ConfigYAML()))
		}
	}
	type try struct {
		what  string
		fault *httpFault
	}
	for _, command := range []struct {
		name    string
		args    func(*faultyBucket) []string
		prepare func(*faultyBucket) []string // a command that comes first
		lifted  bool
		keeps   bool // versions
	}{
		{name: "gc", args: gc()},
		{name: "gc --quarantine", args: gc("--quarantine"), lifted: true},
		{name: "restore", args: onRun("restore"), prepare: gc("--quarantine"), lifted: true},
		{name: "gc --quarantine, with versions", args: gc("--quarantine"), lifted: true, keeps: true},
		{name: "restore, with versions", args: onRun("restore"), prepare: gc("--quarantine"), lifted: true, keeps: true},
		{name: "purge", args: onRun("purge", "--older-than", "0h", "--yes"), prepare: gc("--quarantine")},
	} {
		t.Run(command.name, func(t *testing.T) {
			t.Parallel()
			f, step := plantFaulty(t), stride()
			if command.keeps { // and gets more of them with each try
				f.keepVersions()
				step *= 3
			}
			if command.prepare != nil {
				f.args = command.prepare
				if run := f.run(&httpFault{matches: anyRequest}); run.code != 0 {
					t.Fatalf("nothing to work on: %d, %s", run.code, run.stderr)
				}
				f.remember()
			}
			f.args, f.lifted = command.args, command.lifted
			requests, after := f.undisturbed()
			// Of the sixteen ways for each request one is tried, and all of them with -every-fault.
			ways := 2 * len(httpFaults)
			var tries []try
			each := func(k int, what string, at int, matches func(*http.Request) bool) {
				for i, kind := range httpFaults {
					for j, lasting := range []bool{false, true} {
						if isSampled(5*k+2*i+j, ways) && !(kind == "short" && lasting) {
							fault := &httpFault{kind: kind, lasting: lasting, matches: matches, at: at}
							tries = append(tries, try{fmt.Sprintf("%s at %s, lasting: %t", kind, what, lasting), fault})
						}
					}
				}
			}
			for k, request := range requests {
				if !isSampled(k, step) {
					continue
				}
				each(k, fmt.Sprintf("request %d of %d (%s)", k+1, len(requests), request), k+1, anyRequest)
			}
			objects := slices.DeleteFunc(slices.Sorted(slices.Values(requests)), func(request string) bool { return strings.HasSuffix(request, "/") })
			for k, request := range slices.Compact(objects) {
				if isSampled(k, 4*step) {
					each(k/4, "each "+request, 1, func(r *http.Request) bool { return requestOf(r) == request })
				}
			}
			for k, prefix := range []string{"blobs/", "repositories/", "repositories/app/", ".regsweep/"} {
				if slices.ContainsFunc(requests, func(request string) bool { return strings.Contains(request, "/"+prefix) }) {
					each(k, "all below "+prefix, 1, func(r *http.Request) bool { return strings.Contains(requestOf(r), "/"+prefix) })
				}
			}
			t.Logf("%d tries at %d requests", len(tries), len(requests))
			for i, try := range tries {
				checkInterrupted(t, i, len(tries))
				f.try(try.what, try.fault, after, isSampled(i+1, 5))
			}
			f.reset()
			f.pull("at the end", f.client, f.alive)
		})
	}
}
