package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"regsweep/storage"
	"regsweep/storage/storagetest"
)

// In these tests the answer to a removal is lost, incomplete or wrong. The servers are fakes.

// TestS3ARemovalThatWasSentHasBegun: the answer is lost, and the lease ends before the next try.
func TestS3ARemovalThatWasSentHasBegun(t *testing.T) {
	t.Parallel()
	ended := errors.New("the lease has ended")
	for name, ref := range map[string]storage.Ref{
		"in bulk": {Path: "blobs/a"}, "singly": {Path: "blobs/\x01"}, "an upload": {Path: "blobs/a", Multipart: "u"},
	} {
		for _, sent := range []bool{true, false} {
			store, asked := fakeServer(t, func(_ int, w http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body)
				reset(w)
			})
			store.requests.answered.Store(true)
			ctx := storage.WithLease(t.Context(), func(context.Context) error {
				if sent && asked.Load() == 0 {
					return nil
				}
				return ended
			})
			err := store.Remove(ctx, []storage.Ref{ref})[0].Err
			if sent && (errors.Is(err, storage.ErrNotBegun) || err == nil || !strings.Contains(err.Error(), "sent, and not confirmed") || !strings.Contains(err.Error(), "blobs/")) {
				t.Errorf("%s: sent: %v", name, err)
			}
			if !sent && (!errors.Is(err, storage.ErrNotBegun) || !errors.Is(err, ended) || asked.Load() != 0) {
				t.Errorf("%s: not sent: %v, %d requests", name, err, asked.Load())
			}
		}
	}
}

// TestS3ARefusedKeyIsNoRefusedRequest: a key that a bulk removal refuses is removed with a request of
// its own. Later removals still use bulk requests.
func TestS3ARefusedKeyIsNoRefusedRequest(t *testing.T) {
	t.Parallel()
	var bulk, single atomic.Int32
	store, _ := fakeServer(t, func(_ int, w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodDelete {
			single.Add(1)
			w.WriteHeader(204)
			return
		}
		bulk.Add(1)
		keys, _ := readDelete(t, r)
		io.WriteString(w, `<DeleteResult>`)
		for _, key := range keys {
			if strings.HasSuffix(key, "odd") {
				fmt.Fprintf(w, `<Error><Key>%s</Key><Code>InvalidArgument</Code></Error>`, key)
			} else {
				fmt.Fprintf(w, `<Deleted><Key>%s</Key></Deleted>`, key)
			}
		}
		io.WriteString(w, `</DeleteResult>`)
	})
	batches := [][]storage.Ref{{{Path: "blobs/odd"}, {Path: "blobs/b"}}, {{Path: "blobs/odd"}}, {{Path: "blobs/c"}, {Path: "blobs/d"}}}
	for _, refs := range batches {
		for i, o := range store.Remove(t.Context(), refs) {
			if o.Err != nil {
				t.Errorf("%s: %v", refs[i].Path, o.Err)
			}
		}
	}
	if bulk.Load() != 3 || single.Load() != 2 {
		t.Errorf("%d bulk removals and %d single ones", bulk.Load(), single.Load())
	}
}

// TestS3AnUploadThatIsListedIsThere: if the server does not find an upload to abort, the upload
// counts as aborted only if it is no longer listed.
func TestS3AnUploadThatIsListedIsThere(t *testing.T) {
	t.Parallel()
	for listed, gone := range map[string]bool{"u": false, "another": true, "": true} {
		store, _ := fakeServer(t, func(_ int, w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodDelete {
				writeFault(w, 404, "NoSuchUpload")
				return
			}
			io.WriteString(w, `<ListMultipartUploadsResult><Bucket>bucket</Bucket>`)
			if listed != "" {
				fmt.Fprintf(w, `<Upload><Key>%s/blobs/a</Key><UploadId>%s</UploadId></Upload>`, storage.Root, listed)
			}
			io.WriteString(w, `</ListMultipartUploadsResult>`)
		})
		err := store.Remove(t.Context(), []storage.Ref{{Path: "blobs/a", Multipart: "u"}})[0].Err
		if (err == nil) != gone || err != nil && !strings.Contains(err.Error(), "blobs/a") {
			t.Errorf("%q is listed: %v", listed, err)
		}
	}
}

// TestS3ASingleFalse404MovesNothing: if a HEAD does not find an object, a second HEAD is sent before
// the object counts as absent or as moved.
func TestS3ASingleFalse404MovesNothing(t *testing.T) {
	t.Parallel()
	move := storage.Move{From: "blobs/a", To: storagetest.Moved("blobs/a")}
	for name, test := range map[string]struct{ there, copied bool }{
		"in place": {there: true}, "in place, and copied": {true, true}, "absent": {}, "moved before": {copied: true},
	} {
		var heads, removals atomic.Int32
		store, _ := fakeServer(t, func(_ int, w http.ResponseWriter, r *http.Request) {
			found := test.copied
			switch {
			case r.Method != http.MethodHead:
				removals.Add(1)
				keys, _ := readDelete(t, r)
				fmt.Fprintf(w, `<DeleteResult><Deleted><Key>%s</Key></Deleted></DeleteResult>`, keys[0])
				return
			case strings.HasSuffix(r.URL.Path, storage.Root+"/"+move.From):
				found = heads.Add(1) > 1 && test.there
			}
			if !found {
				w.WriteHeader(404)
			}
		})
		err := store.Move(t.Context(), []storage.Move{move})[0].Err
		switch {
		case test.there && (err == nil || errors.Is(err, fs.ErrNotExist) || removals.Load() > 0):
			t.Errorf("%s: %v, %d removals", name, err, removals.Load())
		case !test.there && test.copied && err != nil, !test.there && !test.copied && !errors.Is(err, fs.ErrNotExist):
			t.Errorf("%s: %v", name, err)
		}
	}
}
