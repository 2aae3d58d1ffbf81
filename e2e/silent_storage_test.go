package e2e

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"regsweep/storage"
)

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
	s := newSite(t)
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
