// Package storagetest is the contract of package storage as a suite of tests. Each backend runs it.
package storagetest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"regsweep/internal/imagetest"
	"regsweep/storage"
	"regsweep/storage/layout"

	"golang.org/x/sync/errgroup"
)

// Subject is a store that must keep the contract of package storage, and the features of its
// storage.
type Subject struct {
	// Open returns the store of an empty storage, and a function that puts an object into the
	// storage without the store. The function may be called concurrently.
	Open func(t *testing.T) (storage.Store, func(path, content string))
	// OpenBare is Open for a registry that nobody has pushed to: it has no directory for the
	// layout. It is nil if Open returns such a registry.
	OpenBare func(t *testing.T) (storage.Store, func(path, content string))

	Directories bool // has directories, and reports the directories of the layout
	RemovesDirs bool // removes empty directories
	Named       bool // may set Object.Named
	AnyName     bool // accepts names that Distribution never writes
	Multipart   bool // reports unfinished multipart uploads
	Slow        bool // makes one request or more for each object
}

// Test runs the suite against one store.
func Test(t *testing.T, s Subject) {
	t.Run("scan reports every object once", func(t *testing.T) { testScan(t, s) })
	t.Run("scan reports thousands", func(t *testing.T) { testScanMany(t, s) })
	t.Run("scan takes names that nobody should have given", func(t *testing.T) { testScanOddNames(t, s) })
	t.Run("scan of nothing is empty", func(t *testing.T) { testScanNothing(t, s) })
	t.Run("scan stays below its directory", func(t *testing.T) { testScanSiblings(t, s) })
	t.Run("scan ends with visit's error", func(t *testing.T) { testScanVisitError(t, s) })
	t.Run("scan ends with its context", func(t *testing.T) { testScanCancelled(t, s) })
	t.Run("read and stat", func(t *testing.T) { testRead(t, s) })
	t.Run("remove", func(t *testing.T) { testRemove(t, s) })
	t.Run("remove takes a full batch", func(t *testing.T) { testRemoveBatch(t, s) })
	t.Run("nothing begins that may not begin", func(t *testing.T) { testBegin(t, s) })
	t.Run("remove takes nothing beside", func(t *testing.T) { testRemoveNeighbours(t, s) })
	t.Run("remove ends with its context", func(t *testing.T) { testRemoveCancelled(t, s) })
	t.Run("emptied directories go", func(t *testing.T) { testEmptied(t, s) })
	t.Run("prune spares files and nested repositories", func(t *testing.T) { testPrune(t, s) })
	t.Run("move", func(t *testing.T) { testMove(t, s) })
	t.Run("move of what is known", func(t *testing.T) { testMoveKnown(t, s) })
	t.Run("put", func(t *testing.T) { testPut(t, s) })
	t.Run("overwrite", func(t *testing.T) { testOverwrite(t, s) })
	t.Run("names and what lies below", func(t *testing.T) { testBrowse(t, s) })
	t.Run("others than the two trees", func(t *testing.T) { testOthers(t, s) })
	t.Run("stream", func(t *testing.T) { testStream(t, s) })
	t.Run("create, version and replace", func(t *testing.T) { testLock(t, s) })
	t.Run("a registry that nobody has pushed to", func(t *testing.T) { testBegins(t, s) })
	t.Run("the layout is required", func(t *testing.T) { testFindLayout(t, s) })
	t.Run("one of many wins a lock", func(t *testing.T) { LockRace(t, s) })
	t.Run("requests are counted", func(t *testing.T) { testRequests(t, s) })
}

// --- scan

// Fixture are the objects of a registry: two repositories, one of them nested in the other,
// with every kind of object of the layout, and with strays.
func Fixture() map[string]string {
	layer, config, manifest := HexOf("layer"), HexOf("config"), HexOf("manifest")
	long := strings.Repeat(HexOf("sha512"), 2)
	link := func(alg, hex string) string { return alg + ":" + hex }
	return map[string]string{
		BlobPath("sha256", layer):    "layer",
		BlobPath("sha256", config):   "config",
		BlobPath("sha256", manifest): "manifest",
		BlobPath("sha512", long):     "long",
		"blobs/stray":                "stray",
		"blobs/sha256/zz/stray":      "stray",
		"blobs/md5/aa/aaaa/data":     "other algorithm",

		"repositories/app/_layers/sha256/" + layer + "/link":                                                  link("sha256", layer),
		"repositories/app/_layers/sha512/" + long + "/link":                                                   link("sha256", layer),
		"repositories/app/_manifests/revisions/sha256/" + manifest + "/link":                                  link("sha256", manifest),
		"repositories/app/_manifests/revisions/sha256/" + manifest + "/signatures/sha256/" + config + "/link": link("sha256", config),
		"repositories/app/_manifests/tags/v1.0/current/link":                                                  link("sha256", manifest),
		"repositories/app/_manifests/tags/v1.0/index/sha256/" + manifest + "/link":                            link("sha256", manifest),
		"repositories/app/_uploads/6fd5a5a8-93d9-4d48-a9a4-5d3e5d4f0001/startedat":                            "2024-01-02T03:04:05Z",
		"repositories/app/_uploads/6fd5a5a8-93d9-4d48-a9a4-5d3e5d4f0001/data":                                 "half a layer",
		"repositories/app/_uploads/6fd5a5a8-93d9-4d48-a9a4-5d3e5d4f0001/hashstates/sha256/12":                 "state",
		"repositories/app/nested/deep/_layers/sha256/" + config + "/link":                                     link("sha256", config),
		"repositories/app/nested/deep/_manifests/tags/latest/current/link":                                    link("sha256", manifest),
		"repositories/app-dev/_layers/sha256/" + config + "/link":                                             link("sha256", config),
		"repositories/app.dev/_layers/sha256/" + config + "/link":                                             link("sha256", config),
		"repositories/app/_manifests/tags/v1.0/current/link.aaaaaaaa-0000-4000-8000-000000000000.tmp":         "",
		"repositories/Foo/_manifests/tags/v1.0/current/link":                                                  link("sha256", manifest),
		"repositories/app/_other/file":                                                                        "stray",
		"repositories/stray":                                                                                  "stray",
		"repositories/app/_layers/md5/aaaa/link":                                                              "other algorithm",
		"repositories/app/_layers/sha256/stray":                                                               "stray",
		"repositories/app/_manifests/revisions/sha256/" + manifest + "/signatures/stray":                      "stray",
		"repositories/app/_uploads/stray":                                                                     "stray",
	}
}

func testScan(t *testing.T, s Subject) {
	store, plant := s.Open(t)
	want := Fixture()
	PlantAll(plant, want)
	// Other objects in the bucket or directory are not part of the layout.
	if err := errors.Join(createErr(store.Create(t.Context(), ".regsweep/lock", []byte("x")))); err != nil {
		t.Fatal(err)
	}
	before := time.Now().Add(time.Minute)
	for _, dir := range []string{storage.BlobsDir, storage.RepositoriesDir} {
		objects := Scan(t, store, dir)
		for path, object := range objects {
			content, planted := want[path]
			switch {
			case object.Dir:
				if !s.Directories || layout.Parse(path).Kind != layout.Repository {
					t.Errorf("%s is reported as a directory", path)
				}
				continue
			case !planted:
				t.Errorf("%s is reported and was never put there", path)
				continue
			case object.Named:
				if !s.Named || object.Size != -1 {
					t.Errorf("%s is reported as %+v", path, object)
				}
			case object.Size != int64(len(content)) && (object.Size != -1 || !s.Named):
				t.Errorf("%s is reported with %d bytes, and has %d", path, object.Size, len(content))
			case s.Named && object.Content != nil && object.ModTime.IsZero(): // read without a stat
			case object.Size >= 0 && (object.ModTime.IsZero() || object.ModTime.After(before) || before.Sub(object.ModTime) > time.Hour):
				t.Errorf("%s is reported as written at %v", path, object.ModTime)
			}
			if object.Content != nil && string(object.Content) != content {
				t.Errorf("%s is reported to say %q, and says %q", path, object.Content, content)
			}
			if strings.Contains(object.ETag, `"`) {
				t.Errorf("%s is reported with the quotes of its ETag %s", path, object.ETag)
			}
			if object.Multipart != "" {
				t.Errorf("%s is reported as an upload", path)
			}
		}
		for path := range want {
			if _, found := objects[path]; !found && strings.HasPrefix(path, dir+"/") && !(s.Named && BesideLink(want, path)) {
				t.Errorf("%s is not reported", path)
			}
		}
	}
	if s.Directories {
		objects := Scan(t, store, storage.RepositoriesDir)
		for _, dir := range []string{
			"repositories/app/_layers", "repositories/app/_manifests", "repositories/app/_uploads",
			"repositories/app/nested/deep/_layers", "repositories/app-dev/_layers", "repositories/Foo/_manifests",
		} {
			if !objects[dir].Dir {
				t.Errorf("%s is not reported as a directory", dir)
			}
		}
	}
}

// BesideLink reports whether a path is in the directory of a link. A backend that does not
// list the directories of links does not report this path.
func BesideLink[T any](all map[string]T, p string) bool {
	link := path.Join(path.Dir(p), layout.LinkFile)
	_, found := all[link]
	return found && p != link && layout.Parse(link).Kind != layout.Stray
}

// testScanMany scans many objects: several pages, several ranges of keys, and a repository that
// takes more than one page.
func testScanMany(t *testing.T, s Subject) {
	blobs, small, big := 3300, 150, 1300
	if s.Slow || testing.Short() {
		blobs, small, big = 200, 20, 1100
	}
	store, plant := s.Open(t)
	want := map[string]string{}
	for i := range blobs {
		want[BlobPath("sha256", HexOf("blob", i))] = "x"
	}
	for i := range small {
		want[BlobPath("sha512", HexOf("a", i)+HexOf("b", i))] = "x"
		want[fmt.Sprintf("blobs/aaa/stray-%d", i)] = "x"
		want[fmt.Sprintf("repositories/a%d/_layers/sha256/%s/link", i, HexOf("small", i))] = "x"
		want[fmt.Sprintf("repositories/z%d/_layers/sha256/%s/link", i, HexOf("small", i))] = "x"
		want[fmt.Sprintf("repositories/big/_uploads/%d/data", i)] = "x"
		want[fmt.Sprintf("repositories/_%d", i)] = "x"
	}
	for i := range big { // in one directory, which takes several pages
		want[fmt.Sprintf("repositories/big/_uploads/many/%d", i)] = "x"
		if i%4 == 0 && !s.Slow {
			want[fmt.Sprintf("repositories/big/_layers/sha256/%s/link", HexOf("big", i))] = "x"
		}
	}
	// These are possible bounds of the ranges of an S3 listing.
	for _, edge := range []string{"blobs/sha256/7", "blobs/sha256/8-", "blobs/sha256/9-", "repositories/b", "repositories/m", "repositories/n-"} {
		want[edge] = "x"
	}
	PlantAll(plant, want)
	got := map[string]bool{}
	for _, dir := range []string{storage.BlobsDir, storage.RepositoriesDir} {
		for path, object := range Scan(t, store, dir) {
			got[path] = !object.Dir
		}
	}
	maps.DeleteFunc(got, func(_ string, isObject bool) bool { return !isObject })
	SamePaths(t, got, want)
}

func testScanOddNames(t *testing.T, s Subject) {
	if !s.AnyName {
		t.Skip("the driver refuses to write them")
	}
	store, plant := s.Open(t)
	want := map[string]string{}
	for _, name := range []string{"a b", "a+b", "a%20b", "ä", "日本", "a&b<c>", `a"b'c`, "a\\b", "a:b", "a=b?c#d", "~", "a*", " ", "a\u2028b"} {
		want["blobs/"+name+"/data"] = "odd"
		want["repositories/"+name+"/_layers/sha256/"+HexOf(name)+"/link"] = "odd"
	}
	PlantAll(plant, want)
	var refs []storage.Ref
	for _, dir := range []string{storage.BlobsDir, storage.RepositoriesDir} {
		for path, object := range Scan(t, store, dir) {
			if object.Dir {
				continue
			}
			refs = append(refs, storage.Ref{Path: path})
			if content, err := store.Read(t.Context(), path, 10); err != nil || string(content) != "odd" {
				t.Errorf("read %q: %q, %v", path, content, err)
			}
		}
	}
	SamePaths(t, pathsOf(refs), want)
	for i, outcome := range store.Remove(t.Context(), refs) {
		if outcome.Err != nil {
			t.Errorf("remove %q: %v", refs[i].Path, outcome.Err)
		}
	}
	wantGone(t, store, refs)
}

func testScanNothing(t *testing.T, s Subject) {
	store, plant := s.Open(t)
	for _, dir := range []string{storage.BlobsDir, storage.RepositoriesDir} {
		if objects := Scan(t, store, dir); len(objects) > 0 {
			t.Errorf("scan %s of an empty storage: %v", dir, objects)
		}
	}
	plant("repositories/app/_other/file", "x")
	if objects := Scan(t, store, storage.BlobsDir); len(objects) > 0 {
		t.Errorf("scan of no blobs: %v", objects)
	}
}

// testFindLayout: a storage has the layout once it has any part of it. It also has the layout if
// everything was moved to a quarantine.
func testFindLayout(t *testing.T, s Subject) {
	for _, path := range []string{BlobPath("sha256", HexOf(1)), "repositories/app/_uploads/1/data", storage.QuarantineDir + "/run/plan.jsonl"} {
		open := s.Open
		if s.OpenBare != nil {
			open = s.OpenBare
		}
		store, plant := open(t)
		if found, _, err := store.FindLayout(t.Context()); found || err != nil {
			t.Errorf("without a layout: %t, %v", found, err)
		}
		plant(path, "x")
		if found, _, err := store.FindLayout(t.Context()); !found || err != nil {
			t.Errorf("with %s: %t, %v", path, found, err)
		}
	}
}

func testScanSiblings(t *testing.T, s Subject) {
	store, plant := s.Open(t)
	plant("blobs2/sha256/aa/file", "beside")
	plant("blobs/file", "inside")
	plant("blobs-old/file", "beside")
	objects := Scan(t, store, storage.BlobsDir)
	SamePaths(t, KeysOf(objects), map[string]string{"blobs/file": ""})
}

func testScanVisitError(t *testing.T, s Subject) {
	store, plant := s.Open(t)
	PlantAll(plant, Fixture())
	stop := errors.New("enough")
	var inside atomic.Int32
	err := store.Scan(t.Context(), storage.RepositoriesDir, func([]storage.Object) error {
		inside.Add(1)
		defer inside.Add(-1)
		time.Sleep(20 * time.Millisecond)
		return stop
	})
	if !errors.Is(err, stop) {
		t.Errorf("scan: %v", err)
	}
	if n := inside.Load(); n != 0 {
		t.Errorf("scan has returned with %d calls of visit under way", n)
	}
}

func testScanCancelled(t *testing.T, s Subject) {
	store, plant := s.Open(t)
	PlantAll(plant, Fixture())
	for _, when := range []string{"before", "during"} {
		ctx, cancel := context.WithCancel(t.Context())
		if when == "before" {
			cancel()
		}
		err := store.Scan(ctx, storage.RepositoriesDir, func([]storage.Object) error {
			cancel()
			<-ctx.Done()
			return ctx.Err()
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("scan, cancelled %s: %v", when, err)
		}
		cancel()
	}
}

// --- read

func testRead(t *testing.T, s Subject) {
	store, plant := s.Open(t)
	ctx := t.Context()
	const path = "repositories/app/_manifests/tags/v1/current/link"
	content := strings.Repeat("x", 71)
	plant(path, content)
	plant("repositories/app/empty", "")
	for _, limit := range []int64{71, 72, 1 << 20} {
		if got, err := store.Read(ctx, path, limit); err != nil || string(got) != content {
			t.Errorf("read with limit %d: %q, %v", limit, got, err)
		}
	}
	if got, err := store.Read(ctx, "repositories/app/empty", 0); err != nil || len(got) != 0 {
		t.Errorf("read an empty object: %q, %v", got, err)
	}
	for _, limit := range []int64{0, 1, 70} {
		if got, err := store.Read(ctx, path, limit); !errors.Is(err, storage.ErrTooLarge) || got != nil {
			t.Errorf("read with limit %d: %q, %v", limit, got, err)
		} else if !strings.Contains(err.Error(), path) {
			t.Errorf("the error does not name the object: %v", err)
		}
	}
	object, err := store.Stat(ctx, path)
	if err != nil || object.Path != path || object.Size != 71 || time.Since(object.ModTime).Abs() > time.Hour {
		t.Errorf("stat: %+v, %v", object, err)
	}
	for _, absent := range []string{
		"repositories/app/_manifests/tags/v2/current/link",
		"repositories/app/_manifests/tags/v1/current/lin", // another path begins with this one
		"blobs/none",
	} {
		if got, err := store.Read(ctx, absent, 10); !errors.Is(err, fs.ErrNotExist) || got != nil {
			t.Errorf("read %s: %q, %v", absent, got, err)
		} else if !strings.Contains(err.Error(), absent) {
			t.Errorf("the error does not name the object: %v", err)
		}
		if _, err := store.Stat(ctx, absent); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("stat %s: %v", absent, err)
		}
	}
	// A directory is no object, with or without directories in the storage.
	const dir = "repositories/app/_manifests"
	if got, err := store.Read(ctx, dir, 10); !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, storage.ErrNotRegular) {
		t.Errorf("read a directory: %q, %v", got, err)
	}
	if object, err := store.Stat(ctx, dir); !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, storage.ErrNotRegular) {
		t.Errorf("stat a directory: %+v, %v", object, err)
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := store.Read(cancelled, path, 100); !errors.Is(err, context.Canceled) {
		t.Errorf("read, cancelled: %v", err)
	}
	if _, err := store.Stat(cancelled, path); !errors.Is(err, context.Canceled) {
		t.Errorf("stat, cancelled: %v", err)
	}
}

// --- remove

func testRemove(t *testing.T, s Subject) {
	store, plant := s.Open(t)
	want := Fixture()
	PlantAll(plant, want)
	ctx := t.Context()
	blob, link := BlobPath("sha256", HexOf("layer")), "repositories/app/_manifests/tags/v1.0/current/link"
	refs := []storage.Ref{
		{Path: blob},
		{Path: "repositories/app/_layers/sha256/" + HexOf("absent") + "/link"},
		{Path: link},
		{Path: BlobPath("sha256", HexOf("absent"))},
	}
	wrong := -1
	if !s.Multipart { // without multipart uploads the removal of one must fail
		wrong = 1
		refs = slices.Insert(refs, wrong, storage.Ref{Path: BlobPath("sha256", HexOf("config")), Multipart: "upload"})
	}
	outcomes := store.Remove(ctx, refs)
	if len(outcomes) != len(refs) {
		t.Fatalf("%d outcomes for %d objects", len(outcomes), len(refs))
	}
	for i, outcome := range outcomes {
		if i == wrong {
			if outcome.Err == nil {
				t.Errorf("a multipart upload was aborted where there are none")
			}
			continue
		}
		if outcome.Err != nil || outcome.Hidden {
			t.Errorf("remove %v: %+v", refs[i], outcome)
		}
	}
	for _, outcome := range store.Remove(ctx, []storage.Ref{{Path: blob}}) {
		if outcome.Err != nil {
			t.Errorf("remove again: %v", outcome.Err)
		}
	}
	if outcomes := store.Remove(ctx, nil); len(outcomes) != 0 {
		t.Errorf("remove nothing: %v", outcomes)
	}
	delete(want, blob)
	delete(want, link)
	left := map[string]bool{}
	for _, dir := range []string{storage.BlobsDir, storage.RepositoriesDir} {
		for path, object := range Scan(t, store, dir) {
			left[path] = !object.Dir
		}
	}
	maps.DeleteFunc(left, func(_ string, isObject bool) bool { return !isObject })
	SamePaths(t, left, want)
}

// testBegin: a batch ends at once if nothing of it may begin. What has begun is completed.
func testBegin(t *testing.T, s Subject) {
	store, plant := s.Open(t)
	want := map[string]string{}
	var refs []storage.Ref
	var moves []storage.Move
	for i := range 20 {
		path := BlobPath("sha256", HexOf("blob", i))
		want[path] = "x"
		refs, moves = append(refs, storage.Ref{Path: path}), append(moves, storage.Move{From: path, To: storage.QuarantineDir + "/run/" + path})
	}
	PlantAll(plant, want)
	ended, left := errors.New("ended"), 0
	ctx := storage.WithBegin(t.Context(), func() error {
		if left--; left < 0 {
			return ended
		}
		return nil
	})
	before := store.Requests()
	for _, outcome := range append(store.Remove(ctx, refs), store.Move(ctx, moves)...) {
		if !errors.Is(outcome.Err, storage.ErrNotBegun) || !errors.Is(outcome.Err, ended) {
			t.Errorf("outcome: %v", outcome.Err)
		}
	}
	after := store.Requests()
	if after.Put = before.Put; after != before { // a filesystem counts a move before it begins
		t.Errorf("%+v requests become %+v", before, after)
	}
	SamePaths(t, KeysOf(Scan(t, store, storage.BlobsDir)), want)
	left = 1
	if err := store.Move(ctx, moves[:1])[0].Err; err != nil {
		t.Errorf("a move that has begun: %v", err)
	}
	left = 1
	if err := store.Remove(ctx, refs[1:2])[0].Err; err != nil {
		t.Errorf("a removal that has begun: %v", err)
	}
	delete(want, refs[0].Path)
	delete(want, refs[1].Path)
	SamePaths(t, KeysOf(Scan(t, store, storage.BlobsDir)), want)
}

func testRemoveBatch(t *testing.T, s Subject) {
	store, plant := s.Open(t)
	want := map[string]string{}
	for i := range storage.RemoveBatch {
		want[BlobPath("sha256", HexOf("blob", i))] = "x"
	}
	kept := BlobPath("sha256", HexOf("kept"))
	want[kept] = "x"
	PlantAll(plant, want)
	delete(want, kept)
	var refs []storage.Ref
	for path := range want {
		refs = append(refs, storage.Ref{Path: path})
	}
	for i, outcome := range store.Remove(t.Context(), refs) {
		if outcome.Err != nil {
			t.Fatalf("remove %v: %v", refs[i], outcome.Err)
		}
	}
	SamePaths(t, KeysOf(Scan(t, store, storage.BlobsDir)), map[string]string{kept: ""})
}

// testRemoveNeighbours: a storage that treats a path as a prefix would remove too much.
func testRemoveNeighbours(t *testing.T, s Subject) {
	store, plant := s.Open(t)
	want := map[string]string{
		"repositories/app/_layers/file":         "x",
		"repositories/app/_layers/file2":        "x",
		"repositories/app/_layers/file.tmp":     "x",
		"repositories/app/_layers2/sha256/link": "x",
	}
	PlantAll(plant, want)
	refs := []storage.Ref{{Path: "repositories/app/_layers/file"}, {Path: "repositories/app/_layers/fil"}, {Path: "repositories/app/_layers2/sha256/lin"}}
	for i, outcome := range store.Remove(t.Context(), refs) {
		if outcome.Err != nil {
			t.Errorf("remove %v: %v", refs[i], outcome.Err)
		}
	}
	delete(want, "repositories/app/_layers/file")
	// The path of a directory is not the path of an object. Its removal removes nothing.
	for _, dir := range []string{"repositories/app/_layers", "repositories/app", "repositories"} {
		for _, outcome := range store.Remove(t.Context(), []storage.Ref{{Path: dir}}) {
			if s.Directories && outcome.Err == nil {
				t.Errorf("remove %s: a directory counts as removed", dir)
			}
		}
	}
	objects := Scan(t, store, storage.RepositoriesDir)
	maps.DeleteFunc(objects, func(_ string, o storage.Object) bool { return o.Dir })
	SamePaths(t, KeysOf(objects), want)
}

func testRemoveCancelled(t *testing.T, s Subject) {
	store, plant := s.Open(t)
	paths := Fixture()
	PlantAll(plant, paths)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var refs []storage.Ref
	for path := range paths {
		refs = append(refs, storage.Ref{Path: path})
	}
	for i, outcome := range store.Remove(ctx, refs) {
		if !errors.Is(outcome.Err, context.Canceled) {
			t.Errorf("remove %v, cancelled: %v", refs[i], outcome.Err)
		}
		if _, err := store.Stat(t.Context(), refs[i].Path); err != nil {
			t.Errorf("stat %v: %v", refs[i], err)
		}
	}
	if _, err := store.Prune(ctx, "repositories/app"); !errors.Is(err, context.Canceled) {
		t.Errorf("prune, cancelled: %v", err)
	}
}

// testEmptied: empty directories are removed. If a storage keeps them, they must not count as
// objects.
func testEmptied(t *testing.T, s Subject) {
	store, plant := s.Open(t)
	hex := HexOf("only")
	paths := map[string]string{
		BlobPath("sha256", hex):                                               "x",
		"repositories/app/_layers/sha256/" + hex + "/link":                    "x",
		"repositories/app/_manifests/revisions/sha256/" + hex + "/link":       "x",
		"repositories/app/_manifests/tags/v1/index/sha256/" + hex + "/link":   "x",
		"repositories/app/_uploads/6fd5a5a8-93d9-4d48-a9a4-5d3e5d4f0001/data": "x",
	}
	PlantAll(plant, paths)
	var refs []storage.Ref
	for path := range paths {
		refs = append(refs, storage.Ref{Path: path})
	}
	for i, outcome := range store.Remove(t.Context(), refs) {
		if outcome.Err != nil {
			t.Errorf("remove %v: %v", refs[i], outcome.Err)
		}
	}
	for _, dir := range []string{storage.BlobsDir, storage.RepositoriesDir} {
		for path, object := range Scan(t, store, dir) {
			if !object.Dir {
				t.Errorf("%s is reported after its removal: %+v", path, object)
			}
		}
	}
	if !s.RemovesDirs {
		return
	}
	root := filepath.Join(store.Identity().Root, filepath.FromSlash(storage.Root))
	for _, gone := range []string{
		"blobs/sha256/" + hex[:2], "repositories/app/_layers/sha256", "repositories/app/_manifests/revisions/sha256",
		"repositories/app/_manifests/tags/v1/index/sha256", "repositories/app/_uploads/6fd5a5a8-93d9-4d48-a9a4-5d3e5d4f0001",
	} {
		if exists(t, filepath.Join(root, gone)) {
			t.Errorf("%s is empty and still there", gone)
		}
	}
	for _, kept := range []string{
		"blobs/sha256", "repositories/app/_layers", "repositories/app/_manifests/revisions",
		"repositories/app/_manifests/tags/v1/index", "repositories/app/_uploads",
	} {
		if !exists(t, filepath.Join(root, kept)) {
			t.Errorf("%s is gone", kept)
		}
	}
}

func testPrune(t *testing.T, s Subject) {
	store, plant := s.Open(t)
	want := map[string]string{
		"repositories/a/_layers/file":                    "kept",
		"repositories/a/b/_manifests/tags/v1/index/file": "kept, in a repository nested in a",
		"blobs/sha256/aa/file":                           "kept",
	}
	gone := map[string]string{
		"repositories/empty/one/_layers/sha256/" + HexOf("x") + "/link": "goes",
		"repositories/empty/one/_uploads/u/data":                        "goes",
		"repositories/a/_uploads/u/data":                                "goes",
	}
	PlantAll(plant, want)
	PlantAll(plant, gone)
	for path := range gone {
		if outcome := store.Remove(t.Context(), []storage.Ref{{Path: path}})[0]; outcome.Err != nil {
			t.Fatal(outcome.Err)
		}
	}
	for _, dir := range []string{
		"repositories/empty/one/_layers", "repositories/empty/one/_uploads", "repositories/empty/one",
		"repositories/a/_uploads", "repositories/a/_layers", "repositories/a", "repositories/none", "blobs/sha256/aa",
	} {
		if _, err := store.Prune(t.Context(), dir); err != nil {
			t.Errorf("prune %s: %v", dir, err)
		}
	}
	got := map[string]bool{}
	for _, dir := range []string{storage.BlobsDir, storage.RepositoriesDir} {
		for path, object := range Scan(t, store, dir) {
			got[path] = !object.Dir
		}
	}
	if s.RemovesDirs && got["repositories/a/_uploads"] {
		t.Error("repositories/a/_uploads is there after it was pruned")
	}
	maps.DeleteFunc(got, func(_ string, isObject bool) bool { return !isObject })
	SamePaths(t, got, want)
	if !s.RemovesDirs {
		return
	}
	root := filepath.Join(store.Identity().Root, filepath.FromSlash(storage.Root))
	for path, there := range map[string]bool{
		"repositories/empty": false, "repositories/a/_uploads": false, "repositories/a": true, "repositories": true, "blobs": true,
	} {
		if exists(t, filepath.Join(root, path)) != there {
			t.Errorf("%s: there is %t, want %t", path, !there, there)
		}
	}
}

// --- lock

func testLock(t *testing.T, s Subject) {
	store, _ := s.Open(t)
	ctx := t.Context()
	const path = ".regsweep/lock"
	if _, _, err := store.Version(ctx, path); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("version of nothing: %v", err)
	}
	if _, err := store.Replace(ctx, path, []byte("mine"), "v"); !errors.Is(err, storage.ErrLost) {
		t.Fatalf("replace nothing: %v", err)
	}
	first, err := store.Create(ctx, path, []byte("one"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Create(ctx, path, []byte("other")); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("create again: %v", err)
	}
	content, version, err := store.Version(ctx, path)
	if err != nil || string(content) != "one" || version != first {
		t.Fatalf("version: %q, %q (want %q), %v", content, version, first, err)
	}
	second, err := store.Replace(ctx, path, []byte("two"), first)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Replace(ctx, path, []byte("three"), first); !errors.Is(err, storage.ErrLost) {
		t.Fatalf("replace a version that is gone: %v", err)
	}
	content, version, err = store.Version(ctx, path)
	if err != nil || string(content) != "two" || version != second {
		t.Fatalf("version: %q, %q (want %q), %v", content, version, second, err)
	}
	if err := store.Delete(ctx, path, first); !errors.Is(err, storage.ErrLost) {
		t.Fatalf("delete a version that is gone: %v", err)
	}
	if content, _, err := store.Version(ctx, path); err != nil || string(content) != "two" {
		t.Fatalf("version: %q, %v", content, err)
	}
	if err := store.Delete(ctx, path, second); err != nil {
		t.Fatal(err)
	}
	if err := store.Delete(ctx, path, second); !errors.Is(err, storage.ErrLost) {
		t.Fatalf("delete what was removed: %v", err)
	}
	if _, err := store.Replace(ctx, path, []byte("three"), second); !errors.Is(err, storage.ErrLost) {
		t.Fatalf("replace what was removed: %v", err)
	}
	if _, err := store.Create(ctx, path, []byte("again")); err != nil {
		t.Fatalf("create what was removed: %v", err)
	}
}

// testBegins: in some registries the lock is the first object that is ever written. It must be
// removed again.
func testBegins(t *testing.T, s Subject) {
	open := s.Open
	if s.OpenBare != nil {
		open = s.OpenBare
	}
	store, plant := open(t)
	ctx := t.Context()
	const lock, blob = ".regsweep/lock", "blobs/file"
	if _, err := store.Read(ctx, blob, 10); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("read: %v", err)
	}
	if outcome := store.Remove(ctx, []storage.Ref{{Path: blob}})[0]; outcome.Err != nil {
		t.Errorf("remove: %v", outcome.Err)
	}
	if _, err := store.Prune(ctx, "repositories/app"); err != nil {
		t.Errorf("prune: %v", err)
	}
	if _, err := store.Replace(ctx, lock, []byte("x"), "v"); !errors.Is(err, storage.ErrLost) {
		t.Errorf("replace: %v", err)
	}
	if _, err := store.Create(ctx, lock, []byte("lock")); err != nil {
		t.Fatal(err)
	}
	if outcome := store.Remove(ctx, []storage.Ref{{Path: lock}})[0]; outcome.Err != nil {
		t.Errorf("remove the lock: %v", outcome.Err)
	}
	if _, _, err := store.Version(ctx, lock); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the lock counts as removed, and its version gives %v", err)
	}
	plant(blob, "x")
	SamePaths(t, KeysOf(Scan(t, store, storage.BlobsDir)), map[string]string{blob: ""})
	if content, err := store.Read(ctx, blob, 10); err != nil || string(content) != "x" {
		t.Errorf("read: %q, %v", content, err)
	}
}

// LockRace lets many goroutines take a lock at once. One of them must win.
func LockRace(t *testing.T, s Subject) {
	store, _ := s.Open(t)
	ctx := t.Context()
	const path, racers = ".regsweep/lock", 8
	race := func(what string, refused error, write func(content []byte) (string, error)) string {
		var mu sync.Mutex
		var winners []string
		var version string
		var g errgroup.Group
		for i := range racers {
			g.Go(func() error {
				content := fmt.Sprintf("%s by %d", what, i)
				v, err := write([]byte(content))
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					winners, version = append(winners, content), v
				} else if !errors.Is(err, refused) {
					return err
				}
				return nil
			})
		}
		if err := g.Wait(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		content, current, err := store.Version(ctx, path)
		if err != nil || len(winners) != 1 || string(content) != winners[0] || current != version {
			t.Fatalf("%s: won by %q, %q stays at version %q (want %q), %v", what, winners, content, current, version, err)
		}
		return version
	}
	version := race("create", fs.ErrExist, func(content []byte) (string, error) { return store.Create(ctx, path, content) })
	for round := range 3 {
		version = race(fmt.Sprintf("replace %d", round), storage.ErrLost, func(content []byte) (string, error) { return store.Replace(ctx, path, content, version) })
	}
}

func testRequests(t *testing.T, s Subject) {
	store, plant := s.Open(t)
	PlantAll(plant, Fixture())
	before := store.Requests()
	Scan(t, store, storage.BlobsDir)
	after := store.Requests()
	if after.List <= before.List || after.Put != before.Put || after.Delete != before.Delete {
		t.Errorf("a scan: %+v, then %+v", before, after)
	}
	blob := BlobPath("sha256", HexOf("layer"))
	if _, err := store.Read(t.Context(), blob, 100); err != nil {
		t.Fatal(err)
	}
	if got := store.Requests(); got.Get != after.Get+1 {
		t.Errorf("a read: %+v, then %+v", after, got)
	}
	if _, err := store.Stat(t.Context(), blob); err != nil {
		t.Fatal(err)
	}
	if got := store.Requests(); got.Head != after.Head+1 {
		t.Errorf("a stat: %+v, then %+v", after, got)
	}
	store.Remove(t.Context(), []storage.Ref{{Path: blob}})
	if got := store.Requests(); got.Delete != after.Delete+1 {
		t.Errorf("a removal: %+v, then %+v", after, got)
	}
	if _, err := store.Create(t.Context(), ".regsweep/lock", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if got := store.Requests(); got.Put != after.Put+1 {
		t.Errorf("a write: %+v, then %+v", after, got)
	}
}

// --- helpers of the suite

// Scan returns the objects of a scan by path. It fails the test if an object is reported twice.
func Scan(t *testing.T, store storage.Store, dir string) map[string]storage.Object {
	t.Helper()
	objects := map[string]storage.Object{}
	var mu sync.Mutex
	err := store.Scan(t.Context(), dir, func(page []storage.Object) error {
		mu.Lock()
		defer mu.Unlock()
		for _, object := range page {
			key := object.Path
			if object.Multipart != "" {
				key += " " + object.Multipart
			}
			if _, again := objects[key]; again {
				return fmt.Errorf("%s is reported twice", key)
			}
			objects[key] = object
		}
		return nil
	})
	if err != nil {
		t.Fatalf("scan %s: %v", dir, err)
	}
	return objects
}

// SamePaths asserts that two sets of paths are equal.
func SamePaths(t *testing.T, got map[string]bool, want map[string]string) {
	t.Helper()
	for _, path := range slices.Sorted(maps.Keys(want)) {
		if !got[path] {
			t.Errorf("%q is missing", path)
		}
	}
	for _, path := range slices.Sorted(maps.Keys(got)) {
		if _, wanted := want[path]; !wanted {
			t.Errorf("%q is too many", path)
		}
	}
}

func wantGone(t *testing.T, store storage.Store, refs []storage.Ref) {
	t.Helper()
	for _, ref := range refs {
		if _, err := store.Stat(t.Context(), ref.Path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("stat %q, which was removed: %v", ref.Path, err)
		}
	}
}

// KeysOf are the paths of objects.
func KeysOf(objects map[string]storage.Object) map[string]bool {
	paths := map[string]bool{}
	for path := range objects {
		paths[path] = true
	}
	return paths
}

func pathsOf(refs []storage.Ref) map[string]bool {
	paths := map[string]bool{}
	for _, ref := range refs {
		paths[ref.Path] = true
	}
	return paths
}

// PlantAll plants concurrently, since each object is a request to some storages.
func PlantAll(plant func(path, content string), objects map[string]string) {
	var g errgroup.Group
	g.SetLimit(16)
	for path, content := range objects {
		g.Go(func() error { plant(path, content); return nil })
	}
	_ = g.Wait() // plant fails the test itself
}

func createErr(_ string, err error) error { return err }

// HexOf is the hex SHA-256 of values.
func HexOf(of ...any) string {
	sum := sha256.Sum256([]byte(fmt.Sprint(of...)))
	return hex.EncodeToString(sum[:])
}

// BlobPath is the path of a blob.
func BlobPath(alg, hex string) string { return "blobs/" + alg + "/" + hex[:2] + "/" + hex + "/data" }

// NewTree makes a registry's tree in a temporary directory.
func NewTree(t *testing.T) *imagetest.Tree { return imagetest.NewTree(t, t.TempDir()) }

// MustOpen fails the test if a store can't be opened.
func MustOpen(t *testing.T) func(storage.Store, error) storage.Store {
	return func(store storage.Store, err error) storage.Store {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return store
	}
}

func exists(t *testing.T, path string) bool {
	t.Helper()
	_, err := os.Lstat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return err == nil
}

// UploadStart is when the uploads of the tests began.
var UploadStart = time.Now().Add(-30 * 24 * time.Hour).Truncate(time.Second)

// MoveAway moves a directory and makes a symbolic link to it at the old path.
func MoveAway(t *testing.T, path string) {
	t.Helper()
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	if err := os.Rename(path, elsewhere); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(elsewhere, path); err != nil {
		t.Fatal(err)
	}
}
