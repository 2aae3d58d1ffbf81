package parts_test

import (
	"maps"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"regsweep/internal/parts"
)

// servers is each S3 server that there is.
var servers = map[string]func(testing.TB) *parts.S3{
	"minio":     parts.SharedMinIO,
	"versitygw": parts.SharedVersityGW,
}

func TestRegistryInABucket(t *testing.T) {
	slow(t)
	for name, shared := range servers {
		t.Run(name, func(t *testing.T) {
			server := shared(t)
			registry := parts.StartRegistryT(t, parts.Config{
				Storage: server.Storage(server.NewBucketT(t), "/some/root"), SparseIndexes: true})
			pushAndPull(t, registry.Client())
		})
	}
}

func TestUploadedTreeIsTheSameRegistry(t *testing.T) {
	slow(t)
	app, job := base()
	for name, shared := range servers {
		t.Run(name, func(t *testing.T) {
			tree := parts.NewTree(t, t.TempDir())
			tree.Tag("team/app", "v1", tree.Manifest("team/app", app))
			tree.Tag("team/app", "job", tree.Manifest("team/app", job))
			tree.Mkdir("repositories/empty/_manifests/tags")

			server := shared(t)
			bucket := server.NewBucketT(t)
			for _, rootDirectory := range []string{"", "/", "/some/root"} {
				if err := parts.UploadTree(t.Context(), server, bucket, rootDirectory, tree.Root()); err != nil {
					t.Fatal(err)
				}
				registry := parts.StartRegistryT(t, parts.Config{Storage: server.Storage(bucket, rootDirectory)})
				if err := registry.Client().PullAll(t.Context(), "team/app", "v1", "job"); err != nil {
					t.Errorf("root %q: %v", rootDirectory, err)
				}
			}
			got, err := server.Snapshot(t.Context(), bucket, "/some/root")
			if err != nil {
				t.Fatal(err)
			}
			if want := parts.SnapshotT(t, tree.Root()); !maps.Equal(got, want) {
				t.Errorf("in the bucket:\n%s\non disk:\n%s", listing(got), listing(want))
			}
		})
	}
}

func TestStoppedServerIsGone(t *testing.T) {
	slow(t)
	server, err := parts.StartMinIO(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := server.NewBucket(t.Context(), "bucket"); err != nil {
		t.Fatal(err)
	}
	if err := server.Stop(); err != nil {
		t.Fatal(err)
	}
	once := func(o *s3.Options) { o.RetryMaxAttempts = 1 }
	_, err = server.Client().ListBuckets(t.Context(), &s3.ListBucketsInput{}, once)
	if err == nil || !strings.Contains(err.Error(), "refused") {
		t.Fatalf("a stopped server answers: %v", err)
	}
}
