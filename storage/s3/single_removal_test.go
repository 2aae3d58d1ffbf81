package s3

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"regsweep/internal/miniotest"
	"regsweep/storage"
	"regsweep/storage/storagetest"
)

// TestS3WithoutBulkRemoval: a server without DeleteObjects gets one request for each object, and
// no further bulk removal.
func TestS3WithoutBulkRemoval(t *testing.T) {
	t.Parallel()
	for name, refuse := range map[string]func(w http.ResponseWriter, keys []string){
		"501 NotImplemented":   func(w http.ResponseWriter, _ []string) { writeFault(w, 501, "NotImplemented") },
		"501 without a body":   func(w http.ResponseWriter, _ []string) { w.WriteHeader(501) },
		"405 MethodNotAllowed": func(w http.ResponseWriter, _ []string) { writeFault(w, 405, "MethodNotAllowed") },
		"405 in HTML":          func(w http.ResponseWriter, _ []string) { w.WriteHeader(405); io.WriteString(w, "<html></html>") },
		"400 InvalidRequest":   func(w http.ResponseWriter, _ []string) { writeFault(w, 400, "InvalidRequest") },
		"400 MalformedXML":     func(w http.ResponseWriter, _ []string) { writeFault(w, 400, "MalformedXML") },
		"each key, within a 200": func(w http.ResponseWriter, keys []string) {
			io.WriteString(w, `<DeleteResult>`)
			for _, key := range keys {
				fmt.Fprintf(w, `<Error><Key>%s</Key><Code>NotImplemented</Code><Message>m</Message></Error>`, key)
			}
			io.WriteString(w, `</DeleteResult>`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := miniotest.SharedMinIO(t)
			bucket := server.NewBucketT(t)
			var refs []storage.Ref
			for i := range 40 {
				path := storagetest.BlobPath("sha256", storagetest.HexOf(i))
				server.PutT(t, bucket, storage.Root+"/"+path, path)
				refs = append(refs, storage.Ref{Path: path})
			}
			refs = append(refs, storage.Ref{Path: "blobs/absent"})
			var bulk, single atomic.Int32
			store := openBehind(t, server, bucket, func(w http.ResponseWriter, r *http.Request) (answered bool) {
				switch r.Method {
				case http.MethodDelete:
					single.Add(1)
				case http.MethodPost:
					bulk.Add(1)
					keys, _ := readDelete(t, r)
					refuse(w, keys)
					return true
				}
				return false
			})
			for _, half := range [][]storage.Ref{refs[:20], refs[20:]} {
				for i, o := range store.Remove(t.Context(), half) {
					if o.Err != nil || o.Hidden {
						t.Errorf("%s: %+v", half[i].Path, o)
					}
				}
			}
			if left := storagetest.Scan(t, store, storage.BlobsDir); len(left) > 0 {
				t.Errorf("%d objects are left", len(left))
			}
			if bulk.Load() > 2 || single.Load() != int32(len(refs)) {
				t.Errorf("%d bulk removals and %d single ones for %d objects", bulk.Load(), single.Load(), len(refs))
			}
		})
	}
}

// TestS3SingleRemovalReportsItsOwnFault: if neither kind of removal works, the error is from the
// single removal.
func TestS3SingleRemovalReportsItsOwnFault(t *testing.T) {
	t.Parallel()
	store, _ := fakeServer(t, func(_ int, w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			writeFault(w, 501, "NotImplemented")
			return
		}
		writeFault(w, 403, "AccessDenied")
	})
	for _, o := range store.Remove(t.Context(), []storage.Ref{{Path: "blobs/a"}, {Path: "blobs/b"}}) {
		if o.Err == nil || !strings.Contains(o.Err.Error(), "s3:DeleteObject") || !strings.Contains(o.Err.Error(), "AccessDenied") {
			t.Errorf("%v", o.Err)
		}
	}
}

// openBehind opens a bucket of a real server. answer may answer a request instead of the server.
func openBehind(t *testing.T, server *miniotest.S3, bucket string, answer func(w http.ResponseWriter, r *http.Request) (answered bool)) *Store {
	t.Helper()
	real, err := url.Parse(server.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = real.Scheme, real.Host, r.In.Host
	}}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !answer(w, r) {
			proxy.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(front.Close)
	parameters := server.Parameters(bucket, "")
	parameters["regionendpoint"] = front.URL
	store := storagetest.MustOpen(t)(Open(t.Context(), parameters, Options{})).(*Store)
	store.retries.Base, store.retries.Pace.FirstWait = time.Millisecond, time.Millisecond
	return store
}
