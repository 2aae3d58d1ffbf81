package cache

import (
	"context"
	"testing"
	"time"

	"regsweep/internal/miniotest"
	"regsweep/storage"
	"regsweep/storage/s3/s3test"
	"regsweep/storage/storagetest"
)

// TestContract runs the suite of all storages.
func TestContract(t *testing.T) {
	for name, s := range map[string]storagetest.Subject{
		"s3 behind a cache": {
			AnyName: true, Multipart: true,
			Open: func(t *testing.T) (storage.Store, func(path, content string)) {
				server := miniotest.SharedMinIO(t)
				store, plant := s3test.Open(t, server, server.NewBucketT(t))
				cache, err := Open(store, t.TempDir(), time.Now())
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { cache.Close(context.WithoutCancel(t.Context())) })
				return cache, plant
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storagetest.Test(t, s)
		})
	}
}
