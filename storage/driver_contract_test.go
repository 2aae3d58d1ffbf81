package storage

import (
	"regsweep/internal/parts"
	"testing"

	"github.com/distribution/distribution/v3/registry/storage/driver/inmemory"
)

// TestContract runs the suite of all storages.
func TestContractDriver(t *testing.T) {
	for name, s := range map[string]subject{
		"Distribution's filesystem driver": {
			directories: true,
			open: func(t *testing.T) (Store, func(path, content string)) {
				tree := newTree(t)
				return OverDriver(fsDriver(tree.Root()), tree.Root()), tree.Write
			},
		},
		"Distribution's s3-aws driver": {
			slow: true,
			open: func(t *testing.T) (Store, func(path, content string)) {
				server := parts.SharedMinIO(t)
				bucket := server.NewBucketT(t)
				_, plant := openInBucket(t, server, bucket)
				return OverDriver(s3Driver(t, server.Parameters(bucket, "/a/registry")), bucket), plant
			},
		},
		"Distribution's inmemory driver": {
			directories: true,
			open: func(t *testing.T) (Store, func(path, content string)) {
				d := inmemory.New()
				return OverDriver(d, ""), func(path, content string) { putThrough(t, d, path, content) }
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testStore(t, s)
		})
	}
}
