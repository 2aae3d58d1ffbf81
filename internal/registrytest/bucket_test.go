package registrytest_test

import (
	"maps"
	"testing"

	"regsweep/internal/imagetest"
	"regsweep/internal/miniotest"
	"regsweep/internal/registrytest"
)

// servers is each S3 server that there is.
var servers = map[string]func(testing.TB) *miniotest.S3{
	"minio":     miniotest.SharedMinIO,
	"versitygw": miniotest.SharedVersityGW,
}

func TestRegistryInABucket(t *testing.T) {
	for name, shared := range servers {
		t.Run(name, func(t *testing.T) {
			server := shared(t)
			registry := registrytest.StartT(t, registrytest.Config{
				Storage: server.Storage(server.NewBucketT(t), "/some/root"), SparseIndexes: true})
			pushAndPull(t, registry.Client())
		})
	}
}

func TestUploadedTreeIsTheSameRegistry(t *testing.T) {
	app, job := base()
	for name, shared := range servers {
		t.Run(name, func(t *testing.T) {
			tree := imagetest.NewTree(t, t.TempDir())
			tree.Tag("team/app", "v1", tree.Manifest("team/app", app))
			tree.Tag("team/app", "job", tree.Manifest("team/app", job))
			tree.Mkdir("repositories/empty/_manifests/tags")

			server := shared(t)
			bucket := server.NewBucketT(t)
			for _, rootDirectory := range []string{"", "/", "/some/root"} {
				if err := miniotest.UploadTree(t.Context(), server, bucket, rootDirectory, tree.Root()); err != nil {
					t.Fatal(err)
				}
				registry := registrytest.StartT(t, registrytest.Config{Storage: server.Storage(bucket, rootDirectory)})
				if err := registry.Client().PullAll(t.Context(), "team/app", "v1", "job"); err != nil {
					t.Errorf("root %q: %v", rootDirectory, err)
				}
			}
			got, err := server.Snapshot(t.Context(), bucket, "/some/root")
			if err != nil {
				t.Fatal(err)
			}
			if want := imagetest.SnapshotT(t, tree.Root()); !maps.Equal(got, want) {
				t.Errorf("in the bucket:\n%s\non disk:\n%s", listing(got), listing(want))
			}
		})
	}
}
