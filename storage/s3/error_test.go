package s3

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"regsweep/storage"
	"regsweep/storage/storagetest"
)

// TestS3ErrorSaysWhatTheServerSaid: the message begins with the server's own code. Advice is added
// if the meaning of the code is clear. The permission is named only for AccessDenied.
func TestS3ErrorSaysWhatTheServerSaid(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		status int
		code   string
		advice string
	}{
		{403, "AccessDenied", "it takes the permission s3:ListBucket"},
		{403, "SignatureDoesNotMatch", "the secret key does not belong"},
		{403, "InvalidAccessKeyId", "does not know the access key"},
		{403, "RequestTimeTooSkewed", "clock"},
		{400, "ExpiredToken", "have expired"},
		{403, "ExpiredToken", "have expired"},
		{400, "InvalidToken", "session token"},
		{403, "AllAccessDisabled", "disabled"},
		{403, "AccountProblem", "disabled"},
		{400, "AuthorizationHeaderMalformed", "region"},
		{301, "PermanentRedirect", "region"},
		{404, "NoSuchBucket", "the bucket's name"},
		{403, "SomethingNew", ""},
		{403, "MethodNotAllowed", ""},
	} {
		t.Run(test.code, func(t *testing.T) {
			t.Parallel()
			store, _ := fakeServer(t, func(_ int, w http.ResponseWriter, r *http.Request) { writeFault(w, test.status, test.code) })
			_, err := store.page(t.Context(), storage.BlobsDir, "", "")
			if err == nil {
				t.Fatal("no error")
			}
			text := err.Error()
			if !strings.Contains(text, "/blobs/: "+test.code+": as the test wants it (status") || !strings.Contains(text, test.advice) {
				t.Errorf("%s, want %q", text, test.advice)
			}
			if (test.advice == "") == strings.Contains(text, ";") || strings.Contains(text, "takes the permission") != (test.code == "AccessDenied") {
				t.Errorf("the advice is a guess: %s", text)
			}
		})
	}
}

// TestS3ErrorOfAHEAD: the error has no code, so the missing permission is a guess, and the message
// says so.
func TestS3ErrorOfAHEAD(t *testing.T) {
	t.Parallel()
	store, _ := fakeServer(t, func(_ int, w http.ResponseWriter, r *http.Request) { w.WriteHeader(403) })
	if _, err := store.Stat(t.Context(), "blobs/x"); err == nil || !strings.Contains(err.Error(), "may lack the permission s3:GetObject") {
		t.Errorf("%v", err)
	}
}

// TestS3ErrorOfAWebServer: the message names the endpoint and describes its answer.
func TestS3ErrorOfAWebServer(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		status int
		want   string
	}{
		"200": {200, "no bucket listing"}, "404": {404, "a page of HTML (status 404)"}, "403": {403, "a page of HTML (status 403)"},
		"405": {405, "a page of HTML (status 405)"}, "400": {400, "a page of HTML (status 400)"},
		"301": {301, "a redirection to https://www.example.com/ (status 301)"}, "302": {302, "a redirection to https://www.example.com/ (status 302)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, _ := fakeServer(t, func(_ int, w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "text/html; charset=utf-8")
				if test.status/100 == 3 {
					w.Header().Set("Location", "https://www.example.com/")
				}
				w.WriteHeader(test.status)
				io.WriteString(w, "<html><body>Welcome to nginx!</body></html>")
			})
			for what, err := range map[string]error{"listing": scanError(t, store), "uploads": store.scanUploads(t.Context(), storage.BlobsDir, nil)} {
				if err == nil || !strings.Contains(err.Error(), store.parameters.endpoint) || !strings.Contains(err.Error(), test.want) ||
					!strings.Contains(err.Error(), "is this the address of an S3 server?") || errors.Is(err, errUnordered) {
					t.Errorf("%s: %v, want %q and the endpoint", what, err, test.want)
				}
			}
		})
	}
}

// TestS3ErrorOfAnotherServer: a server that gives no reason, such as a registry, is no S3 server.
func TestS3ErrorOfAnotherServer(t *testing.T) {
	t.Parallel()
	for _, status := range []int{401, 404, 405} {
		for _, body := range []string{"", "404 page not found\n", `{"errors":[]}`} {
			store, _ := fakeServer(t, func(_ int, w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(status)
				io.WriteString(w, body)
			})
			want := fmt.Sprintf("/blobs/: %s answers %d without an S3 error: check the endpoint", store.parameters.endpoint, status)
			if err := scanError(t, store); err == nil || !strings.HasSuffix(err.Error(), want) {
				t.Errorf("%d %q: %v, want %q", status, body, err, want)
			}
		}
	}
}

func scanError(t *testing.T, store *Store) error {
	t.Helper()
	_, err := store.page(t.Context(), storage.BlobsDir, "", "")
	return err
}

// TestS3ErrorOfAnAddressWithoutItsScheme: an address without a scheme means https.
func TestS3ErrorOfAnAddressWithoutItsScheme(t *testing.T) {
	t.Parallel()
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	host := strings.TrimPrefix(plain.URL, "http://")
	store := storagetest.MustOpen(t)(Open(t.Context(), map[string]any{
		"accesskey": "key", "secretkey": "secret", "bucket": "bucket", "regionendpoint": host, "forcepathstyle": true,
	}, Options{})).(*Store)
	err := scanError(t, store)
	if err == nil || !strings.Contains(err.Error(), "https://"+host+" does not speak HTTPS: write the endpoint with http://") {
		t.Errorf("%v", err)
	}
}

// TestS3UnreadableObject: an archived object, or an object whose encryption key is disabled, exists,
// and only its content can't be read. Other refusals are failures of the storage.
func TestS3UnreadableObject(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		status     int
		code       string
		unreadable bool
	}{
		{403, "InvalidObjectState", true},
		{400, "KMS.DisabledException", true},
		{400, "KMS.KMSInvalidStateException", true},
		{400, "KMS.NotFoundException", true},
		{400, "KMS.AccessDeniedException", true},
		{400, "KMSUnknown", false},
		{403, "AccessDenied", false},
		{404, "NoSuchBucket", false},
		{400, "InvalidRequest", false},
	} {
		store, asked := fakeServer(t, func(_ int, w http.ResponseWriter, r *http.Request) { writeFault(w, test.status, test.code) })
		_, read := store.Read(t.Context(), "blobs/x", 100)
		streamed := store.Stream(t.Context(), "blobs/x", io.Discard)
		for what, err := range map[string]error{"read": read, "stream": streamed} {
			if err == nil || errors.Is(err, storage.ErrUnreadable) != test.unreadable || !strings.Contains(err.Error(), test.code) || !strings.Contains(err.Error(), "blobs/x") {
				t.Errorf("%s %s: %v", what, test.code, err)
			}
		}
		if asked.Load() != 2 {
			t.Errorf("%s: %d requests", test.code, asked.Load())
		}
	}
}
