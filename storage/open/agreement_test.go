package open

import (
	"errors"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"regsweep/internal/drivertest"
	"regsweep/internal/imagetest"
	"regsweep/internal/miniotest"
	"regsweep/internal/registrytest"
	"regsweep/storage"
	"regsweep/storage/driver"
	"regsweep/storage/filesystem"
	"regsweep/storage/s3"
	"regsweep/storage/s3/s3test"
	"regsweep/storage/storagetest"
)

// TestBackendsAgree makes the same registry on a filesystem and in two buckets. Real clients
// pushed to it, and it also has what crashes, old releases and careless people leave. All
// backends must report the same objects.
func TestBackendsAgree(t *testing.T) {
	t.Parallel()
	tree := storagetest.NewTree(t)
	registry := registrytest.StartT(t, registrytest.Config{Root: tree.Root()})
	pushed(t, registry)
	if err := registry.Stop(); err != nil {
		t.Fatal(err)
	}
	left(tree)

	reference := reported(t, driver.Over(drivertest.Filesystem(tree.Root()), tree.Root()))
	if len(reference) < 100 {
		t.Fatalf("only %d objects to compare", len(reference))
	}
	native := reported(t, storagetest.MustOpen(t)(filesystem.Open(tree.Root(), storage.Limits{})))
	seen := maps.Clone(reference)
	maps.DeleteFunc(seen, func(path string, _ storage.Object) bool { return storagetest.BesideLink(reference, path) })
	if len(seen) == len(reference) {
		t.Error("nothing lies beside a link")
	}
	agree(t, "filesystem, native", native, seen)

	for name, server := range map[string]*miniotest.S3{"MinIO": miniotest.SharedMinIO(t), "versitygw": miniotest.SharedVersityGW(t)} {
		const root = "/a/registry"
		bucket := server.NewBucketT(t)
		if err := miniotest.UploadTree(t.Context(), server, bucket, root, tree.Root()); err != nil {
			t.Fatal(err)
		}
		parameters := server.Parameters(bucket, root)
		inBucket := reported(t, storagetest.MustOpen(t)(s3.Open(t.Context(), parameters, s3.Options{})))
		agree(t, name+", native", inBucket, withoutDirs(reference))
		through := reported(t, driver.Over(drivertest.S3(t, parameters), bucket))
		agree(t, name+", s3-aws driver", through, inBucket)
		for path, object := range through {
			// Both must have been written by the same server.
			if got := inBucket[path].ModTime; !got.Truncate(time.Second).Equal(object.ModTime.Truncate(time.Second)) {
				t.Errorf("%s: %s was written at %v, natively at %v", name, path, object.ModTime, got)
			}
		}
	}
}

// TestFolderKeysAgree compares keys that end with a slash. Only a bucket can have them.
func TestFolderKeysAgree(t *testing.T) {
	t.Parallel()
	server := miniotest.SharedMinIO(t)
	bucket := server.NewBucketT(t)
	native, plant := s3test.Open(t, server, bucket)
	for _, key := range []string{"blobs/", "blobs/sha256/", "repositories/app/_layers/", "repositories/app/"} {
		plant(key, "")
	}
	storagetest.PlantAll(plant, storagetest.Fixture())
	got := reported(t, driver.Over(drivertest.S3(t, server.Parameters(bucket, "/a/registry")), bucket))
	for path, object := range got {
		if strings.HasSuffix(path, "/") && object.Size == -1 {
			object.Size = 0 // the driver refuses to stat a name with a slash at its end
			got[path] = object
		}
	}
	agree(t, "s3-aws driver", got, reported(t, native))
}

// pushed has the images and tags that clients push every day.
func pushed(t *testing.T, registry *registrytest.Registry) {
	t.Helper()
	client, ctx := registry.Client(), t.Context()
	base := imagetest.Layer(1, 100)
	app := imagetest.Image(imagetest.OCI, base, imagetest.Layer(2, 200))
	docker := imagetest.Image(imagetest.Docker, base, imagetest.Layer(3, 300))
	for reference, manifest := range map[string]*imagetest.Manifest{
		"app:v1":             app,
		"app:v2":             imagetest.Image(imagetest.OCI, base, imagetest.Layer(4, 400)),
		"app/nested:latest":  docker,
		"app/nested/deep:v1": imagetest.Index(imagetest.OCI, app, imagetest.Image(imagetest.OCI, imagetest.Layer(5, 500))),
		"app-dev:v1":         imagetest.Index(imagetest.Docker, docker),
		"app.dev:v1":         imagetest.Image(imagetest.OCI, imagetest.Layer(6, 600), base),
		"app":                imagetest.Image(imagetest.OCI, imagetest.Layer(7, 700)), // untagged
		"signed:v1":          app,
		"signed":             imagetest.Referrer(app, "application/vnd.example.signature", []byte("signature")),
	} {
		if err := client.Push(ctx, reference, manifest); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 8 {
		moved := imagetest.Image(imagetest.OCI, base, imagetest.Layer(uint64(100+i), 10))
		if err := client.Push(ctx, "app:moving", moved); err != nil {
			t.Fatal(err)
		}
	}
	if err := client.Delete(ctx, "app", "v2"); err != nil {
		t.Fatal(err)
	}
	if err := client.DeleteBlob(ctx, "app.dev", base.Digest()); err != nil {
		t.Fatal(err)
	}
	if _, err := client.LeaveUpload(ctx, "app", []byte("half a layer")); err != nil {
		t.Fatal(err)
	}
	if err := client.Mount(ctx, "mounted", "app", base.Digest()); err != nil {
		t.Fatal(err)
	}
}

// left has objects that no client makes.
func left(tree *imagetest.Tree) {
	for path, content := range storagetest.Fixture() {
		tree.Write(path, content)
	}
	tree.Upload("app", "6fd5a5a8-93d9-4d48-a9a4-5d3e5d4f0002", time.Now().Add(-300*time.Hour), []byte("old"))
	tree.Manifest("old", imagetest.Schema1("old", "v1", imagetest.Layer(8, 80)))
	tree.Manifest("cache", imagetest.BuildKitCache(imagetest.Layer(9, 90)))
	tree.Write("repositories/app/_manifests/tags/cut/current/link", "")
	tree.Write("repositories/app/_manifests/tags/newline/current/link", "sha256:"+storagetest.HexOf("x")+"\n")
	tree.Write("blobs/sha256/aa/"+storagetest.HexOf("wrong directory")+"/data", "x")
	tree.Write("blobs/sha256/AB/"+strings.ToUpper(storagetest.HexOf("upper case"))+"/data", "x")
	tree.Write("repositories/app/_manifests/revisions/stray", "x")
	tree.Write("repositories/app/_manifests/tags/stray", "x")
	tree.Write("repositories/app/_manifests/stray", "x")
	tree.Write("repositories/_layers/sha256/"+storagetest.HexOf("no repository")+"/link", "x")
	tree.Write("repositories/link", "x")
	tree.Write("repositories/data/data", "x")
}

// reported are all objects that a store reports. It reads the objects that the scan has only named,
// and leaves them out if they do not exist, as the contract allows.
func reported(t *testing.T, store storage.Store) map[string]storage.Object {
	t.Helper()
	all := map[string]storage.Object{}
	for _, dir := range []string{storage.BlobsDir, storage.RepositoriesDir} {
		maps.Copy(all, storagetest.Scan(t, store, dir))
	}
	for path, object := range all {
		switch {
		case object.Dir:
			all[path] = storage.Object{Path: path, Dir: true}
			continue
		case object.Named || object.Size == -1 && object.ETag == "":
			found, err := store.Stat(t.Context(), path)
			if errors.Is(err, fs.ErrNotExist) {
				delete(all, path)
				continue
			}
			if err == nil {
				object.Size, object.ModTime = found.Size, found.ModTime
			}
		}
		all[path] = storage.Object{Path: path, Size: object.Size, ModTime: object.ModTime}
	}
	return all
}

func agree(t *testing.T, name string, got, want map[string]storage.Object) {
	t.Helper()
	for _, path := range slices.Sorted(maps.Keys(want)) {
		object, found := got[path]
		switch {
		case !found:
			t.Errorf("%s: %s is missing", name, path)
		case object.Size != want[path].Size || object.Dir != want[path].Dir:
			t.Errorf("%s: %+v, want %+v", name, object, want[path])
		}
	}
	for _, path := range slices.Sorted(maps.Keys(got)) {
		if _, wanted := want[path]; !wanted {
			t.Errorf("%s: %s is too many", name, path)
		}
	}
}

func withoutDirs(objects map[string]storage.Object) map[string]storage.Object {
	files := maps.Clone(objects)
	maps.DeleteFunc(files, func(_ string, o storage.Object) bool { return o.Dir })
	return files
}
