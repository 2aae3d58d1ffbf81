package sweep_test

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"regsweep/inventory"
	"regsweep/storage"
	"regsweep/storage/cache"
)

// keys are the files of a directory as a bucket lists them: all of them, each with its size, its time
// and its ETag.
type keys struct {
	storage.Store
	dir string
}

func (k keys) Scan(_ context.Context, below string, visit func([]storage.Object) error) error {
	return filepath.WalkDir(filepath.Join(k.dir, below), func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		key, err := filepath.Rel(k.dir, path)
		if err != nil {
			return err
		}
		return visit([]storage.Object{{Path: filepath.ToSlash(key), Size: info.Size(), ModTime: info.ModTime(), ETag: etag(content)}})
	})
}

func (k keys) ReadTagged(ctx context.Context, path string, limit int64) ([]byte, string, error) {
	content, err := k.Read(ctx, path, limit)
	return content, etag(content), err
}

func etag(content []byte) string {
	sum := md5.Sum(content)
	return hex.EncodeToString(sum[:])
}

// Random registries with keys as in a bucket, damaged ones among them, come to the same plan without
// a cache, with one that is empty and with one that knows them.
func TestCacheChangesNoPlan(t *testing.T) {
	t.Parallel()
	for seed := uint64(1); seed <= 12; seed++ {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			root, dir := generate(seed, seed%2 == 0, false).put(t), t.TempDir()
			store := keys{openStore(t, root), filepath.Join(root, storage.Root)}
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
