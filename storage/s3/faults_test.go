package s3

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"

	"regsweep/internal/miniotest"
	"regsweep/storage"
	"regsweep/storage/storagetest"
)

// TestFaults runs the suite of all storages with failing requests.
func TestFaults(t *testing.T) {
	server := miniotest.SharedMinIO(t)
	storagetest.TestFaults(t, storagetest.Faulty{
		Faults: []string{"403", "no bucket", "503", "reset", "lost", "truncated"},
		Open: func(t *testing.T, strike func() string) (storage.Store, func(path, content string)) {
			bucket := server.NewBucketT(t)
			wrap := func(network storage.HTTPClient) storage.HTTPClient { return failing{network, strike} }
			store := storagetest.MustOpen(t)(Open(t.Context(), server.Parameters(bucket, ""), Options{Transport: storage.Transport{Wrap: wrap, Haste: 1000}}))
			return store, func(path, content string) { server.PutT(t, bucket, storage.Root+"/"+path, content) }
		},
	})
}

// failing makes requests fail where they leave the S3 client for the network. "reset" and "lost"
// cut the connection before the server has read the request, and after it has carried it out.
type failing struct {
	network storage.HTTPClient
	strike  func() string
}

func (f failing) Do(r *http.Request) (*http.Response, error) {
	reset := &url.Error{Op: r.Method, URL: r.URL.Redacted(), Err: syscall.ECONNRESET}
	fault := f.strike()
	switch fault {
	case "":
		return f.network.Do(r)
	case "403":
		return refusalOf(r, 403, "AccessDenied"), nil
	case "no bucket":
		return refusalOf(r, 404, "NoSuchBucket"), nil
	case "503":
		return refusalOf(r, 503, "SlowDown"), nil
	case "reset":
		return nil, reset
	}
	response, err := f.network.Do(r)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil {
		return nil, err
	}
	if fault == "lost" || len(body) == 0 {
		return nil, reset
	}
	response.Body = io.NopCloser(io.MultiReader(bytes.NewReader(body[:len(body)/2]), cut{}))
	return response, nil
}

// cut is the rest of an answer whose connection is cut.
type cut struct{}

func (cut) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func refusalOf(r *http.Request, status int, code string) *http.Response {
	body := fmt.Sprintf("<Error><Code>%s</Code><Message>m</Message></Error>", code)
	if r.Method == http.MethodHead {
		body = ""
	}
	return &http.Response{
		StatusCode: status, Status: fmt.Sprint(status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {"application/xml"}}, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)), Request: r,
	}
}
