package s3

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"net/http"
	"strings"
	"testing"

	"regsweep/internal/miniotest"
	"regsweep/storage"
	"regsweep/storage/storagetest"
)

// TestS3PutsWhatIsTooLargeForOneRequest: a large object is sent in parts, and nothing is left of one that
// could not be made. MinIO is real, and a proxy before it refuses some requests.
func TestS3PutsWhatIsTooLargeForOneRequest(t *testing.T) {
	t.Parallel()
	server := miniotest.SharedMinIO(t)
	bucket := server.NewBucketT(t)
	refused := &refusal{}
	parameters := server.Parameters(bucket, "")
	parameters["regionendpoint"] = refused.before(t, server.Endpoint)
	store := storagetest.MustOpen(t)(Open(t.Context(), parameters, Options{})).(*Store)
	store.largestPut = 5 << 20 // the smallest size of a part
	content := make([]byte, 12<<20)
	rand.Read(content)
	blob := storagetest.BlobPath("sha256", storagetest.HexOf("large"))
	wantNone := func() {
		t.Helper()
		err := store.Below(t.Context(), storage.BlobsDir, func(page []storage.Object) error {
			t.Errorf("there is %+v", page)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}

	isPart := func(r *http.Request) bool { return r.URL.Query().Get("partNumber") == "2" }
	isEnd := func(r *http.Request) bool { return r.Method == http.MethodPost && r.URL.Query().Has("uploadId") }
	for name, matches := range map[string]func(r *http.Request) bool{"a part": isPart, "the end": isEnd} {
		refused.matching(matches)
		if err := store.Put(t.Context(), blob, bytes.NewReader(content)); err == nil || refused.met.Load() == 0 {
			t.Errorf("%s is refused: %v", name, err)
		}
		wantNone()
	}
	refused.matching(nil)

	// The lease ends after the first part. The parts are left, and gc removes them.
	lost, ended := errors.New("lost"), false
	refused.matching(func(r *http.Request) bool { ended = ended || isPart(r); return false })
	ctx := storage.WithLease(t.Context(), func(context.Context) error {
		if ended {
			return lost
		}
		return nil
	})
	if err := store.Put(ctx, blob, bytes.NewReader(content)); !errors.Is(err, storage.ErrNotBegun) || !errors.Is(err, lost) {
		t.Errorf("the lease has ended: %v", err)
	}
	if _, err := store.Stat(t.Context(), blob); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the lease has ended, and the object exists: %v", err)
	}

	refused.matching(nil)
	if err := store.Put(t.Context(), blob, bytes.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if err := store.Stream(t.Context(), blob, &got); err != nil || !bytes.Equal(got.Bytes(), content) {
		t.Errorf("%d bytes of %d: %v", got.Len(), len(content), err)
	}
	object, err := store.Stat(t.Context(), blob)
	if err != nil || !strings.HasSuffix(object.ETag, "-3") {
		t.Errorf("it was not sent in 3 parts: %+v, %v", object, err)
	}
	if err := store.Put(t.Context(), blob, bytes.NewReader(content)); !errors.Is(err, fs.ErrExist) {
		t.Errorf("put again: %v", err)
	}

	// Somebody else makes the object after Put has found that there is none.
	other := storagetest.BlobPath("sha256", storagetest.HexOf("other"))
	refused.matching(func(r *http.Request) bool {
		if isPart(r) {
			server.PutT(t, bucket, *store.key(other), "another")
		}
		return false
	})
	if err := store.Put(t.Context(), other, bytes.NewReader(content)); !errors.Is(err, fs.ErrExist) {
		t.Errorf("somebody else was first: %v", err)
	}
	storagetest.WantContents(t, store, map[string]string{other: "another"})
}

// TestS3TheEndOfAnUploadIsConfirmed: the server has completed the upload, and its answer is lost. The server
// is a fake.
func TestS3TheEndOfAnUploadIsConfirmed(t *testing.T) {
	t.Parallel()
	for name, length := range map[string]string{"whole": "12", "a part": "5"} {
		ends, isThere := 0, false
		store, _ := fakeServer(t, func(_ int, w http.ResponseWriter, r *http.Request) {
			query := r.URL.Query()
			switch {
			case r.Method == http.MethodHead && isThere:
				w.Header().Set("Content-Length", length)
			case r.Method == http.MethodHead:
				w.WriteHeader(http.StatusNotFound)
			case query.Has("partNumber"):
				w.Header().Set("ETag", `"part"`)
			case query.Has("uploads"):
				w.Write([]byte("<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"))
			case query.Has("uploadId"):
				if ends++; ends == 1 {
					isThere = true
					reset(w)
					return
				}
				writeFault(w, http.StatusNotFound, "NoSuchUpload")
			}
		})
		store.largestPut = 5
		err := store.Put(t.Context(), "blobs/x", strings.NewReader("twelve bytes"))
		if ends != 2 || (err == nil) != (name == "whole") {
			t.Errorf("%s: %v after %d requests", name, err, ends)
		}
	}
}
