// Package s3test opens registries in buckets.
package s3test

import (
	"testing"

	"regsweep/internal/miniotest"
	"regsweep/storage"
	"regsweep/storage/s3"
)

// Open opens a registry in a bucket, at a root directory, and a way past the
// store to put objects there.
func Open(t *testing.T, server *miniotest.S3, bucket string) (storage.Store, func(path, content string)) {
	t.Helper()
	const root = "/a/registry"
	store, err := s3.Open(t.Context(), server.Parameters(bucket, root), s3.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return store, func(path, content string) { server.PutT(t, bucket, "a/registry/"+storage.Root+"/"+path, content) }
}
