package sweep_test

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"regsweep/internal/miniotest"
	"regsweep/inventory"
	"regsweep/storage/cache"
	"regsweep/storage/config"
	"regsweep/storage/open"
)

// Random registries in buckets, damaged ones among them, come to the same plan without
// a cache, with one that is empty and with one that knows them.
func TestCacheChangesNoPlan(t *testing.T) {
	t.Parallel()
	server := miniotest.SharedMinIO(t)
	for seed := uint64(1); seed <= 12; seed++ {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			bucket, dir := server.NewBucketT(t), t.TempDir()
			if err := miniotest.UploadTree(t.Context(), server, bucket, "", generate(seed, seed%2 == 0, false).put(t)); err != nil {
				t.Fatal(err)
			}
			store, err := open.Store(t.Context(), config.Config{Driver: "s3", Parameters: config.Parameters(server.Parameters(bucket, ""))})
			if err != nil {
				t.Fatal(err)
			}
			r := rules{deleteUntagged: seed%3 > 0, uploadAge: 7 * 24 * time.Hour}
			want, err := tryPlan(t.Context(), store, r)
			if err != nil {
				t.Fatal(err)
			}
			for pass := range 2 {
				cache, err := cache.Open(store, dir, time.Now())
				if err != nil {
					t.Fatal(err)
				}
				got, err := tryPlan(t.Context(), cache, r)
				if err != nil {
					t.Fatal(err)
				}
				cache.Close(t.Context())
				if !reflect.DeepEqual(paths(got), paths(want)) || !reflect.DeepEqual(got.Problems, want.Problems) ||
					!reflect.DeepEqual(got.Kept, want.Kept) || got.Live != want.Live {
					t.Errorf("pass %d: %+v, want %+v", pass, got, want)
				}
				use := cache.Use()
				missing := 0 // what is not stored is asked for each time
				for _, p := range got.Problems {
					if p.Kind == inventory.ManifestMissing || p.Kind == inventory.DanglingRevision {
						missing++
					}
				}
				if hits := pass > 0; (use.Hits > 0) != hits || use.Hits+use.Reads == 0 || hits && seed%2 == 1 && int(use.Reads) > missing {
					t.Errorf("pass %d: %+v", pass, use)
				}
				if problems := cache.Failures(); len(problems) > 0 {
					t.Errorf("pass %d: %v", pass, problems)
				}
			}
		})
	}
}
