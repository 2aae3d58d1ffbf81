package s3

import (
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"regsweep/internal/imagetest"
	"regsweep/internal/miniotest"
	"regsweep/internal/registrytest"
	"regsweep/storage"
	"regsweep/storage/layout"
	"regsweep/storage/storagetest"
)

// TestS3BucketThatIsNoHost: release 2 of the registry accepts a host name as its endpoint without
// forcepathstyle. There is no host with the bucket's name before it, so the bucket is in the path.
func TestS3BucketThatIsNoHost(t *testing.T) {
	t.Parallel()
	server := miniotest.SharedMinIO(t)
	for _, set := range []any{nil, false, "false"} {
		bucket := server.NewBucketT(t)
		if _, err := net.DefaultResolver.LookupHost(t.Context(), bucket+".localhost"); err == nil {
			t.Skip("here every name below localhost is this host's")
		}
		path := storagetest.BlobPath("sha256", storagetest.HexOf(1))
		server.PutT(t, bucket, storage.Root+"/"+path, "x")
		parameters := server.Parameters(bucket, "")
		parameters["forcepathstyle"] = set
		parameters["regionendpoint"] = strings.Replace(server.Endpoint, "127.0.0.1", "localhost", 1)
		store := storagetest.MustOpen(t)(Open(t.Context(), parameters, Options{})).(*Store)
		storagetest.SamePaths(t, storagetest.KeysOf(storagetest.Scan(t, store, storage.BlobsDir)), map[string]string{path: ""})
		if content, err := store.Read(t.Context(), path, 10); err != nil || string(content) != "x" {
			t.Errorf("forcepathstyle %v: %q, %v", set, content, err)
		}
	}
}

// TestS3EndpointThatIsNoHost: the message names the endpoint's own host. If only the host with the
// bucket's name does not exist, the message names that host.
func TestS3EndpointThatIsNoHost(t *testing.T) {
	t.Parallel()
	store := storagetest.MustOpen(t)(Open(t.Context(), map[string]any{
		"accesskey": "a", "secretkey": "s", "bucket": "bucket", "regionendpoint": "http://no-such-host.invalid:9000",
	}, Options{})).(*Store)
	store.retries.Base, store.retries.Pace.FirstWait = time.Millisecond, time.Millisecond
	err := scanError(t, store)
	if err == nil || !strings.Contains(err.Error(), "http://no-such-host.invalid:9000: ") || strings.Contains(err.Error(), "forcepathstyle") {
		t.Errorf("%v", err)
	}
	// A server that has answered before uses such names. Then the bucket does not exist.
	store.requests.answered.Store(true)
	if err := scanError(t, store); err == nil || !strings.Contains(err.Error(), "bucket.no-such-host.invalid") || !strings.Contains(err.Error(), "set forcepathstyle: true") {
		t.Errorf("%v", err)
	}
}

// TestS3AmazonIsNoHost: without an endpoint the host is Amazon's, with the bucket in the host name
// or in the path. Probably the user meant another server.
func TestS3AmazonIsNoHost(t *testing.T) {
	t.Parallel()
	for _, pathStyle := range []bool{true, false} {
		store := storagetest.MustOpen(t)(Open(t.Context(), map[string]any{
			"accesskey": "a", "secretkey": "s", "bucket": "bucket", "region": "us-east-1", "forcepathstyle": pathStyle,
		}, Options{Transport: storage.Transport{Wrap: func(storage.HTTPClient) storage.HTTPClient { return noHost{} }}})).(*Store)
		err := scanError(t, store)
		if err == nil || strings.Contains(err.Error(), "forcepathstyle") || !strings.Contains(err.Error(), "no such host; no endpoint is set, so this is Amazon S3: for another server set regionendpoint") {
			t.Errorf("%v", err)
		}
	}
}

// noHost is a resolver that finds no host.
type noHost struct{}

func (noHost) Do(r *http.Request) (*http.Response, error) {
	return nil, &url.Error{Op: "Get", URL: r.URL.String(), Err: &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: r.URL.Hostname(), IsNotFound: true}}}
}

// TestS3SlashAfterTheBucket: the registry writes into the bucket, and so does regsweep.
func TestS3SlashAfterTheBucket(t *testing.T) {
	t.Parallel()
	server := miniotest.SharedMinIO(t)
	bucket := server.NewBucketT(t)
	registry := registrytest.StartT(t, registrytest.Config{Storage: server.Storage(bucket+"/", "/root")})
	image := imagetest.Image(imagetest.OCI, imagetest.Layer(1, 100))
	if err := registry.Client().Push(t.Context(), "app:v1", image); err != nil {
		t.Fatal(err)
	}
	store := storagetest.MustOpen(t)(Open(t.Context(), server.Parameters(bucket+"/", "/root"), Options{}))
	if _, found := storagetest.Scan(t, store, storage.BlobsDir)[layout.BlobPath(image.Digest())]; !found {
		t.Error("the manifest that the registry has stored is not found")
	}
}
