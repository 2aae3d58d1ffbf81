package s3

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
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

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// TestS3MovesWhatIsTooLargeForOneRequest: a large object is copied part by part, with its metadata.
// If that fails, no parts are left.
func TestS3MovesWhatIsTooLargeForOneRequest(t *testing.T) {
	t.Parallel()
	server := miniotest.SharedMinIO(t)
	bucket := server.NewBucketT(t)
	refused := &refusal{}
	parameters := server.Parameters(bucket, "")
	parameters["regionendpoint"] = refused.before(t, server.Endpoint)
	store := storagetest.MustOpen(t)(Open(t.Context(), parameters, Options{})).(*Store)
	store.largestCopy = 5 << 20 // the smallest size of a part
	content := make([]byte, 12<<20)
	rand.Read(content)
	blob := storagetest.BlobPath("sha256", storagetest.HexOf("large"))
	_, err := server.Client().PutObject(t.Context(), &s3.PutObjectInput{
		Bucket: &bucket, Key: store.key(blob), Body: bytes.NewReader(content), StorageClass: types.StorageClassReducedRedundancy,
		ContentType: aws.String("application/x-layer"), Metadata: map[string]string{"of": "the registry"},
	})
	if err != nil {
		t.Fatal(err)
	}
	wantWhole := func(path string) {
		t.Helper()
		out, err := server.Client().GetObject(t.Context(), &s3.GetObjectInput{Bucket: &bucket, Key: store.key(path)})
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(out.Body)
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s has %d other bytes, %v", path, len(got), err)
		}
		if out.StorageClass != types.StorageClassReducedRedundancy || aws.ToString(out.ContentType) != "application/x-layer" || out.Metadata["of"] != "the registry" {
			t.Errorf("%s is %s, %s, %v", path, out.StorageClass, aws.ToString(out.ContentType), out.Metadata)
		}
		if n := strings.TrimRight(aws.ToString(out.ETag), `"`); !strings.HasSuffix(n, "-3") {
			t.Errorf("it was not copied in 3 parts: %s", n)
		}
	}
	unfinished := func() (refs []storage.Ref) {
		t.Helper()
		err := store.Below(t.Context(), storage.OwnDir, func(page []storage.Object) error {
			for _, object := range page {
				if object.Multipart == "" {
					t.Errorf("there is %s", object.Path)
				}
				refs = append(refs, storage.Ref{Path: object.Path, Multipart: object.Multipart})
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return refs
	}
	move := func(from, to string) error {
		return store.Move(t.Context(), []storage.Move{{From: from, To: to}})[0].Err
	}

	refused.matching(func(r *http.Request) bool { return r.URL.Query().Get("partNumber") == "2" })
	if err := move(blob, storagetest.Moved(blob)); err == nil || refused.met.Load() == 0 {
		t.Errorf("a part that is refused: %v", err)
	}
	if left := unfinished(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	// A killed run can't abort its upload.
	refused.matching(func(r *http.Request) bool {
		return r.URL.Query().Get("partNumber") == "3" || r.Method == http.MethodDelete
	})
	if err := move(blob, storagetest.Moved(blob)); err == nil {
		t.Error("it was not killed")
	}
	left := unfinished()
	if len(left) != 1 || left[0].Path != storagetest.Moved(blob) {
		t.Fatalf("left: %v", left)
	}
	refused.matching(nil)
	if o := store.Remove(t.Context(), left)[0]; o.Err != nil {
		t.Error(o.Err)
	}
	if left := unfinished(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}

	if err := move(blob, storagetest.Moved(blob)); err != nil {
		t.Fatal(err)
	}
	wantWhole(storagetest.Moved(blob))
	if err := move(storagetest.Moved(blob), blob); err != nil {
		t.Fatal(err)
	}
	wantWhole(blob)
	storagetest.WantContents(t, store, map[string]string{storagetest.Moved(blob): ""})
}

// refusal is a proxy before a server. It refuses the requests that match.
type refusal struct {
	met     atomic.Int64
	matches func(r *http.Request) bool
}

// matching refuses the requests for which matches returns true, from now on. nil refuses none.
func (f *refusal) matching(matches func(r *http.Request) bool) {
	f.met.Store(0)
	f.matches = matches
}

func (f *refusal) before(t *testing.T, endpoint string) string {
	behind, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	pass := &httputil.ReverseProxy{ErrorLog: log.New(io.Discard, "", 0), Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(behind)
		r.Out.Host = r.In.Host // the signature includes the host
	}}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f.matches != nil && f.matches(r) {
			f.met.Add(1)
			writeFault(w, 403, "AccessDenied")
			return
		}
		pass.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	return front.URL
}

// TestS3MovesKeysOfAllKinds: the x-amz-copy-source header is escaped in another way than the path
// of a request.
func TestS3MovesKeysOfAllKinds(t *testing.T) {
	t.Parallel()
	eachServer(t, func(t *testing.T, server *miniotest.S3) {
		bucket := server.NewBucketT(t)
		for _, root := range []string{"/a b", "/a+b%2Fc%", "/ü/日本", "/~!$&'()*,;=:@?#[]"} {
			store := storagetest.MustOpen(t)(Open(t.Context(), server.Parameters(bucket, root), Options{})).(*Store)
			blob := storagetest.BlobPath("sha256", storagetest.HexOf("blob"))
			server.PutT(t, bucket, *store.key(blob), "content")
			before := store.Requests()
			if o := store.Move(t.Context(), []storage.Move{{From: blob, To: storagetest.Moved(blob)}})[0]; o.Err != nil {
				t.Errorf("%s: %v", root, o.Err)
				continue
			}
			storagetest.WantContents(t, store, map[string]string{storagetest.Moved(blob): "content", blob: ""})
			// There are two HEADs before the copy. There is none after it, since the ETag is the same.
			if got := store.Requests(); got.Head-before.Head != 2 || got.Put-before.Put != 1 {
				t.Errorf("%s: a move takes %d HEADs and %d copies", root, got.Head-before.Head, got.Put-before.Put)
			}
		}
	})
}

// TestS3MovesEncrypted: an encrypted object is moved and still encrypted, although its ETag says
// nothing about the content.
func TestS3MovesEncrypted(t *testing.T) {
	t.Parallel()
	server := miniotest.SharedMinIO(t)
	for _, keyID := range []string{"", server.KeyID} {
		bucket := server.NewBucketT(t)
		parameters := server.Parameters(bucket, "")
		parameters["encrypt"], parameters["keyid"], parameters["objectacl"] = true, keyID, "private"
		store := storagetest.MustOpen(t)(Open(t.Context(), parameters, Options{})).(*Store)
		blob := storagetest.BlobPath("sha256", storagetest.HexOf("blob"))
		if err := store.Put(t.Context(), blob, strings.NewReader("content")); err != nil {
			t.Fatal(err)
		}
		for _, m := range []storage.Move{{From: blob, To: storagetest.Moved(blob)}, {From: storagetest.Moved(blob), To: blob}} {
			if o := store.Move(t.Context(), []storage.Move{m})[0]; o.Err != nil {
				t.Fatal(o.Err)
			}
			storagetest.WantContents(t, store, map[string]string{m.To: "content", m.From: ""})
			head, err := store.head(t.Context(), m.To)
			if err != nil || head.ServerSideEncryption == "" || !strings.HasSuffix(aws.ToString(head.SSEKMSKeyId), keyID) {
				t.Errorf("key %q: it is encrypted by %q, %q, %v", keyID, head.ServerSideEncryption, aws.ToString(head.SSEKMSKeyId), err)
			}
		}
	}
}

// TestS3CopyThatFailsBehindItsStatus: the server sends the status 200 when it begins to copy, and an
// error in the body when it fails.
func TestS3CopyThatFailsBehindItsStatus(t *testing.T) {
	t.Parallel()
	const tries = 3
	for _, code := range []string{"InternalError", "AccessDenied", "NoSuchKey"} {
		copies, removals := 0, 0
		store, _ := fakeServer(t, func(_ int, w http.ResponseWriter, r *http.Request) {
			switch {
			case r.Method == http.MethodHead && strings.Contains(r.URL.Path, storage.OwnDir):
				w.WriteHeader(404)
			case r.Method == http.MethodHead:
				w.Header().Set("Content-Length", "7")
				w.Header().Set("ETag", `"etag"`)
			case r.Method == http.MethodPut:
				copies++
				fmt.Fprintf(w, `<?xml version="1.0"?><Error><Code>%s</Code><Message>too late</Message></Error>`, code)
			default:
				removals++
			}
		})
		store.retries.Tries, store.retries.Base = tries, time.Millisecond
		err := store.Move(t.Context(), []storage.Move{{From: "blobs/x", To: storagetest.Moved("blobs/x")}})[0].Err
		if err == nil || errors.Is(err, fs.ErrNotExist) || copies != tries || removals != 0 {
			t.Errorf("%s: %v after %d copies and %d removals", code, err, copies, removals)
		}
	}
}
