package s3

import (
	"testing"

	"regsweep/internal/miniotest"
	"regsweep/storage"
	"regsweep/storage/storagetest"
)

// TestContract runs the suite of all storages.
func TestContract(t *testing.T) {
	for name, s := range map[string]storagetest.Subject{
		"s3 on MinIO": {
			AnyName: true, Multipart: true,
			Open: func(t *testing.T) (storage.Store, func(path, content string)) {
				server := miniotest.SharedMinIO(t)
				return openBucket(t, server, server.NewBucketT(t))
			},
		},
		"s3 on versitygw": {
			AnyName: true, Multipart: true,
			Open: func(t *testing.T) (storage.Store, func(path, content string)) {
				server := miniotest.SharedVersityGW(t)
				return openBucket(t, server, server.NewBucketT(t))
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storagetest.Test(t, s)
		})
	}
}

// openBucket opens a registry in a bucket, at a root directory. It also returns a function that
// puts objects there without the store.
func openBucket(t *testing.T, server *miniotest.S3, bucket string) (storage.Store, func(path, content string)) {
	t.Helper()
	const root = "/a/registry"
	store := storagetest.MustOpen(t)(Open(t.Context(), server.Parameters(bucket, root), Options{}))
	return store, func(path, content string) {
		server.PutT(t, bucket, "a/registry/"+storage.Root+"/"+path, content)
	}
}
