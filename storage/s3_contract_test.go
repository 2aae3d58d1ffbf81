package storage

import (
	"regsweep/internal/parts"
	"testing"
)

// TestContract runs the suite of all storages.
func TestContractS3(t *testing.T) {
	for name, s := range map[string]subject{
		"s3 on MinIO": {
			anyName: true, multipart: true,
			open: func(t *testing.T) (Store, func(path, content string)) {
				server := parts.SharedMinIO(t)
				return openBucket(t, server, server.NewBucketT(t))
			},
		},
		"s3 on versitygw": {
			anyName: true, multipart: true,
			open: func(t *testing.T) (Store, func(path, content string)) {
				server := parts.SharedVersityGW(t)
				return openBucket(t, server, server.NewBucketT(t))
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testStore(t, s)
		})
	}
}

// openBucket opens a registry in a bucket, at a root directory, and a way past the
// store to put objects there.
func openBucket(t *testing.T, server *parts.S3, bucket string) (Store, func(path, content string)) {
	t.Helper()
	const root = "/a/registry"
	store := mustOpen(t)(openS3(t.Context(), server.Parameters(bucket, root), s3Options{}))
	return store, func(path, content string) {
		server.PutT(t, bucket, "a/registry/"+Root+"/"+path, content)
	}
}
