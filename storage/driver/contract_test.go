package driver

import (
	"testing"

	"regsweep/internal/drivertest"
	"regsweep/internal/miniotest"
	"regsweep/storage"
	"regsweep/storage/s3/s3test"
	"regsweep/storage/storagetest"

	"github.com/distribution/distribution/v3/registry/storage/driver/inmemory"
)

// TestContract runs the suite of all storages.
func TestContract(t *testing.T) {
	for name, s := range map[string]storagetest.Subject{
		"Distribution's filesystem driver": {
			Directories: true,
			Open: func(t *testing.T) (storage.Store, func(path, content string)) {
				tree := storagetest.NewTree(t)
				return Over(drivertest.Filesystem(tree.Root()), tree.Root()), tree.Write
			},
		},
		"Distribution's s3-aws driver": {
			Slow: true,
			Open: func(t *testing.T) (storage.Store, func(path, content string)) {
				server := miniotest.SharedMinIO(t)
				bucket := server.NewBucketT(t)
				_, plant := s3test.Open(t, server, bucket)
				return Over(drivertest.S3(t, server.Parameters(bucket, "/a/registry")), bucket), plant
			},
		},
		"Distribution's inmemory driver": {
			Directories: true,
			Open: func(t *testing.T) (storage.Store, func(path, content string)) {
				d := inmemory.New()
				return Over(d, ""), func(path, content string) { drivertest.Put(t, d, path, content) }
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storagetest.Test(t, s)
		})
	}
}
