package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/factory"
	fsdriver "github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
)

// The fakes in here are for faults alone, which no real storage has when a test wants
// it to. All else that they answer is a real storage's answer.

// faultyDriver is Distribution's filesystem driver with a fault in its reading. The
// program knows it by the name "faulty", as it would any driver that it has no code of
// its own for.
type faultyDriver struct {
	driver.StorageDriver
	*fault
}

// fault is what goes wrong, and how often it was met.
type fault struct {
	// on is the operation: List, Stat or Reader.
	on string
	// path is the end of the path that it goes wrong with.
	path string
	err  error
	// times is how often it goes wrong; 0 is every time.
	times int64
	met   atomic.Int64
}

func (f *fault) strike(on, path string) error {
	if on != f.on || !strings.HasSuffix(path, f.path) {
		return nil
	}
	if n := f.met.Add(1); f.times > 0 && n > f.times {
		return nil
	}
	return f.err
}

func (d faultyDriver) List(ctx context.Context, path string) ([]string, error) {
	if err := d.strike("List", path); err != nil {
		return nil, err
	}
	return d.StorageDriver.List(ctx, path)
}

func (d faultyDriver) Stat(ctx context.Context, path string) (driver.FileInfo, error) {
	if err := d.strike("Stat", path); err != nil {
		return nil, err
	}
	return d.StorageDriver.Stat(ctx, path)
}

func (d faultyDriver) Reader(ctx context.Context, path string, offset int64) (io.ReadCloser, error) {
	if err := d.strike("Reader", path); err != nil {
		return nil, err
	}
	return d.StorageDriver.Reader(ctx, path, offset)
}

// faults are those of the drivers to come, by root directory.
var faults sync.Map

type faultyFactory struct{}

func (faultyFactory) Create(ctx context.Context, parameters map[string]any) (driver.StorageDriver, error) {
	f, ok := faults.Load(parameters["rootdirectory"])
	if !ok {
		return nil, fmt.Errorf("no fault for %v", parameters["rootdirectory"])
	}
	d, err := fsdriver.FromParameters(parameters)
	return faultyDriver{d, f.(*fault)}, err
}

func init() { factory.Register("faulty", faultyFactory{}) }

// withFault is the config.yml of the registry, its storage read through the driver that
// fails.
func (s *site) withFault(f *fault) string {
	s.Helper()
	root := s.tree.Root()
	faults.Store(root, f)
	s.Cleanup(func() { faults.Delete(root) })
	return s.config(strings.Replace(s.registry.ConfigYAML(), "  filesystem:\n", "  faulty:\n", 1))
}

// errUnavailable is what a driver makes of an answer with 503, once its own tries are
// used up.
var errUnavailable = errors.New("503 Service Unavailable")

// faultyFront stands before an S3 server, passes on what it is sent, and answers with a
// status of its own where it is told to.
type faultyFront struct {
	*httptest.Server
	// matches is asked of each request, with its body.
	matches func(r *http.Request, body string) bool
	status  int
	code    string // of the S3 error
	times   int64  // 0 is every time
	met     atomic.Int64
}

func (f *faultyFront) start(t testing.TB, endpoint string) {
	t.Helper()
	behind, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	pass := &httputil.ReverseProxy{ErrorLog: log.New(io.Discard, "", 0), Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(behind)
		r.Out.Host = r.In.Host // which is signed
	}}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("read a request: %v", err)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		if f.matches(r, string(body)) {
			if n := f.met.Add(1); f.times == 0 || n <= f.times {
				w.Header().Set("Content-Type", "application/xml")
				w.WriteHeader(f.status)
				if r.Method != http.MethodHead {
					fmt.Fprintf(w, "<Error><Code>%s</Code><Message>a fault on purpose</Message></Error>", f.code)
				}
				return
			}
		}
		pass.ServeHTTP(w, r)
	}))
	t.Cleanup(f.Close)
}

// behindFront is the config.yml of the registry in a bucket, reached through the front.
func (s *site) behindFront(f *faultyFront) string {
	s.Helper()
	f.start(s, s.s3.Endpoint)
	return s.config(strings.ReplaceAll(s.registry.ConfigYAML(), s.s3.Endpoint, f.URL))
}
