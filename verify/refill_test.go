package verify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"regsweep/internal/imagetest"
	"regsweep/internal/miniotest"
	"regsweep/internal/registryclient"
	"regsweep/internal/registrytest"
	"regsweep/storage"
	"regsweep/storage/config"
	"regsweep/storage/filesystem"
	"regsweep/storage/layout"
	"regsweep/storage/open"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/opencontainers/go-digest"
)

// damaged is a registry, the names and digests of its files, and what was destroyed in a copy of it.
type damaged struct {
	root, copy string
	files      map[string]string
	blobs      []ToRefill
}

// quarantined is where the tests move wrong content.
func quarantined(blob digest.Digest) string {
	return storage.QuarantineDir + "/run/" + layout.BlobPath(blob)
}

// pushAndDamage pushes images to a real registry. In a copy of its storage it removes a layer, a manifest and the blob of
// a layer with SHA-512, and destroys a config and an index.
func pushAndDamage(t *testing.T) damaged {
	t.Helper()
	d := damaged{root: t.TempDir(), copy: t.TempDir()}
	sha512 := imagetest.Layer(1, 300<<10)
	sha512.Algorithm = digest.SHA512
	first, second := imagetest.Image(imagetest.OCI, imagetest.Layer(2, 100), sha512), imagetest.Image(imagetest.Docker, imagetest.Layer(3, 17<<20))
	index := imagetest.Index(imagetest.OCI, first, second)
	server := registrytest.StartT(t, registrytest.Config{Root: d.root})
	if err := server.Client().Push(t.Context(), "team/app:v1", index); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(d.copy, os.DirFS(d.root)); err != nil {
		t.Fatal(err)
	}
	d.files = imagetest.SnapshotT(t, d.root)
	tree := imagetest.NewTree(t, d.copy)
	damage := func(name digest.Digest, blob []byte, isManifest, isWrong bool) {
		of := digest.FromBytes(blob)
		tree.Remove(layout.BlobPath(of))
		if isWrong {
			tree.Write(layout.BlobPath(of), "wrong")
		}
		d.blobs = append(d.blobs, ToRefill{
			Digest: name, Repositories: []string{"absent", "team/app"}, IsManifest: isManifest, Wrong: isWrong, Bytes: int64(len(blob)),
		})
	}
	bySize := func(a, b imagetest.Blob) int { return len(a.Content) - len(b.Content) }
	layer, config := slices.MaxFunc(second.Blobs, bySize), slices.MinFunc(first.Blobs, bySize)
	damage(layer.Digest(), layer.Content, false, false)
	damage(second.Digest(), second.Content, true, false)
	damage(sha512.Digest(), sha512.Content, false, false)
	damage(config.Digest(), config.Content, false, true)
	damage(index.Digest(), index.Content, true, true)
	return d
}

func opened(t *testing.T, c config.Config) storage.Store {
	t.Helper()
	store, err := open.Store(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return store
}

func directory(t *testing.T, root string) storage.Store {
	return opened(t, config.Config{Driver: "filesystem", Parameters: config.Parameters{"rootdirectory": root}})
}

// bucket is a storage in a new bucket of MinIO with the files of a directory.
func bucket(t *testing.T, root string) (storage.Store, registrytest.Config) {
	server := miniotest.SharedMinIO(t)
	name := server.NewBucketT(t)
	if err := miniotest.UploadTree(t.Context(), server, name, "/registry", root); err != nil {
		t.Fatal(err)
	}
	store := opened(t, config.Config{Driver: "s3", Parameters: config.Parameters(server.Parameters(name, "/registry"))})
	return store, registrytest.Config{Storage: server.Storage(name, "/registry")}
}

func moveAway(store storage.Store) func(context.Context, digest.Digest) error {
	return func(ctx context.Context, blob digest.Digest) error {
		return store.Move(ctx, []storage.Move{{From: layout.BlobPath(blob), To: quarantined(blob)}})[0].Err
	}
}

// contents are the contents of all blobs, by path.
func contents(t *testing.T, store storage.Store) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := store.Below(t.Context(), storage.BlobsDir, func(page []storage.Object) error {
		for _, object := range page {
			var content bytes.Buffer
			if object.Dir {
				continue
			}
			if object.Multipart != "" {
				found[object.Path] = "unfinished"
			} else if err := store.Stream(t.Context(), object.Path, &content); err != nil {
				return err
			} else {
				found[object.Path] = content.String()
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestRefillMakesImagesWhole: from each kind of source into each kind of storage. All of them are real, and a real registry
// then serves all images. The wrong content is in the quarantine.
func TestRefillMakesImagesWhole(t *testing.T) {
	t.Parallel()
	d := pushAndDamage(t)
	want := contents(t, directory(t, d.root))
	sources := map[string]func(t *testing.T, repaired storage.Store) (Source, error){
		"a registry": func(t *testing.T, _ storage.Store) (Source, error) {
			server := registrytest.StartT(t, registrytest.Config{Root: d.root, ReadOnly: true, Username: "ann", Password: "secret", Token: true})
			return FromRegistry(t.Context(), server.URL(), registryclient.Options{
				Credentials: func(context.Context, string) (string, string, error) { return "ann", "secret", nil },
			})
		},
		"a registry that redirects": func(t *testing.T, _ storage.Store) (Source, error) {
			_, served := bucket(t, d.root)
			served.Username, served.Password = "ann", "secret"
			served.Storage["redirect"] = configuration.Parameters{"disable": false}
			var redirects atomic.Int64
			served.Wrap = func(registry http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					registry.ServeHTTP(&counted{w, &redirects}, r)
				})
			}
			t.Cleanup(func() {
				if redirects.Load() == 0 {
					t.Error("it has not redirected")
				}
			})
			return FromRegistry(t.Context(), registrytest.StartT(t, served).URL(), registryclient.Options{
				Credentials: func(context.Context, string) (string, string, error) { return "ann", "secret", nil },
			})
		},
		"a directory": func(t *testing.T, repaired storage.Store) (Source, error) {
			return FromStorage(directory(t, d.root), repaired)
		},
		"a bucket": func(t *testing.T, repaired storage.Store) (Source, error) {
			store, _ := bucket(t, d.root)
			return FromStorage(store, repaired)
		},
	}
	for from, source := range sources {
		for _, into := range []string{"a directory", "a bucket"} {
			if testing.Short() && from != "a registry" && into != from {
				continue
			}
			t.Run(from+" into "+into, func(t *testing.T) {
				var store storage.Store
				var served registrytest.Config
				if into == "a directory" {
					served.Root = t.TempDir()
					if err := os.CopyFS(served.Root, os.DirFS(d.copy)); err != nil {
						t.Fatal(err)
					}
					store = directory(t, served.Root)
				} else {
					store, served = bucket(t, d.copy)
				}
				source, err := source(t, store)
				if err != nil {
					t.Fatal(err)
				}
				var fetched, bytes atomic.Int64
				outcomes, err := Refill(t.Context(), store, source, d.blobs, RefillOptions{
					MoveAway: moveAway(store), OnFetched: func(n int) { fetched.Add(int64(n)) },
				})
				if err != nil {
					t.Error(err)
				}
				for i, o := range outcomes {
					b := d.blobs[i]
					if o.Err != nil || o.Bytes != b.Bytes || o.Moved != b.Wrong || !o.Written || b.Digest.Algorithm() == digest.SHA256 && o.Blob != b.Digest {
						t.Errorf("%s: %+v", b.Digest, o)
					}
					bytes.Add(o.Bytes)
					if b.Wrong {
						if content, err := store.Read(t.Context(), quarantined(o.Blob), 100); err != nil || string(content) != "wrong" {
							t.Errorf("the quarantine has %q, %v", content, err)
						}
					}
				}
				if fetched.Load() != bytes.Load() {
					t.Errorf("%d bytes were fetched, and %d reported", bytes.Load(), fetched.Load())
				}
				if got := contents(t, store); !maps.Equal(got, want) {
					t.Errorf("%d blobs are other ones than the %d of the source", len(got), len(want))
				}
				if err := registrytest.StartT(t, served).Client().PullAll(t.Context(), "team/app", "v1"); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// counted counts redirects.
type counted struct {
	http.ResponseWriter
	redirects *atomic.Int64
}

func (c *counted) WriteHeader(status int) {
	if status == http.StatusTemporaryRedirect {
		c.redirects.Add(1)
	}
	c.ResponseWriter.WriteHeader(status)
}

// TestRefilledFilesBelongToTheRegistry: they have the owner of the directories of the registry.
func TestRefilledFilesBelongToTheRegistry(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("only root can give files away")
	}
	d := pushAndDamage(t)
	imagetest.NewTree(t, d.copy).Remove("blobs")
	imagetest.NewTree(t, d.copy).Mkdir("blobs/sha256")
	const uid, gid = 1234, 5678
	for _, dir := range []string{"blobs", "blobs/sha256"} {
		path := imagetest.NewTree(t, d.copy).Path(dir)
		if err := errors.Join(os.Chown(path, uid, gid), os.Chmod(path, 0o750)); err != nil {
			t.Fatal(err)
		}
	}
	store := directory(t, d.copy)
	source, err := FromStorage(directory(t, d.root), store)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Refill(t.Context(), store, source, d.blobs[:1], RefillOptions{}); err != nil {
		t.Fatal(err)
	}
	path := imagetest.NewTree(t, d.copy).Path(layout.BlobPath(d.blobs[0].Digest))
	for path, mode := range map[string]fs.FileMode{path: 0o640, strings.TrimSuffix(path, "/data"): 0o750 | fs.ModeDir} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%+v", info.Sys()); info.Mode() != mode || !strings.Contains(got, fmt.Sprintf("Uid:%d Gid:%d", uid, gid)) {
			t.Errorf("%s is %s: %s", path, info.Mode(), got)
		}
	}
}

// badSource is a fake. It has other content than it should.
type badSource func(d digest.Digest, w io.Writer) error

func (badSource) String() string { return "the source" }

func (s badSource) Fetch(_ context.Context, d digest.Digest, _ []string, _ bool, w io.Writer) error {
	return s(d, w)
}

// TestWhatTheSourceLacksIsNotWritten: it has other content, too much of it, none, or a part. The other blobs are refilled all
// the same, and wrong content stays in its place.
func TestWhatTheSourceLacksIsNotWritten(t *testing.T) {
	t.Parallel()
	d := pushAndDamage(t)
	store := directory(t, d.copy)
	good, err := FromStorage(directory(t, d.root), store)
	if err != nil {
		t.Fatal(err)
	}
	before := contents(t, store)
	broken := errors.New("broken")
	for name, test := range map[string]struct {
		bad  func(good *bytes.Buffer, w io.Writer) error
		want string
	}{
		"other content": {func(good *bytes.Buffer, w io.Writer) error {
			good.Bytes()[good.Len()/2] ^= 1
			_, err := w.Write(good.Bytes())
			return err
		}, "has other content"},
		"a part":  {func(good *bytes.Buffer, w io.Writer) error { _, err := w.Write(good.Bytes()[1:]); return err }, "has other content"},
		"broken":  {func(good *bytes.Buffer, w io.Writer) error { w.Write(good.Bytes()); return broken }, broken.Error()},
		"nothing": {func(*bytes.Buffer, io.Writer) error { return storage.NotExist("fetch", "x") }, fs.ErrNotExist.Error()},
		"no end": {func(good *bytes.Buffer, w io.Writer) (err error) {
			for err == nil {
				_, err = w.Write(good.Bytes())
			}
			return err
		}, "it sends more than"},
	} {
		var source badSource = func(d digest.Digest, w io.Writer) error {
			var content bytes.Buffer
			if err := good.Fetch(t.Context(), d, []string{"team/app"}, false, &content); err != nil {
				return err
			}
			return test.bad(&content, w)
		}
		outcomes, err := Refill(t.Context(), store, source, d.blobs, RefillOptions{MoveAway: moveAway(store)})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, o := range outcomes {
			if o.Err == nil || !strings.Contains(o.Err.Error(), test.want) || !strings.Contains(o.Err.Error(), "the source") || o.Moved {
				t.Errorf("%s: %+v", name, o)
			}
		}
		if got := contents(t, store); !maps.Equal(got, before) {
			t.Errorf("%s: the blobs have changed", name)
		}
	}
	var some badSource = func(of digest.Digest, w io.Writer) error {
		if of == d.blobs[0].Digest {
			return broken
		}
		return good.Fetch(t.Context(), of, []string{"team/app"}, false, w)
	}
	outcomes, err := Refill(t.Context(), store, some, d.blobs, RefillOptions{MoveAway: moveAway(store)})
	for i, o := range outcomes {
		if err != nil || (o.Err == nil) != (i > 0) {
			t.Errorf("%d: %+v, %v", i, o, err)
		}
	}
}

// TestIntactContentStays: somebody has pushed the blobs meanwhile.
func TestIntactContentStays(t *testing.T) {
	t.Parallel()
	d := pushAndDamage(t)
	root := t.TempDir()
	if err := os.CopyFS(root, os.DirFS(d.root)); err != nil {
		t.Fatal(err)
	}
	store := directory(t, root)
	source, err := FromStorage(directory(t, d.root), store)
	if err != nil {
		t.Fatal(err)
	}
	files := func() map[string]fs.FileInfo {
		found := map[string]fs.FileInfo{}
		for path := range contents(t, store) {
			info, err := os.Stat(imagetest.NewTree(t, root).Path(path))
			if err != nil {
				t.Fatal(err)
			}
			found[path] = info
		}
		return found
	}
	before := files()
	outcomes, err := Refill(t.Context(), store, source, d.blobs, RefillOptions{MoveAway: moveAway(store)})
	for _, o := range outcomes {
		if o.Err != nil || o.Moved || o.Written {
			t.Errorf("%+v", o)
		}
	}
	if err != nil {
		t.Error(err)
	}
	for path, info := range files() {
		if !os.SameFile(info, before[path]) || info.ModTime() != before[path].ModTime() {
			t.Errorf("%s was written", path)
		}
	}

	// Other content that nobody has found before stays too.
	path := layout.BlobPath(d.blobs[0].Digest)
	imagetest.NewTree(t, root).Write(path, "other")
	outcomes, err = Refill(t.Context(), store, source, d.blobs[:1], RefillOptions{MoveAway: moveAway(store)})
	if err != nil || outcomes[0].Err == nil || contents(t, store)[path] != "other" {
		t.Errorf("%+v, %v", outcomes, err)
	}
}

// TestRefillStopsWithoutItsLease: what was not written has an error.
func TestRefillStopsWithoutItsLease(t *testing.T) {
	t.Parallel()
	d := pushAndDamage(t)
	store := directory(t, d.copy)
	source, err := FromStorage(directory(t, d.root), store)
	if err != nil {
		t.Fatal(err)
	}
	before := contents(t, store)
	lost := errors.New("lost")
	ctx := storage.WithLease(t.Context(), func(context.Context) error { return lost })
	outcomes, err := Refill(ctx, store, source, d.blobs, RefillOptions{MoveAway: moveAway(store), Concurrency: 1})
	if !errors.Is(err, lost) || !errors.Is(err, storage.ErrNotBegun) || !errors.Is(outcomes[0].Err, lost) || !errors.Is(outcomes[1].Err, ErrNotTried) {
		t.Errorf("%v, %+v", err, outcomes)
	}
	if got := contents(t, store); !maps.Equal(got, before) {
		t.Error("the blobs have changed")
	}

	// It is interrupted after wrong content was moved away.
	ctx, cancel := context.WithCancel(t.Context())
	index := d.blobs[len(d.blobs)-1]
	outcomes, err = Refill(ctx, store, source, []ToRefill{index}, RefillOptions{MoveAway: func(ctx context.Context, blob digest.Digest) error {
		cancel()
		return moveAway(store)(context.WithoutCancel(ctx), blob)
	}})
	if err != nil || outcomes[0].Err != nil || !outcomes[0].Moved {
		t.Errorf("interrupted: %v, %+v", err, outcomes)
	}
	outcomes, err = Refill(ctx, store, source, d.blobs, RefillOptions{MoveAway: moveAway(store)})
	if !errors.Is(err, context.Canceled) || !errors.Is(outcomes[0].Err, ErrNotTried) {
		t.Errorf("interrupted before: %v, %+v", err, outcomes)
	}
}

func TestEachBlobIsRefilledOnce(t *testing.T) {
	t.Parallel()
	a, b, sha512 := digest.FromString("a"), digest.FromString("b"), digest.SHA512.FromString("c")
	result := Result{Findings: []*Finding{
		{Kind: MissingManifest, Repository: "one", Digest: a, isManifest: true},
		{Kind: MissingRevisionLink, Repository: "three", Digest: a, isManifest: true},
		{Kind: MissingManifest, Repository: "two", Digest: a, isManifest: true},
		{Kind: DamagedBlob, Repository: "two", Digest: b, blob: b}, {Kind: DamagedBlob, Repository: "two", Digest: b, blob: b},
		{Kind: MissingBlob, Repository: "two", Digest: sha512, blob: sha512}, {Kind: DamagedBlob, Digest: digest.FromString("d")},
		{Kind: DamagedBlob, Repository: "one", Digest: digest.SHA512.FromString("b"), blob: b}, // the same blob under another name
	}}
	want := []ToRefill{
		{Digest: a, Blob: a, Repositories: []string{"one", "two"}, IsManifest: true},
		{Digest: b, Blob: b, Repositories: []string{"two", "one"}, Wrong: true},
		{Digest: sha512, Repositories: []string{"two"}},
		{Digest: digest.FromString("d"), Blob: digest.FromString("d"), Wrong: true},
	}
	if got := result.Refillable(); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestTheSourceIsAnotherStorage(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	if err := os.Symlink(root, root+"/same"); err != nil {
		t.Fatal(err)
	}
	store, err := filesystem.Open(root, storage.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := FromStorage(directory(t, root+"/same"), store); !errors.As(err, new(*storage.UsageError)) {
		t.Errorf("the same storage: %v", err)
	}
	if _, err := FromRegistry(t.Context(), "http://host?x", registryclient.Options{}); !errors.As(err, new(*storage.UsageError)) || !strings.Contains(err.Error(), "--refill") {
		t.Errorf("an address that is wrong: %v", err)
	}
	if _, err := Refill(t.Context(), store, badSource(nil), []ToRefill{{Digest: "sha256:x"}, {Digest: "sha512:y", Blob: "sha256:x"}}, RefillOptions{}); err == nil {
		t.Error("a blob that is named twice")
	}
	outcomes, err := Refill(t.Context(), store, badSource(nil), []ToRefill{{Digest: "md5:x"}}, RefillOptions{})
	if err != nil || outcomes[0].Err == nil {
		t.Errorf("an unknown algorithm: %+v, %v", outcomes, err)
	}
}

// refusing is a fake of a storage that refuses each read.
type refusing struct{ storage.Store }

var errRefused = errors.New("refused")

func (refusing) Read(context.Context, string, int64) ([]byte, error) { return nil, errRefused }

// What a source could not be asked is not absent.
func TestAnErrorOfTheSourceIsToldAsSuch(t *testing.T) {
	t.Parallel()
	source := storedSource{refusing{directory(t, t.TempDir())}}
	if err := source.Fetch(t.Context(), digest.SHA512.FromString("x"), []string{"app"}, false, io.Discard); !errors.Is(err, errRefused) {
		t.Error(err)
	}
}
