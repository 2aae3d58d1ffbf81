// Package s3test opens registries in buckets.
package storage

import (
	"regsweep/internal/parts"
	"testing"
)

// openInBucket opens a registry in a bucket, at a root directory, and a way past the
// store to put objects there.
func openInBucket(t *testing.T, server *parts.S3, bucket string) (Store, func(path, content string)) {
	t.Helper()
	const root = "/a/registry"
	store, err := openS3(t.Context(), server.Parameters(bucket, root), s3Options{})
	if err != nil {
		t.Fatal(err)
	}
	return store, func(path, content string) { server.PutT(t, bucket, "a/registry/"+Root+"/"+path, content) }
}
