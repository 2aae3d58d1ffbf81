package driver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"regsweep/internal/drivertest"
	"regsweep/internal/miniotest"
	"regsweep/storage"
	"regsweep/storage/pace"
	"regsweep/storage/s3/s3test"
	"regsweep/storage/storagetest"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/inmemory"
)

// TestDriverReportsWhatItRefuses: a path that the driver refuses is reported, since it was listed
// and so it exists.
func TestDriverReportsWhatItRefuses(t *testing.T) {
	tree := storagetest.NewTree(t)
	tree.Write("blobs/sha256/a b", "file of a name that the driver refuses")
	tree.Write("blobs/sha256/c d/data", "in a directory of such a name")
	tree.Write("blobs/file", "x")
	store := Over(drivertest.Filesystem(tree.Root()), tree.Root())
	objects := storagetest.Scan(t, store, storage.BlobsDir)
	storagetest.SamePaths(t, storagetest.KeysOf(objects), map[string]string{"blobs/sha256/a b": "", "blobs/sha256/c d": "", "blobs/file": ""})
	for path, object := range objects {
		if refused := path != "blobs/file"; refused != (object.Size == -1) {
			t.Errorf("%+v", object)
		}
	}
	for _, outcome := range store.Remove(t.Context(), []storage.Ref{{Path: "blobs/sha256/a b"}, {Path: "blobs/sha256/c d"}}) {
		if outcome.Err == nil {
			t.Error("a name that the driver refuses counts as removed")
		}
	}
	if !tree.Exists("blobs/sha256/a b") || !tree.Exists("blobs/sha256/c d/data") {
		t.Error("a name that the driver refuses is gone")
	}
}

// TestDriverScanNamesWhatItCannotList: a hole in a listing is an error.
func TestDriverScanNamesWhatItCannotList(t *testing.T) {
	t.Run("a file where a directory should be", func(t *testing.T) {
		tree := storagetest.NewTree(t)
		tree.Write("blobs", "a file")
		err := Over(drivertest.Filesystem(tree.Root()), tree.Root()).Scan(t.Context(), storage.BlobsDir, func([]storage.Object) error { return nil })
		if err == nil || !strings.Contains(err.Error(), "blobs") {
			t.Errorf("scan: %v", err)
		}
	})
	t.Run("a circle of symbolic links", func(t *testing.T) {
		tree := storagetest.NewTree(t)
		tree.Mkdir("blobs")
		if err := os.Symlink("loop", tree.Path("blobs/loop")); err != nil {
			t.Fatal(err)
		}
		err := Over(drivertest.Filesystem(tree.Root()), tree.Root()).Scan(t.Context(), storage.BlobsDir, func([]storage.Object) error { return nil })
		if err == nil || !strings.Contains(err.Error(), "blobs/loop") {
			t.Errorf("scan: %v", err)
		}
	})
	t.Run("a driver that fails", func(t *testing.T) {
		d := &failing{StorageDriver: inmemory.New(), fail: func(op, path string) error {
			if op == "list" && strings.HasSuffix(path, "/aa") {
				return errors.New("permission denied")
			}
			return nil
		}}
		drivertest.Put(t, d, "blobs/sha256/aa/x", "x")
		drivertest.Put(t, d, "blobs/sha256/bb/x", "x")
		err := Over(d, "").Scan(t.Context(), storage.BlobsDir, func([]storage.Object) error { return nil })
		if err == nil || !strings.Contains(err.Error(), "blobs/sha256/aa") || !strings.Contains(err.Error(), "permission denied") {
			t.Errorf("scan: %v", err)
		}
	})
}

// TestDriverKeepsListedButMissing: a dangling symbolic link is reported.
func TestDriverKeepsListedButMissing(t *testing.T) {
	tree := storagetest.NewTree(t)
	tree.Mkdir("blobs")
	if err := os.Symlink("nowhere", tree.Path("blobs/dangling")); err != nil {
		t.Fatal(err)
	}
	objects := storagetest.Scan(t, Over(drivertest.Filesystem(tree.Root()), tree.Root()), storage.BlobsDir)
	if got := objects["blobs/dangling"]; got.Size != -1 || len(objects) != 1 {
		t.Errorf("%v", objects)
	}
}

// TestDriverRemovesNoDirectory: the drivers' Delete removes everything below a path.
func TestDriverRemovesNoDirectory(t *testing.T) {
	t.Run("filesystem", func(t *testing.T) {
		tree := storagetest.NewTree(t)
		tree.Write("blobs/sha256/aa/data", "x")
		outcome := Over(drivertest.Filesystem(tree.Root()), tree.Root()).Remove(t.Context(), []storage.Ref{{Path: "blobs/sha256"}})[0]
		if !errors.Is(outcome.Err, storage.ErrNotRegular) || !tree.Exists("blobs/sha256/aa/data") {
			t.Errorf("%+v", outcome)
		}
	})
	t.Run("s3-aws, an object beside objects below it", func(t *testing.T) {
		server := miniotest.SharedMinIO(t)
		bucket := server.NewBucketT(t)
		_, plant := s3test.Open(t, server, bucket)
		store := Over(drivertest.S3(t, server.Parameters(bucket, "/a/registry")), bucket)
		plant("blobs/x/data", "x")
		plant("blobs/xy", "x")
		for _, path := range []string{"blobs/x", "blobs/"} {
			if store.Remove(t.Context(), []storage.Ref{{Path: path}})[0].Err == nil {
				t.Errorf("%s counts as removed", path)
			}
		}
		storagetest.SamePaths(t, storagetest.KeysOf(storagetest.Scan(t, store, storage.BlobsDir)), map[string]string{"blobs/x/data": "", "blobs/xy": ""})
	})
	t.Run("a flat storage with both", func(t *testing.T) {
		// No server here can have both "x" and "x/y", as S3 can.
		store := Over(flat{
			driverPath("blobs/x"): "x", driverPath("blobs/x/y"): "below", driverPath("blobs/z"): "listed between the two",
		}, "")
		storagetest.SamePaths(t, storagetest.KeysOf(storagetest.Scan(t, store, storage.BlobsDir)), map[string]string{"blobs/x": "", "blobs/x/y": "", "blobs/z": ""})
		outcome := store.Remove(t.Context(), []storage.Ref{{Path: "blobs/x"}})[0]
		if outcome.Err == nil || !strings.Contains(outcome.Err.Error(), "below it") {
			t.Errorf("%+v", outcome)
		}
		if content, err := store.Read(t.Context(), "blobs/x/y", 10); err != nil || string(content) != "below" {
			t.Errorf("%q, %v", content, err)
		}
	})
}

// TestDriverLeavesEmptiedDirectories: their removal would also remove a file that is written at
// that moment.
func TestDriverLeavesEmptiedDirectories(t *testing.T) {
	tree := storagetest.NewTree(t)
	tree.Write("repositories/a/_uploads/u/data", "x")
	store := Over(drivertest.Filesystem(tree.Root()), tree.Root())
	if outcome := store.Remove(t.Context(), []storage.Ref{{Path: "repositories/a/_uploads/u/data"}})[0]; outcome.Err != nil {
		t.Fatal(outcome.Err)
	}
	if _, err := store.Prune(t.Context(), "repositories/a"); err != nil {
		t.Fatal(err)
	}
	if !tree.Exists("repositories/a/_uploads/u") {
		t.Error("the directory is gone")
	}
}

// TestDriverRetriesWhatPasses: transient errors are retried, also if the driver has wrapped them.
func TestDriverRetriesWhatPasses(t *testing.T) {
	var tries atomic.Int32
	d := &failing{StorageDriver: inmemory.New()}
	drivertest.Put(t, d, "blobs/x", "x")
	d.fail = func(op, path string) error {
		if op == "read" && tries.Add(1) < 4 {
			return storagedriver.Error{DriverName: "failing", Detail: fmt.Errorf("get: %w", status(503))}
		}
		return nil
	}
	store := Over(d, "").(*Store)
	store.retries.Base = time.Millisecond
	content, err := store.Read(t.Context(), "blobs/x", 10)
	if err != nil || string(content) != "x" || tries.Load() != 4 {
		t.Errorf("%q, %v after %d tries", content, err, tries.Load())
	}

	tries.Store(0)
	d.fail = func(op, path string) error {
		tries.Add(1)
		return storagedriver.Error{DriverName: "failing", Detail: fs.ErrPermission}
	}
	if _, err := store.Stat(t.Context(), "blobs/x"); err == nil || tries.Load() != 1 {
		t.Errorf("%v after %d tries", err, tries.Load())
	}
}

// TestDriverLockIsExactWithinOneStore: the driver has no conditional write, every stat takes a
// while, and one write is slower than the other.
func TestDriverLockIsExactWithinOneStore(t *testing.T) {
	s := storagetest.Subject{Open: func(*testing.T) (storage.Store, func(path, content string)) {
		var puts atomic.Int32
		return Over(&failing{StorageDriver: inmemory.New(), fail: func(op, _ string) error {
			pause := 5 * time.Millisecond
			if op == "put" {
				pause *= time.Duration(3 * (puts.Add(1) % 8))
			}
			time.Sleep(pause)
			return nil
		}}, ""), nil
	}}
	storagetest.LockRace(t, s)
}

// TestDriverIdentity is the same as that of the native store of the same storage.
func TestDriverIdentity(t *testing.T) {
	server := miniotest.SharedMinIO(t)
	bucket := server.NewBucketT(t)
	if got := Over(drivertest.S3(t, server.Parameters(bucket, "")), bucket).Identity(); got.Driver != "s3" {
		t.Errorf("%+v", got)
	}
	if got := Over(inmemory.New(), "root").Identity(); got != (storage.Identity{Driver: "inmemory", Root: "root"}) {
		t.Errorf("%+v", got)
	}
}

// failing is a driver whose calls fail as a test says.
type failing struct {
	storagedriver.StorageDriver
	fail func(op, path string) error
}

func (f *failing) failure(op, path string) error {
	if f.fail == nil {
		return nil
	}
	return f.fail(op, path)
}

func (f *failing) List(ctx context.Context, path string) ([]string, error) {
	if err := f.failure("list", path); err != nil {
		return nil, err
	}
	return f.StorageDriver.List(ctx, path)
}

func (f *failing) Stat(ctx context.Context, path string) (storagedriver.FileInfo, error) {
	if err := f.failure("stat", path); err != nil {
		return nil, err
	}
	return f.StorageDriver.Stat(ctx, path)
}

func (f *failing) PutContent(ctx context.Context, path string, content []byte) error {
	if err := f.failure("put", path); err != nil {
		return err
	}
	return f.StorageDriver.PutContent(ctx, path, content)
}

func (f *failing) Reader(ctx context.Context, path string, offset int64) (io.ReadCloser, error) {
	if err := f.failure("read", path); err != nil {
		return nil, err
	}
	return f.StorageDriver.Reader(ctx, path, offset)
}

// status is an HTTP status as the SDK of Distribution's S3 driver returns it.
type status int

func (s status) Error() string   { return fmt.Sprintf("status %d", int(s)) }
func (s status) StatusCode() int { return int(s) }

// flat is a fake driver over a map. Its directories are prefixes of keys, as in S3.
type flat map[string]string

func (flat) Name() string { return "flat" }

func (f flat) List(_ context.Context, path string) (names []string, err error) {
	dirs := map[string]bool{}
	for key := range f {
		below, found := strings.CutPrefix(key, path+"/")
		if first, _, deeper := strings.Cut(below, "/"); found && deeper {
			dirs[path+"/"+first] = true
		} else if found {
			names = append(names, key)
		}
	}
	names = slices.AppendSeq(names, maps.Keys(dirs))
	if len(names) == 0 {
		return nil, storagedriver.PathNotFoundError{Path: path}
	}
	return names, nil
}

func (f flat) Stat(ctx context.Context, path string) (storagedriver.FileInfo, error) {
	info := storagedriver.FileInfoFields{Path: path, ModTime: time.Now()}
	content, found := f[path]
	if info.Size = int64(len(content)); !found {
		if _, err := f.List(ctx, path); err != nil {
			return nil, err
		}
		info.IsDir = true
	}
	return storagedriver.FileInfoInternal{FileInfoFields: info}, nil
}

func (f flat) Reader(_ context.Context, path string, _ int64) (io.ReadCloser, error) {
	content, found := f[path]
	if !found {
		return nil, storagedriver.PathNotFoundError{Path: path}
	}
	return io.NopCloser(strings.NewReader(content)), nil
}

func (f flat) Delete(_ context.Context, path string) error {
	maps.DeleteFunc(f, func(key, _ string) bool { return key == path || strings.HasPrefix(key, path+"/") })
	return nil
}

func (flat) GetContent(context.Context, string) ([]byte, error) { panic("not asked for") }
func (flat) PutContent(context.Context, string, []byte) error   { panic("not asked for") }
func (flat) Move(context.Context, string, string) error         { panic("not asked for") }
func (flat) RedirectURL(*http.Request, string) (string, error)  { panic("not asked for") }
func (flat) Walk(context.Context, string, storagedriver.WalkFn, ...func(*storagedriver.WalkOptions)) error {
	panic("not asked for")
}
func (flat) Writer(context.Context, string, bool) (storagedriver.FileWriter, error) {
	panic("not asked for")
}

// TestWhatADriverWrapsIsTriedAgain: an error with a transient reason is retried.
func TestWhatADriverWrapsIsTriedAgain(t *testing.T) {
	for name, test := range map[string]struct {
		err  error
		want bool
	}{
		"a busy server":  {storagedriver.Error{Detail: storagedriver.Error{Detail: busyServer{}}}, true},
		"a permission":   {storagedriver.Error{Detail: fs.ErrPermission}, false},
		"path not found": {storagedriver.PathNotFoundError{}, false},
	} {
		if got := pace.Transient(withDetail(test.err)); got != test.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

// busyServer is the error for a busy server, with the method that the SDK's errors have.
type busyServer struct{}

func (busyServer) Error() string       { return "503 Service Unavailable" }
func (busyServer) HTTPStatusCode() int { return 503 }
