package storage

import (
	"context"
	"regsweep/internal/parts"
	"testing"
	"time"
)

// TestContract runs the suite of all storages.
func TestContractCache(t *testing.T) {
	for name, s := range map[string]subject{
		"s3 behind a cache": {
			anyName: true, multipart: true,
			open: func(t *testing.T) (Store, func(path, content string)) {
				server := parts.SharedMinIO(t)
				store, plant := openInBucket(t, server, server.NewBucketT(t))
				cache, err := OpenCache(store, t.TempDir(), time.Now())
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
			testStore(t, s)
		})
	}
}
