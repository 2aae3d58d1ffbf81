package main

import (
	"net"
	"strings"
	"testing"

	"regsweep/storage"
)

// TestSilentStorageIsNamed: a storage accepts connections and never answers. The run says so,
// ends, and names the endpoint.
func TestSilentStorageIsNamed(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := silent.Close(); err != nil {
			t.Error(err)
		}
	})
	s := newSite(t)
	const bucket = "silent-bucket"
	transports.Store(bucket, storage.Transport{Haste: 500, Silence: 500})
	t.Cleanup(func() { transports.Delete(bucket) })
	endpoint := "http://" + silent.Addr().String()
	file := s.config("version: 0.1\nstorage: {s3: {bucket: " + bucket + ", accesskey: a, secretkey: s, forcepathstyle: true, regionendpoint: '" + endpoint + "'}}\nhttp: {addr: ':5000'}\n")
	code, _, stderr := regsweep(s, "gc", "-d", file, "--registry-stopped", "--no-cache", "--quiet")
	if code != 1 || strings.Count(stderr, "no answer from "+endpoint+" since ") != 1 || !strings.Contains(stderr, "s3://"+bucket+"/docker/registry/v2/blobs/: no answer from "+endpoint+": ") {
		t.Errorf("ends with %d: %s", code, stderr)
	}
}
