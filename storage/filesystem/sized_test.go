package filesystem

import (
	"context"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"regsweep/internal/imagetest"
	"regsweep/storage"
	"regsweep/storage/layout"
)

// ScanSized reports every file with its size and its time, and otherwise what Scan reports.
func TestScanSized(t *testing.T) {
	tree, store, _ := smallRegistry(t)
	shared := imagetest.Layer(7, 100).Digest()
	tree.Blob(imagetest.Layer(7, 100).Content)
	if err := os.Link(tree.Path(layout.BlobPath(shared)), filepath.Join(t.TempDir(), "elsewhere")); err != nil {
		t.Fatal(err)
	}
	tree.Write(layout.UploadPath("app", "upload")+"/data", "half of a layer")
	tree.Write("repositories/app/notes", "of somebody")
	tree.Mkdir(filepath.Dir(layout.BlobPath(imagetest.Layer(8, 10).Digest()))) // there is no blob in it

	type file struct {
		size    int64
		modTime time.Time
	}
	want := map[string]file{}
	for _, dir := range []string{storage.BlobsDir, storage.RepositoriesDir} {
		err := filepath.WalkDir(tree.Path(dir), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			info, err := entry.Info()
			if err == nil {
				want[strings.TrimPrefix(path, tree.Path("")+"/")] = file{info.Size(), info.ModTime()}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	type scan func(ctx context.Context, dir string, visit func([]storage.Object) error) error
	take := func(scan scan) (all map[string]storage.Object) {
		all = map[string]storage.Object{}
		var mu sync.Mutex
		for _, dir := range []string{storage.BlobsDir, storage.RepositoriesDir} {
			err := scan(t.Context(), dir, func(page []storage.Object) error {
				mu.Lock()
				defer mu.Unlock()
				for _, o := range page {
					all[o.Path] = o
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		return all
	}
	sized := take(store.(storage.SizedScanner).ScanSized)
	got := map[string]file{}
	for path, o := range sized {
		if o.Size >= 0 && !o.Dir {
			got[path] = file{o.Size, o.ModTime}
		}
		if o.HardLinked != (path == layout.BlobPath(shared)) {
			t.Errorf("%s: hard linked is %t", path, o.HardLinked)
		}
	}
	if !maps.EqualFunc(got, want, func(a, b file) bool { return a.size == b.size && a.modTime.Equal(b.modTime) }) {
		t.Errorf("got %v, want %v", got, want)
	}
	plain := take(store.Scan)
	if !maps.EqualFunc(sized, plain, func(a, b storage.Object) bool {
		return a.Named == (b.Named && a.Size < 0) && a.Dir == b.Dir && string(a.Content) == string(b.Content)
	}) {
		t.Errorf("got %v, Scan reports %v", sized, plain)
	}
}
