package s3

import (
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"regsweep/internal/miniotest"
	"regsweep/storage"
	"regsweep/storage/pace"
	"regsweep/storage/storagetest"
)

// These tests are about answers that no healthy server gives. The servers here are
// fakes, or proxies that change some answers of a real server.

// openFake opens a registry in the bucket "bucket" of a fake server, with short waits
// between tries.
func openFake(t *testing.T, fake *httptest.Server) *Store {
	t.Helper()
	store := storagetest.MustOpen(t)(Open(t.Context(), map[string]any{
		"accesskey": "key", "secretkey": "secret", "bucket": "bucket",
		"regionendpoint": fake.URL, "forcepathstyle": true,
	}, Options{})).(*Store)
	store.retries.Base, store.retries.Pace.FirstWait = time.Millisecond, time.Millisecond
	return store
}

// fakeServer calls answer for each request, and counts the requests.
func fakeServer(t *testing.T, answer func(n int, w http.ResponseWriter, r *http.Request)) (*Store, *atomic.Int32) {
	t.Helper()
	var asked atomic.Int32
	fake := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer(int(asked.Add(1)), w, r)
	}))
	t.Cleanup(fake.Close)
	return openFake(t, fake), &asked
}

func writeFault(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, `<?xml version="1.0"?><Error><Code>%s</Code><Message>as the test wants it</Message></Error>`, code)
}

// reset breaks the connection, like a server that crashes.
func reset(w http.ResponseWriter) {
	connection, buffered, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	buffered.Flush()
	connection.Close()
}

// TestS3PassingFaultsAreRetried: transient faults are retried until the answer comes.
func TestS3PassingFaultsAreRetried(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(w http.ResponseWriter){
		"503 SlowDown":            func(w http.ResponseWriter) { writeFault(w, 503, "SlowDown") },
		"500 InternalError":       func(w http.ResponseWriter) { writeFault(w, 500, "InternalError") },
		"502 without a body":      func(w http.ResponseWriter) { w.WriteHeader(502) },
		"504 in HTML":             func(w http.ResponseWriter) { w.WriteHeader(504); io.WriteString(w, "<html><hr></html>") },
		"429":                     func(w http.ResponseWriter) { w.WriteHeader(429) },
		"400 RequestTimeout":      func(w http.ResponseWriter) { writeFault(w, 400, "RequestTimeout") },
		"400 of a busy KMS":       func(w http.ResponseWriter) { writeFault(w, 400, "KMS.ThrottlingException") },
		"connection reset":        reset,
		"body of half its length": func(w http.ResponseWriter) { w.Header().Set("Content-Length", "10"); io.WriteString(w, "12345") },
		"reset in the body": func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "10")
			io.WriteString(w, "12345")
			w.(http.Flusher).Flush()
			reset(w)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, asked := fakeServer(t, func(n int, w http.ResponseWriter, r *http.Request) {
				if n <= 3 {
					fault(w)
					return
				}
				io.WriteString(w, "0123456789")
			})
			content, err := store.Read(t.Context(), "blobs/x", 100)
			if err != nil || string(content) != "0123456789" || asked.Load() != 4 {
				t.Errorf("%q, %v, after %d requests", content, err, asked.Load())
			}
			if got := store.Requests().Get; got != 4 {
				t.Errorf("%d requests are counted", got)
			}
		})
	}
}

// TestS3PassingFaultsEnd: if a storage keeps failing, that is an error, and never an absent
// object.
func TestS3PassingFaultsEnd(t *testing.T) {
	t.Parallel()
	for status, code := range map[int]string{500: "InternalError", 503: "SlowDown"} {
		store, asked := fakeServer(t, func(_ int, w http.ResponseWriter, r *http.Request) { writeFault(w, status, code) })
		store.retries.Patience = 2 * time.Second
		_, err := store.Read(t.Context(), "blobs/x", 100)
		if err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), code) || !strings.Contains(err.Error(), "blobs/x") {
			t.Errorf("read: %v", err)
		}
		// For 503 it retries until its patience ends. On a busy machine that allows few tries.
		if n := asked.Load(); status == 500 && n != int32(pace.DefaultRetries.Tries) || n < 2 || n > 20 {
			t.Errorf("%s: %d tries", code, n)
		}
	}
}

// TestS3LastingFaultsAreNotRetried: a second try would only cost time.
func TestS3LastingFaultsAreNotRetried(t *testing.T) {
	t.Parallel()
	for _, fault := range []struct {
		status   int
		code     string
		notExist bool
	}{
		{404, "NoSuchKey", true},
		{404, "NoSuchBucket", false},
		{404, "", false}, // without a body: a web server, or a proxy
		{403, "AccessDenied", false},
		{403, "SignatureDoesNotMatch", false},
		{400, "InvalidArgument", false},
		{301, "PermanentRedirect", false},
		{501, "NotImplemented", false},
	} {
		t.Run(fault.code, func(t *testing.T) {
			store, asked := fakeServer(t, func(_ int, w http.ResponseWriter, r *http.Request) {
				if fault.code == "" {
					w.WriteHeader(fault.status)
					return
				}
				writeFault(w, fault.status, fault.code)
			})
			_, err := store.Read(t.Context(), "blobs/x", 100)
			if err == nil || errors.Is(err, fs.ErrNotExist) != fault.notExist || asked.Load() != 1 {
				t.Errorf("%v after %d requests", err, asked.Load())
			}
			if fault.code == "" && err != nil && !strings.Contains(err.Error(), "404") {
				t.Errorf("%v does not tell the status", err)
			}
			if permission := "s3:GetObject"; fault.code == "AccessDenied" && !strings.Contains(err.Error(), permission) {
				t.Errorf("%v does not name %s", err, permission)
			}
		})
	}
}

// TestS3RetriesStopWhenCancelled: the retries stop even if the next try is hours later.
func TestS3RetriesStopWhenCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	store, _ := fakeServer(t, func(_ int, w http.ResponseWriter, r *http.Request) {
		writeFault(w, 503, "SlowDown")
		time.AfterFunc(50*time.Millisecond, cancel)
	})
	store.retries.Base, store.retries.Max = time.Hour, time.Hour
	if _, err := store.Read(ctx, "blobs/x", 100); !errors.Is(err, context.Canceled) {
		t.Errorf("read: %v", err)
	}
	for _, outcome := range store.Remove(ctx, []storage.Ref{{Path: "blobs/x"}, {Path: "blobs/\x01"}, {Path: "blobs/y", Multipart: "u"}}) {
		if !errors.Is(outcome.Err, context.Canceled) {
			t.Errorf("remove: %v", outcome.Err)
		}
	}
}

// fakeListing answers ListObjectsV2 and an empty ListMultipartUploads.
func fakeListing(t *testing.T, list func(n int, query url.Values) string) *Store {
	t.Helper()
	var pages atomic.Int32
	store, _ := fakeServer(t, func(_ int, w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("uploads") {
			io.WriteString(w, `<ListMultipartUploadsResult><Bucket>bucket</Bucket><IsTruncated>false</IsTruncated></ListMultipartUploadsResult>`)
			return
		}
		io.WriteString(w, list(int(pages.Add(1)), r.URL.Query()))
	})
	return store
}

func listing(next string, keys ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `<ListBucketResult><Name>bucket</Name><EncodingType>url</EncodingType><IsTruncated>%t</IsTruncated>`, next != "")
	if next != "" {
		fmt.Fprintf(&b, `<NextContinuationToken>%s</NextContinuationToken>`, next)
	}
	for _, key := range keys {
		fmt.Fprintf(&b, `<Contents><Key>%s</Key><Size>1</Size><LastModified>2024-01-02T03:04:05Z</LastModified><ETag>"e"</ETag></Contents>`,
			url.QueryEscape(storage.Root+"/"+key))
	}
	return b.String() + `</ListBucketResult>`
}

// TestS3ListingWithAHoleIsAnError: if a listing lacks a link, an image in use looks like garbage.
func TestS3ListingWithAHoleIsAnError(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		list func(n int, query url.Values) string
		want string
	}{
		"the same page for ever": {func(n int, _ url.Values) string {
			return listing(strconv.Itoa(n), "blobs/a", "blobs/b")
		}, "in order"},
		"the same token for ever": {func(n int, query url.Values) string {
			if query.Has("start-after") {
				return listing("") // a range above
			}
			return listing("token", fmt.Sprintf("blobs/%09d+", n)) // a plain key would go on without it
		}, "repeats a continuation token"},
		"empty pages with one token": {func(int, url.Values) string {
			return listing("token")
		}, "repeats a continuation token"},
		"keys out of order": {func(int, url.Values) string {
			return listing("", "blobs/b", "blobs/a")
		}, "in order"},
		"a key twice": {func(int, url.Values) string {
			return listing("", "blobs/a", "blobs/a")
		}, "in order"},
		"keys from elsewhere": {func(int, url.Values) string {
			return listing("", "repositories/a")
		}, "lies elsewhere"},
		"cut without a token": {func(int, url.Values) string {
			return strings.Replace(listing("", "blobs/a"), "false", "true", 1)
		}, "how to go on"},
		"no word of being cut": {func(int, url.Values) string {
			return strings.Replace(listing("token", "blobs/a"), "<IsTruncated>true</IsTruncated>", "", 1)
		}, "whether its listing is cut"},
		"a web page":       {func(int, url.Values) string { return "<html><body>Welcome to nginx!</body></html>" }, "no bucket listing"},
		"an empty answer":  {func(int, url.Values) string { return "" }, "no bucket listing"},
		"a page cut short": {func(int, url.Values) string { return listing("", "blobs/a", "blobs/b")[:200] }, "unexpected EOF"},
		"a key not encoded": {func(int, url.Values) string {
			return strings.Replace(listing("", "blobs/a"), "blobs%2Fa", "blobs/%zz", 1)
		}, "decode the key"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := fakeListing(t, test.list)
			err := store.Scan(t.Context(), storage.BlobsDir, func([]storage.Object) error { return nil })
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "blobs/") {
				t.Errorf("scan: %v, want %q", err, test.want)
			}
		})
	}
}

// TestS3ListingFaults: after a transient fault a page is requested again, and reported once.
func TestS3ListingFaults(t *testing.T) {
	t.Parallel()
	keys := func(from, to int) (keys []string) {
		for i := from; i < to; i++ {
			keys = append(keys, fmt.Sprintf("blobs/sha256/f%05d", i))
		}
		return keys
	}
	for name, fault := range map[string]func(whole string) string{
		"InternalError within a 200": func(string) string {
			return `<?xml version="1.0"?><Error><Code>InternalError</Code><Message>again</Message></Error>`
		},
		"a page cut short": func(whole string) string { return whole[:len(whole)/2] },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var spoilt sync.Map
			store := fakeListing(t, func(_ int, query url.Values) string {
				all := keys(0, 100)
				from := sort.Search(len(all), func(i int) bool { return storage.Root+"/"+all[i] > query.Get("start-after") })
				if token := query.Get("continuation-token"); token != "" {
					fmt.Sscan(token, &from)
				} else if from == 100 {
					return listing("") // a range above all keys
				}
				whole := listing("", all[from:]...)
				if from < 90 {
					whole = listing(strconv.Itoa(from+10), all[from:from+10]...)
				}
				if _, again := spoilt.LoadOrStore(from, true); !again {
					return fault(whole)
				}
				return whole
			})
			want := map[string]string{}
			for _, key := range keys(0, 100) {
				want[key] = ""
			}
			storagetest.SamePaths(t, storagetest.KeysOf(storagetest.Scan(t, store, storage.BlobsDir)), want)
		})
	}
}

// TestS3UploadListingFaults: a server without this listing has no uploads to report. A listing
// that is denied or repeats its pages is an error.
func TestS3UploadListingFaults(t *testing.T) {
	t.Parallel()
	circle := func(marker string) string {
		return `<ListMultipartUploadsResult><Bucket>bucket</Bucket><IsTruncated>true</IsTruncated>` + marker +
			`<Upload><Key>` + storage.Root + `/blobs/x</Key><UploadId>u</UploadId></Upload></ListMultipartUploadsResult>`
	}
	for name, test := range map[string]struct {
		answer func(w http.ResponseWriter, r *http.Request)
		want   string
	}{
		"not implemented": {func(w http.ResponseWriter, r *http.Request) { writeFault(w, 501, "NotImplemented") }, ""},
		"denied":          {func(w http.ResponseWriter, r *http.Request) { writeFault(w, 403, "AccessDenied") }, "s3:ListBucketMultipartUploads"},
		"denied without a prefix": {func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Get("prefix") == "" {
				writeFault(w, 403, "AccessDenied")
				return
			}
			io.WriteString(w, `<ListMultipartUploadsResult><Bucket>bucket</Bucket></ListMultipartUploadsResult>`)
		}, ""},
		"a marker twice": {func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, circle(`<NextKeyMarker>k</NextKeyMarker><NextUploadIdMarker>u</NextUploadIdMarker>`))
		}, "how to go on"},
		"no marker":  {func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, circle("")) }, "how to go on"},
		"a web page": {func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "<html></html>") }, "no bucket listing"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, _ := fakeServer(t, func(_ int, w http.ResponseWriter, r *http.Request) {
				if r.URL.Query().Has("uploads") {
					test.answer(w, r)
					return
				}
				io.WriteString(w, listing(""))
			})
			err := store.Scan(t.Context(), storage.BlobsDir, func([]storage.Object) error { return nil })
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("scan: %v, want %q", err, test.want)
			}
		})
	}
}

// deleteRequest is the body of DeleteObjects.
type deleteRequest struct {
	Quiet  bool
	Object []struct{ Key string }
}

func readDelete(t *testing.T, r *http.Request) (keys []string, body []byte) {
	t.Helper()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Error(err)
	}
	var request deleteRequest
	if err := xml.Unmarshal(body, &request); err != nil {
		t.Error(err)
	}
	if request.Quiet {
		t.Error("a quiet removal says nothing of what it removed")
	}
	for _, object := range request.Object {
		keys = append(keys, object.Key)
	}
	return keys, body
}

// TestS3RemovalBelievesOnlyTheAnswer: each key has the outcome that the answer says. Keys with
// transient errors are removed once more.
func TestS3RemovalBelievesOnlyTheAnswer(t *testing.T) {
	t.Parallel()
	asked := map[string]int{}
	store, requests := fakeServer(t, func(_ int, w http.ResponseWriter, r *http.Request) {
		if path := r.URL.Path; r.Method != http.MethodPost { // an object that was not found is removed singly, and then gets a HEAD
			if r.Method == http.MethodDelete || strings.HasSuffix(path, "/absent") {
				writeFault(w, 404, "NoSuchKey")
			}
			return
		}
		keys, _ := readDelete(t, r)
		io.WriteString(w, `<DeleteResult>`)
		for _, key := range keys {
			asked[key]++
			failed := func(code string) {
				fmt.Fprintf(w, `<Error><Key>%s</Key><Code>%s</Code><Message>m</Message></Error>`, key, code)
			}
			deleted := func() { fmt.Fprintf(w, `<Deleted><Key>%s</Key></Deleted>`, key) }
			switch what := strings.TrimPrefix(key, storage.Root+"/blobs/"); {
			case what == "denied":
				failed("AccessDenied")
			case what == "silent":
			case what == "both":
				deleted()
				failed("AccessDenied")
			case what == "hidden":
				fmt.Fprintf(w, `<Deleted><Key>%s</Key><DeleteMarker>true</DeleteMarker></Deleted>`, key)
			case what == "absent", what == "falsely absent":
				failed("NoSuchKey")
			case what == "slow" && asked[key] < 3:
				failed("SlowDown")
			case what == "never":
				failed("InternalError")
			default:
				deleted()
			}
		}
		io.WriteString(w, `</DeleteResult>`)
	})
	names := []string{"falsely absent", "gone", "denied", "silent", "both", "hidden", "absent", "slow", "never", "gone"}
	want := map[string]string{"denied": "s3:DeleteObject", "silent": "does not mention", "both": "AccessDenied", "never": "InternalError", "falsely absent": "and it is"}
	var refs []storage.Ref
	for _, name := range names {
		refs = append(refs, storage.Ref{Path: "blobs/" + name})
	}
	for i, outcome := range store.Remove(t.Context(), refs) {
		text, fails := want[names[i]]
		if fails != (outcome.Err != nil) || fails && !strings.Contains(outcome.Err.Error(), text) || outcome.Hidden != (names[i] == "hidden") {
			t.Errorf("%s: %+v, want %q", names[i], outcome, text)
		}
		if outcome.Err != nil && !strings.Contains(outcome.Err.Error(), "blobs/"+names[i]) {
			t.Errorf("the error does not name the object: %v", outcome.Err)
		}
	}
	for name, times := range map[string]int{"gone": 1, "denied": 1, "silent": 1, "slow": 3, "never": pace.DefaultRetries.Tries} {
		if got := asked[storage.Root+"/blobs/"+name]; got != times {
			t.Errorf("%s was asked for %d times, want %d", name, got, times)
		}
	}
	if got := store.Requests(); got.Delete+got.Head != int64(requests.Load()) {
		t.Errorf("%+v is counted of %d", got, requests.Load())
	}
}

// TestS3SingleRemovals: an absent object counts as removed, and an absent bucket is an error.
func TestS3SingleRemovals(t *testing.T) {
	t.Parallel()
	for code, removed := range map[string]bool{"NoSuchKey": true, "NoSuchUpload": true, "NoSuchBucket": false} {
		store, _ := fakeServer(t, func(_ int, w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet { // a listing of the uploads
				io.WriteString(w, `<ListMultipartUploadsResult><Bucket>bucket</Bucket></ListMultipartUploadsResult>`)
				return
			}
			writeFault(w, 404, code)
		})
		ref := storage.Ref{Path: "blobs/\x01"}
		if code == "NoSuchUpload" {
			ref = storage.Ref{Path: "blobs/x", Multipart: "u"}
		}
		if outcome := store.Remove(t.Context(), []storage.Ref{ref})[0]; (outcome.Err == nil) != removed {
			t.Errorf("%s: %v", code, outcome.Err)
		}
	}
}

// TestS3RemovalRetriesAWholeRequest: a request with a transient error is retried.
func TestS3RemovalRetriesAWholeRequest(t *testing.T) {
	t.Parallel()
	store, asked := fakeServer(t, func(n int, w http.ResponseWriter, r *http.Request) {
		keys, _ := readDelete(t, r)
		switch n {
		case 1:
			writeFault(w, 503, "SlowDown")
		case 2:
			reset(w)
		case 3: // InternalError within a 200
			writeFault(w, 200, "InternalError")
		default:
			fmt.Fprintf(w, `<DeleteResult><Deleted><Key>%s</Key></Deleted></DeleteResult>`, keys[0])
		}
	})
	if outcome := store.Remove(t.Context(), []storage.Ref{{Path: "blobs/x"}})[0]; outcome.Err != nil || asked.Load() != 4 {
		t.Errorf("%+v after %d requests", outcome, asked.Load())
	}
}

// TestS3RemovalFallsBackToContentMD5: servers that are older than the SDK's checksums need it.
func TestS3RemovalFallsBackToContentMD5(t *testing.T) {
	t.Parallel()
	for _, fault := range []struct {
		status int
		code   string
	}{{400, "MissingContentMD5"}, {400, "InvalidRequest"}, {501, "NotImplemented"}} {
		t.Run(fault.code, func(t *testing.T) {
			t.Parallel()
			store, asked := fakeServer(t, func(n int, w http.ResponseWriter, r *http.Request) {
				keys, body := readDelete(t, r)
				sum := md5.Sum(body)
				switch r.Header.Get("Content-MD5") {
				case "":
					writeFault(w, fault.status, fault.code)
				case base64.StdEncoding.EncodeToString(sum[:]):
					for name := range r.Header {
						if strings.HasPrefix(strings.ToLower(name), "x-amz-checksum") || strings.HasPrefix(strings.ToLower(name), "x-amz-sdk-checksum") {
							t.Errorf("header %s, which such a server does not know", name)
						}
					}
					fmt.Fprintf(w, `<DeleteResult><Deleted><Key>%s</Key></Deleted></DeleteResult>`, keys[0])
				default:
					writeFault(w, 400, "BadDigest")
				}
			})
			for i, want := range []int32{2, 3} { // the second call begins with Content-MD5
				if outcome := store.Remove(t.Context(), []storage.Ref{{Path: "blobs/x"}})[0]; outcome.Err != nil || asked.Load() != want {
					t.Errorf("removal %d: %+v after %d requests", i, outcome, asked.Load())
				}
			}
		})
	}
	t.Run("a request that is wrong either way", func(t *testing.T) {
		t.Parallel()
		store, asked := fakeServer(t, func(n int, w http.ResponseWriter, r *http.Request) {
			writeFault(w, 400, fmt.Sprintf("Malformed%d", n))
		})
		outcome := store.Remove(t.Context(), []storage.Ref{{Path: "blobs/x"}})[0]
		if outcome.Err == nil || !strings.Contains(outcome.Err.Error(), "Malformed1") || asked.Load() != 2 {
			t.Errorf("%+v after %d requests", outcome, asked.Load())
		}
	})
}

// spoil is a proxy before a real server. It calls before for each request, and change for each
// answer.
func spoil(t *testing.T, server *miniotest.S3, before func(r *http.Request), change func(r *http.Response) error) *httptest.Server {
	t.Helper()
	target, err := url.Parse(server.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httptest.NewServer(&httputil.ReverseProxy{
		// The signature includes the host.
		Rewrite: func(r *httputil.ProxyRequest) {
			before(r.Out)
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = target.Scheme, target.Host, r.In.Host
		},
		ModifyResponse: change,
		ErrorHandler:   func(w http.ResponseWriter, _ *http.Request, _ error) { reset(w) },
	})
	t.Cleanup(proxy.Close)
	return proxy
}

// TestS3LockSurvivesALostAnswer: a write succeeds and its answer is lost. The retry is refused
// because of the first try, which must not count as another writer's.
func TestS3LockSurvivesALostAnswer(t *testing.T) {
	t.Parallel()
	eachServer(t, func(t *testing.T, server *miniotest.S3) {
		var lose atomic.Bool
		proxy := spoil(t, server, func(*http.Request) {}, func(r *http.Response) error {
			if r.Request.Method == http.MethodPut && r.StatusCode == 200 && lose.CompareAndSwap(true, false) {
				return errors.New("the answer is lost")
			}
			return nil
		})
		parameters := server.Parameters(server.NewBucketT(t), "")
		parameters["regionendpoint"] = proxy.URL
		store := storagetest.MustOpen(t)(Open(t.Context(), parameters, Options{})).(*Store)
		store.retries.Base = time.Millisecond
		const path = ".regsweep/lock"

		lose.Store(true)
		version, err := store.Create(t.Context(), path, []byte("one"))
		if err != nil || lose.Load() {
			t.Fatalf("create: %v", err)
		}
		lose.Store(true)
		version, err = store.Replace(t.Context(), path, []byte("two"), version)
		if err != nil || lose.Load() {
			t.Fatalf("replace: %v", err)
		}
		if _, current, err := store.Version(t.Context(), path); err != nil || current != version {
			t.Fatalf("version %q, want %q, %v", current, version, err)
		}
		if _, err := store.Create(t.Context(), path, []byte("three")); !errors.Is(err, fs.ErrExist) {
			t.Fatalf("create again: %v", err)
		}
	})
}

// TestS3LockIsTheServersToGive: if somebody writes between our read and our write, they have the
// lock, and their content is kept.
func TestS3LockIsTheServersToGive(t *testing.T) {
	t.Parallel()
	eachServer(t, func(t *testing.T, server *miniotest.S3) {
		bucket := server.NewBucketT(t)
		var theirs atomic.Value
		proxy := spoil(t, server, func(r *http.Request) {
			if content, ok := theirs.Load().(string); ok && r.Method == http.MethodPut {
				server.PutT(t, bucket, storage.Root+"/.regsweep/lock", content)
			}
		}, func(*http.Response) error { return nil })
		parameters := server.Parameters(bucket, "")
		parameters["regionendpoint"] = proxy.URL
		store := storagetest.MustOpen(t)(Open(t.Context(), parameters, Options{}))
		const path = ".regsweep/lock"
		isKept := func(want string) {
			t.Helper()
			if content, _, err := store.Version(t.Context(), path); err != nil || string(content) != want {
				t.Fatalf("the lock is %q, want %q, %v", content, want, err)
			}
		}
		theirs.Store("theirs")
		if _, err := store.Create(t.Context(), path, []byte("ours")); !errors.Is(err, fs.ErrExist) {
			t.Fatalf("create: %v", err)
		}
		isKept("theirs")
		_, version, err := store.Version(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		theirs.Store("theirs again")
		if _, err := store.Replace(t.Context(), path, []byte("ours"), version); !errors.Is(err, storage.ErrLost) {
			t.Fatalf("replace: %v", err)
		}
		isKept("theirs again")
	})
}

// TestS3LockWithoutConditionalWrites: the lock also works on such a server, with a short race.
func TestS3LockWithoutConditionalWrites(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"refuses the header", "ignores the header"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			var content []byte
			var writer string
			store, _ := fakeServer(t, func(_ int, w http.ResponseWriter, r *http.Request) {
				switch r.Method {
				case http.MethodPut:
					if mode == "refuses the header" && (r.Header.Get("If-None-Match") != "" || r.Header.Get("If-Match") != "") {
						writeFault(w, 501, "NotImplemented")
						return
					}
					content, _ = io.ReadAll(r.Body)
					writer = r.Header.Get("X-Amz-Meta-" + writerKey)
					if writer == "" {
						t.Error("the write does not name its writer")
					}
				default:
					if content == nil {
						writeFault(w, 404, "NoSuchKey")
						return
					}
				}
				w.Header().Set("X-Amz-Meta-"+writerKey, writer)
				w.Header().Set("ETag", fmt.Sprintf(`"%x"`, md5.Sum(content)))
				w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
				if r.Method != http.MethodPut {
					w.Header().Set("Content-Length", strconv.Itoa(len(content)))
					w.Write(content)
				}
			})
			version, err := store.Create(t.Context(), ".regsweep/lock", []byte("one"))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := store.Create(t.Context(), ".regsweep/lock", []byte("other")); !errors.Is(err, fs.ErrExist) {
				t.Errorf("create again: %v", err)
			}
			if _, err := store.Replace(t.Context(), ".regsweep/lock", []byte("two"), version); err != nil {
				t.Error(err)
			}
			if _, err := store.Replace(t.Context(), ".regsweep/lock", []byte("three"), version); !errors.Is(err, storage.ErrLost) {
				t.Errorf("replace a version that is gone: %v", err)
			}
		})
	}
}

// TestS3LockMapsConflicts: 409 means that somebody else is writing at this moment.
func TestS3LockMapsConflicts(t *testing.T) {
	t.Parallel()
	for _, status := range []int{409, 412} {
		store, _ := fakeServer(t, func(_ int, w http.ResponseWriter, r *http.Request) {
			switch r.Method {
			case http.MethodPut:
				writeFault(w, status, "Condition")
			case http.MethodGet: // by now the other has written
				w.Header().Set("X-Amz-Meta-"+writerKey, "other")
				io.WriteString(w, "mine")
			default:
				if r.URL.Path == "/bucket/"+storage.Root+"/new" {
					w.WriteHeader(404)
				}
				w.Header().Set("ETag", `"v"`)
			}
		})
		if _, err := store.Create(t.Context(), "new", []byte("mine")); !errors.Is(err, fs.ErrExist) {
			t.Errorf("create, %d: %v", status, err)
		}
		if _, err := store.Replace(t.Context(), "old", []byte("mine"), "v"); !errors.Is(err, storage.ErrLost) {
			t.Errorf("replace, %d: %v", status, err)
		}
	}
}
