package quarantine_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"regsweep/internal/imagetest"
	"regsweep/internal/miniotest"
	"regsweep/inventory"
	"regsweep/quarantine"
	"regsweep/storage"
	"regsweep/storage/config"
	"regsweep/storage/open"
	"regsweep/sweep"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/opencontainers/go-digest"
)

// mortal stands before an S3 server. After so many requests it answers no more: the last of
// them is done by the server, and its answer lost. So each state that a run killed anywhere
// can leave is one that the test sees.
type mortal struct {
	*httptest.Server
	left atomic.Int64
}

func newMortal(t *testing.T, endpoint string) *mortal {
	behind, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	pass := &httputil.ReverseProxy{ErrorLog: log.New(io.Discard, "", 0), Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(behind)
		r.Out.Host = r.In.Host // which is signed
	}}
	m := &mortal{}
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch left := m.left.Add(-1); {
		case left > 0:
			pass.ServeHTTP(w, r)
			return
		case left == 0:
			pass.ServeHTTP(httptest.NewRecorder(), r)
		}
		w.WriteHeader(http.StatusForbidden)
	}))
	t.Cleanup(m.Close)
	return m
}

// bucket is a small registry in a bucket, with an image that stays and things that go.
type bucket struct {
	*testing.T
	server *miniotest.S3
	name   string
	store  storage.Store // healthy
	dying  storage.Store // through the mortal
	mortal *mortal
	now    time.Time
	full   map[string]string // the files of before, with their contents
	swept  map[string]string // those that stay
}

func newBucket(t *testing.T, versioning types.BucketVersioningStatus) *bucket {
	server := miniotest.SharedMinIO(t)
	b := &bucket{T: t, server: server, name: server.NewBucketT(t), mortal: newMortal(t, server.Endpoint), now: time.Now(), full: map[string]string{}, swept: map[string]string{}}
	if versioning != "" {
		b.setVersioning(types.BucketVersioningStatusEnabled)
	}
	tree := imagetest.NewTree(t, t.TempDir())
	kept := tree.Manifest("app", imagetest.Image(imagetest.OCI))
	tree.Tag("app", "kept", kept)
	b.read(tree, b.swept)
	gone := tree.Manifest("app", imagetest.Image(imagetest.Docker))
	signature := tree.Blob([]byte("a signature"))
	tree.Write(imagetest.SignaturePath("app", gone, signature), signature.String())
	layer := tree.Blob([]byte("a layer of no manifest"))
	tree.Write(imagetest.LayerPath("app", layer), layer.String())
	tree.Write(imagetest.UploadPath("app", "an-upload")+"/startedat", "2020-01-02T03:04:05Z")
	b.read(tree, b.full)
	b.plant()
	if versioning == types.BucketVersioningStatusSuspended {
		b.setVersioning(versioning)
	}
	open := func(endpoint string) storage.Store {
		parameters := server.Parameters(b.name, "")
		parameters["regionendpoint"] = endpoint
		store, err := open.Store(t.Context(), config.Config{Driver: "s3", Parameters: config.Parameters(parameters), Limits: storage.Limits{Concurrency: 1}})
		b.must(err)
		return store
	}
	b.store, b.dying = open(server.Endpoint), open(b.mortal.URL)
	return b
}

func (b *bucket) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func (b *bucket) setVersioning(status types.BucketVersioningStatus) {
	b.Helper()
	_, err := b.server.Client().PutBucketVersioning(b.Context(), &s3.PutBucketVersioningInput{
		Bucket: &b.name, VersioningConfiguration: &types.VersioningConfiguration{Status: status},
	})
	b.must(err)
}

// read reads a tree's files.
func (b *bucket) read(tree *imagetest.Tree, files map[string]string) {
	b.Helper()
	for path := range imagetest.SnapshotT(b.T, tree.Root()) {
		content, err := os.ReadFile(filepath.Join(tree.Root(), path))
		b.must(err)
		files[path] = string(content)
	}
}

// plant puts into the bucket what is missing of what there was.
func (b *bucket) plant() {
	b.Helper()
	there := b.files()
	for key, content := range b.full {
		if _, found := there[key]; !found {
			_, err := b.server.Client().PutObject(b.Context(), &s3.PutObjectInput{Bucket: &b.name, Key: &key, Body: strings.NewReader(content)})
			b.must(err)
		}
	}
}

// files are those of the bucket by key, with the digests of their contents.
func (b *bucket) files() map[string]string {
	b.Helper()
	files, err := b.server.Snapshot(b.Context(), b.name, "")
	b.must(err)
	return files
}

// wantLayout compares what a registry sees: all of least, and of most nothing that is not
// as it was. There may be a quarantine.
func (b *bucket) wantLayout(when string, least, most map[string]string) {
	b.Helper()
	there := b.files()
	for key := range least {
		if there[key] == "" {
			b.Errorf("%s: %s is missing", when, key)
		}
	}
	for key, sum := range there {
		content, known := most[key]
		if strings.Contains(key, "/.regsweep/") {
			continue
		}
		if !known || digest.FromString(content).String() != sum {
			b.Errorf("%s: there is %s, with %s", when, key, sum)
		}
	}
}

// wantNoQuarantine sees that not even a version is left of what was in it.
func (b *bucket) wantNoQuarantine(when string) {
	b.Helper()
	for key := range b.versions() {
		if strings.Contains(key, "/.regsweep/") {
			b.Errorf("%s: there is %s", when, key)
		}
	}
}

// versions counts versions and markers of each key.
func (b *bucket) versions() map[string]int {
	b.Helper()
	out, err := b.server.Client().ListObjectVersions(b.Context(), &s3.ListObjectVersionsInput{Bucket: &b.name})
	b.must(err)
	found := map[string]int{}
	for _, v := range out.Versions {
		found[*v.Key]++
	}
	for _, m := range out.DeleteMarkers {
		found[*m.Key]++
	}
	return found
}

// take makes a plan, and moves the garbage to a quarantine through a store.
func (b *bucket) take(through storage.Store) (run string, err error) {
	b.Helper()
	ctx := b.Context()
	inventory, err := inventory.Take(ctx, b.store, inventory.Options{Concurrency: 4})
	b.must(err)
	live, err := liveWithoutUntagged(ctx, inventory, b.store)
	b.must(err)
	plan, err := sweep.NewPlan(ctx, inventory, live, b.store, sweep.Options{Now: time.Now(), UploadAge: time.Hour, DeleteUntagged: true, Quarantine: true, Concurrency: 4})
	b.must(err)
	b.now = b.now.Add(time.Second) // the order of the runs' names
	taker, err := quarantine.Begin(ctx, through, plan, b.now, rand.Reader)
	if err != nil {
		return "", err
	}
	_, err = plan.Execute(ctx, taker, sweep.ExecuteOptions{Bulk: storage.Bulk{Calls: 1}})
	return taker.Run, errors.Join(err, taker.End(ctx))
}

// wantContents compares what the newest run shows with what the registry lacks.
func (b *bucket) wantContents(when string) {
	b.Helper()
	run, err := quarantine.Find(b.Context(), b.store, quarantine.Latest)
	if none := (*quarantine.NoRunError)(nil); errors.As(err, &none) {
		return
	}
	b.must(err)
	there, contents := b.files(), map[string]bool{}
	_, err = quarantine.Show(b.Context(), b.store, run, func(removal sweep.Removal) error {
		path := strings.TrimPrefix(removal.Path, "/")
		contents[path] = true
		copied := false // of a revision, its signatures
		for key := range there {
			copied = copied || strings.HasPrefix(key, storage.Root+"/"+quarantine.Dir+"/"+run+"/"+filepath.Dir(strings.TrimPrefix(path, storage.Root+"/")))
		}
		if there[path] != "" && !copied {
			b.Errorf("%s: %s is shown, and in the registry", when, path)
		}
		return nil
	})
	b.must(err)
	for key := range b.full {
		upload, _, _ := strings.Cut(key, "/startedat")
		if there[key] == "" && !contents[key] && !contents[upload] && !strings.Contains(key, "/signatures/") {
			b.Errorf("%s: %s is neither in the registry nor shown", when, key)
		}
	}
	runs, err := quarantine.Runs(b.Context(), b.store)
	b.must(err)
	listed := 0
	for _, tally := range runs[len(runs)-1].Contents {
		listed += tally.Count
	}
	if listed != len(contents) {
		b.Errorf("%s: the list counts %d, and there are %d", when, listed, len(contents))
	}
}

// restore puts all runs back through a store, in the order in which they are listed: the plan
// of one that died lists what the next one took.
func (b *bucket) restore(through storage.Store) error {
	b.Helper()
	runs, err := quarantine.Runs(b.Context(), b.store)
	b.must(err)
	for _, run := range runs {
		restored, err := quarantine.Restore(b.Context(), through, run.Name, quarantine.RestoreOptions{})
		if err != nil {
			return err
		}
		if restored.LeftCount > 0 {
			b.Errorf("left: %+v", restored.Left)
		}
	}
	return nil
}

// purge frees all runs through a store.
func (b *bucket) purge(through storage.Store) (freed sweep.Tally, err error) {
	b.Helper()
	runs, err := quarantine.Runs(b.Context(), b.store)
	b.must(err)
	for _, run := range runs {
		of, err := quarantine.Purge(b.Context(), through, run.Name)
		freed.Add(of.Count, of.Bytes)
		if err != nil {
			return freed, err
		}
	}
	return freed, nil
}

// everywhere lets a step die after each of its requests in turn, or with -short after some, until it
// lives. after is told when it died.
func (b *bucket) everywhere(before func(), step func(storage.Store) error, after func(when string)) {
	b.Helper()
	apart := int64(1)
	if testing.Short() {
		apart = 7
	}
	for n := int64(1); ; n += apart {
		before()
		b.mortal.left.Store(n)
		err := step(b.dying)
		b.mortal.left.Store(0)
		after(fmt.Sprintf("after %d requests", n))
		if b.Failed() {
			b.Fatalf("after %d requests of it: %v", n, err)
		}
		if err == nil {
			if n < 5 {
				b.Fatalf("it takes %d requests, which are none to die in", n)
			}
			b.Logf("%d requests", n)
			return
		}
	}
}

// skipAlike spares what is the same where versions are suspended and where there are none.
func skipAlike(t *testing.T, versioning types.BucketVersioningStatus) {
	if versioning == types.BucketVersioningStatusSuspended {
		t.Skip("copies are made and moved back as without versions")
	}
}

// TestS3QuarantineDiesAnywhere: whichever request is the last one of a run, nothing alive is
// lost and nothing taken either, and the same command once more does the rest.
func TestS3QuarantineDiesAnywhere(t *testing.T) {
	t.Parallel()
	for _, versioning := range []types.BucketVersioningStatus{"", types.BucketVersioningStatusEnabled, types.BucketVersioningStatusSuspended} {
		name := "versioning " + string(versioning)
		t.Run(name+"/taking", func(t *testing.T) {
			t.Parallel()
			skipAlike(t, versioning)
			b := newBucket(t, versioning)
			b.everywhere(func() {}, func(through storage.Store) error { _, err := b.take(through); return err }, func(when string) {
				b.wantLayout(when, b.swept, b.full)
				b.wantContents(when)
				_, err := b.take(b.store)
				b.must(err)
				b.wantLayout("then taken "+when, b.swept, b.swept)
				b.must(b.restore(b.store))
				b.wantLayout("then restored "+when, b.full, b.full)
				b.wantNoQuarantine("then restored " + when)
			})
		})
		t.Run(name+"/restoring", func(t *testing.T) {
			t.Parallel()
			skipAlike(t, versioning)
			b := newBucket(t, versioning)
			b.everywhere(func() { _, err := b.take(b.store); b.must(err) }, b.restore, func(when string) {
				b.wantLayout(when, b.swept, b.full)
				b.must(b.restore(b.store))
				b.wantLayout("then restored "+when, b.full, b.full)
				b.wantNoQuarantine("then restored " + when)
			})
		})
		t.Run(name+"/purging", func(t *testing.T) {
			t.Parallel()
			b := newBucket(t, versioning)
			var whole sweep.Tally
			b.everywhere(func() {
				b.plant()
				run, err := b.take(b.store)
				b.must(err)
				// A copy in parts that was killed.
				key := storage.Root + "/" + quarantine.Dir + "/" + run + "/blobs/large"
				_, err = b.server.Client().CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: &b.name, Key: &key})
				b.must(err)
			}, func(through storage.Store) (err error) {
				whole, err = b.purge(through)
				return err
			}, func(when string) {
				b.wantLayout(when, b.swept, b.swept)
				_, err := b.purge(b.store)
				b.must(err)
				b.wantLayout("then purged "+when, b.swept, b.swept)
				b.wantNoQuarantine("then purged " + when)
				out, err := b.server.Client().ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: &b.name})
				if b.must(err); len(out.Uploads) > 0 {
					t.Errorf("then purged %s: %d copies were not given up", when, len(out.Uploads))
				}
			})
			if whole.Bytes == 0 {
				t.Error("a whole purge frees nothing")
			}
			if versioning != types.BucketVersioningStatusEnabled {
				return
			}
			left := b.versions()
			for key := range b.full {
				if _, stays := b.swept[key]; !stays && left[key] > 0 && strings.Contains(key, "/blobs/") {
					t.Errorf("of %s there are %d versions", key, left[key])
				}
			}
		})
	}
}
