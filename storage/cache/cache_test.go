package cache

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"regsweep/internal/drivertest"
	"regsweep/internal/miniotest"
	"regsweep/storage"
	"regsweep/storage/driver"
	"regsweep/storage/filesystem"
	"regsweep/storage/s3/s3test"
	"regsweep/storage/storagetest"
)

// cachedRun is one run's use of a cache: it lists the blobs and reads some of them.
func cachedRun(t *testing.T, store storage.Store, dir string, limit int64, paths ...string) (contents []string, use Use, problems []Failure) {
	t.Helper()
	cache, err := open(store, dir, time.Now(), limit)
	if err != nil {
		t.Fatal(err)
	}
	if err := cache.Scan(t.Context(), storage.BlobsDir, func([]storage.Object) error { return nil }); err != nil {
		t.Fatal(err)
	}
	contents = make([]string, len(paths))
	var group sync.WaitGroup
	for i, path := range paths {
		group.Go(func() {
			content, err := cache.Read(t.Context(), path, 8<<20)
			switch {
			case errors.Is(err, fs.ErrNotExist):
				content = []byte("missing")
			case err != nil:
				t.Error(err)
			}
			contents[i] = string(content)
		})
	}
	group.Wait()
	cache.Close(t.Context())
	cache.Close(t.Context()) // which changes nothing
	return contents, cache.Use(), cache.Failures()
}

// filesIn are the files of a cache, in the order of their names. Each is a whole manifest.
func filesIn(t *testing.T, dir string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, file fs.DirEntry, err error) error {
		if err != nil || file.IsDir() {
			return err
		}
		if _, _, ok := parseName(filepath.Base(path)); !ok {
			t.Errorf("the cache has %s", path)
		}
		files = append(files, path)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func hasFiles(t *testing.T, what, dir string, want int) {
	t.Helper()
	if files := filesIn(t, dir); len(files) != want {
		t.Errorf("%s: the cache has %d files, want %d", what, len(files), want)
	}
}

func sameUse(t *testing.T, what string, got Use, hits, reads int64) {
	t.Helper()
	if got != (Use{hits, reads}) {
		t.Errorf("%s: %d manifests were remembered and %d read, want %d and %d", what, got.Hits, got.Reads, hits, reads)
	}
}

func noProblems(t *testing.T, what string, problems []Failure) {
	t.Helper()
	if len(problems) > 0 {
		t.Errorf("%s: %v", what, problems)
	}
}

// manifestsOf are so many blobs of a few hundred bytes, by path.
func manifestsOf(n int) (paths []string, contents map[string]string) {
	contents = map[string]string{}
	for i := range n {
		content := fmt.Sprintf("manifest %d %s", i, strings.Repeat("x", 100+i))
		path := storagetest.BlobPath("sha256", storagetest.HexOf(content))
		paths, contents[path] = append(paths, path), content
	}
	return paths, contents
}

// What was read once is not read again, on servers of two makes; what is new is, and
// what is gone from the bucket is gone from the cache.
func TestCacheSparesReads(t *testing.T) {
	t.Parallel()
	forEachServer(t, func(t *testing.T, server *miniotest.S3) {
		dir := filepath.Join(t.TempDir(), "made", "as needed")
		store, plant := s3test.Open(t, server, server.NewBucketT(t))
		paths, want := manifestsOf(12)
		for _, path := range paths[:10] {
			plant(path, want[path])
		}
		_, use, problems := cachedRun(t, store, dir, sizeLimit, paths[:10]...)
		sameUse(t, "the first run", use, 0, 10)
		noProblems(t, "the first run", problems)

		before := store.Requests()
		contents, use, problems := cachedRun(t, store, dir, sizeLimit, paths[:10]...)
		sameUse(t, "the second run", use, 10, 0)
		noProblems(t, "the second run", problems)
		if after := store.Requests(); after.Get != before.Get || after.Head != before.Head {
			t.Errorf("the second run asked %+v, after %+v", after, before)
		}
		for i, content := range contents {
			if content != want[paths[i]] {
				t.Errorf("remembered as %q", content)
			}
		}

		for _, path := range paths[10:] {
			plant(path, want[path])
		}
		for _, outcome := range store.Remove(t.Context(), []storage.Ref{{Path: paths[0]}, {Path: paths[1]}}) {
			if outcome.Err != nil {
				t.Fatal(outcome.Err)
			}
		}
		contents, use, _ = cachedRun(t, store, dir, sizeLimit, paths...)
		sameUse(t, "after a push and a removal", use, 8, 4)
		if contents[0] != "missing" || contents[1] != "missing" {
			t.Errorf("what is gone is remembered: %.20q", contents)
		}
		hasFiles(t, "after a push and a removal", dir, 10)
	})
}

// A cache must not hide damage: what was written since is read again, whatever its size.
func TestCacheReadsWhatWasWrittenSince(t *testing.T) {
	t.Parallel()
	forEachServer(t, func(t *testing.T, server *miniotest.S3) {
		dir := t.TempDir()
		store, plant := s3test.Open(t, server, server.NewBucketT(t))
		paths, want := manifestsOf(5)
		storagetest.PlantAll(plant, want)
		cachedRun(t, store, dir, sizeLimit, paths...)

		damaged := []string{
			strings.Replace(want[paths[0]], "m", "M", 1), want[paths[1]] + "x", want[paths[2]][1:], "",
		}
		for i, content := range damaged {
			plant(paths[i], content)
		}
		contents, use, problems := cachedRun(t, store, dir, sizeLimit, paths...)
		sameUse(t, "after the damage", use, 1, 4)
		noProblems(t, "damage to the storage is none to the cache", problems)
		for i, content := range damaged {
			if contents[i] != content {
				t.Errorf("%q was written, and is read as %q", content, contents[i])
			}
		}
		_, use, problems = cachedRun(t, store, dir, sizeLimit, paths...)
		sameUse(t, "damage is not remembered", use, 1, 4)
		noProblems(t, "damage is not remembered", problems)
		storagetest.PlantAll(plant, want)
		contents, use, _ = cachedRun(t, store, dir, sizeLimit, paths...)
		sameUse(t, "after the repair", use, 1, 4)
		for i, path := range paths {
			if contents[i] != want[path] {
				t.Errorf("repaired, and read as %q", contents[i])
			}
		}
	})
}

// What the listing does not have is not remembered, and before it nothing is.
func TestCacheAnswersOnlyForWhatIsListed(t *testing.T) {
	t.Parallel()
	dir, store := t.TempDir(), newSimulated(3)
	cachedRun(t, store, dir, sizeLimit, store.paths...)
	cache, err := Open(store, dir, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range store.paths {
		if _, err := cache.Read(t.Context(), path, 1<<20); err != nil {
			t.Error(err)
		}
	}
	cache.Close(t.Context())
	sameUse(t, "before the listing", cache.Use(), 0, 0)
	if store.reads != 6 {
		t.Errorf("%d reads, want 6", store.reads)
	}
	_, use, _ := cachedRun(t, store, dir, sizeLimit, store.paths...)
	sameUse(t, "and it has taken nothing away", use, 3, 0)

	store.more = 1
	_, use, _ = cachedRun(t, store, dir, sizeLimit, store.paths...)
	sameUse(t, "another size", use, 0, 3)
	store.more = 0
	store.etag = ""
	_, use, _ = cachedRun(t, store, dir, sizeLimit, store.paths...)
	sameUse(t, "without ETags", use, 0, 3)
	store.etag = "of another kind"
	_, use, _ = cachedRun(t, store, dir, sizeLimit, store.paths...)
	sameUse(t, "an ETag that is no MD5", use, 0, 3)
	_, use, _ = cachedRun(t, store, dir, sizeLimit, store.paths...)
	sameUse(t, "the same again", use, 3, 0)
	store.etag = "of what was written since"
	_, use, _ = cachedRun(t, store, dir, sizeLimit, store.paths...)
	sameUse(t, "another ETag", use, 0, 3)
	hasFiles(t, "another ETag", dir, 3)
}

// simulated is a bucket whose manifests are in memory: each of the thousand ways to
// damage a cache takes two runs. It is no S3, and nobody tests one with it.
type simulated struct {
	storage.Store // nil: nothing else is asked
	paths         []string
	want          map[string]string
	name          string
	etag          string
	more          int64 // bytes that the listing says too many

	mu    sync.Mutex
	reads int
}

func newSimulated(n int) *simulated {
	paths, contents := manifestsOf(n)
	return &simulated{paths: paths, want: contents, etag: "an ETag"}
}

func (s *simulated) Identity() storage.Identity {
	return storage.Identity{Driver: "simulated", Root: s.name}
}

func (s *simulated) Scan(_ context.Context, _ string, visit func([]storage.Object) error) error {
	for path, content := range s.want {
		if err := visit([]storage.Object{{Path: path, Size: int64(len(content)) + s.more, ETag: s.etag}}); err != nil {
			return err
		}
	}
	return nil
}

func (s *simulated) Read(ctx context.Context, path string, limit int64) ([]byte, error) {
	content, _, err := s.ReadTagged(ctx, path, limit)
	return content, err
}

func (s *simulated) ReadTagged(_ context.Context, path string, _ int64) ([]byte, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	return []byte(s.want[path]), s.etag, nil
}

// afterDamage expects that a run reads one manifest from the storage, and that the next one finds
// the cache whole.
func afterDamage(t *testing.T, what string, store *simulated, dir string) {
	t.Helper()
	contents, use, problems := cachedRun(t, store, dir, sizeLimit, store.paths...)
	for i, path := range store.paths {
		if contents[i] != store.want[path] {
			t.Fatalf("%s: a manifest is taken for %q", what, contents[i])
		}
	}
	sameUse(t, what, use, int64(len(store.paths))-1, 1)
	if len(problems) != 1 || !problems[0].IsDamage {
		t.Errorf("%s: reported as %v", what, problems)
	}
	_, use, problems = cachedRun(t, store, dir, sizeLimit, store.paths...)
	sameUse(t, what+", run again", use, int64(len(store.paths)), 0)
	noProblems(t, what+", run again", problems)
	hasFiles(t, what+", run again", dir, len(store.paths))
}

// A poisoned cache is a cache that misses, and is reported: every bit of it counts.
func TestPoisonedCacheIsAMissAndReported(t *testing.T) {
	t.Parallel()
	dir, store := t.TempDir(), newSimulated(3)
	cachedRun(t, store, dir, sizeLimit, store.paths...)
	file := filesIn(t, dir)[1]
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	try := func(what string, content []byte) {
		t.Helper()
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		afterDamage(t, what, store, dir)
	}
	for i := range whole {
		flipped := bytes.Clone(whole)
		flipped[i] ^= 1 << (i % 8)
		try(fmt.Sprintf("bit %d of byte %d is flipped", i%8, i), flipped)
		try(fmt.Sprintf("it ends after %d bytes", i), whole[:i])
	}
	try("something comes after the end", append(bytes.Clone(whole), "more"...))
	other, err := os.ReadFile(filesIn(t, dir)[0])
	if err != nil {
		t.Fatal(err)
	}
	try("another manifest", other)
	if err := os.Truncate(file, 1<<40); err != nil {
		t.Fatal(err)
	}
	afterDamage(t, "it is huge", store, dir)
}

// Whoever makes up files of a cache can cause reads and nothing else.
func TestMadeUpFilesCauseReadsAndNothingElse(t *testing.T) {
	t.Parallel()
	dir, store := t.TempDir(), newSimulated(3)
	of, err := dirName(store.Identity())
	if err != nil {
		t.Fatal(err)
	}
	plant := func(name, content string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	for _, content := range store.want {
		poisoned := strings.Replace(content, "manifest", "poisoned", 1)
		plant(entry{etag: etagMark(store.etag), size: uint32(len(poisoned))}.path(of, sha256.Sum256([]byte(content))), poisoned)
	}
	contents, use, problems := cachedRun(t, store, dir, sizeLimit, store.paths...)
	sameUse(t, "all of it is poisoned", use, 0, 3)
	if len(problems) != 1 || !strings.Contains(problems[0].Detail, "of the manifests in it 3 did not match") {
		t.Errorf("all of it is poisoned: %v", problems)
	}
	for i, path := range store.paths {
		if contents[i] != store.want[path] {
			t.Errorf("a manifest is taken for %q", contents[i])
		}
	}

	good := filesIn(t, dir)[0]
	name := strings.TrimPrefix(good, dir+"/")
	strange := []string{
		name + "x", name + "-1", strings.ToUpper(name), strings.Replace(name, "-", "_", 1),
		of + "/z/" + filepath.Base(name), of + "/notes", of + "/0/notes.tmp-1", of + "/a/0",
		entry{size: manifestLimit + 1}.path(of, sum{}),
	}
	for _, name := range strange {
		plant(name, "precious")
	}
	_, use, problems = cachedRun(t, store, dir, sizeLimit, store.paths...)
	sameUse(t, "strange names", use, 3, 0)
	noProblems(t, "strange names", problems)
	for _, name := range strange {
		if content, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(content) != "precious" {
			t.Errorf("%s: %q, %v", name, content, err)
		}
	}
}

// What stands in the place of a file is neither followed nor harmed.
func TestCacheFileIsARegularFile(t *testing.T) {
	t.Parallel()
	dir, store := t.TempDir(), newSimulated(3)
	cachedRun(t, store, dir, sizeLimit, store.paths...)
	file := filesIn(t, dir)[1]
	elsewhere := filepath.Join(t.TempDir(), "precious")
	if err := os.WriteFile(elsewhere, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for what, replace := range map[string]func() error{
		"a link to another file":     func() error { return os.Symlink(elsewhere, file) },
		"a link to another manifest": func() error { return os.Symlink(filepath.Base(file)+"/../../other", file) },
		"a pipe":                     func() error { return syscall.Mkfifo(file, 0o600) },
		"an empty directory":         func() error { return os.Mkdir(file, 0o700) },
	} {
		if err := errors.Join(os.Remove(file), replace()); err != nil {
			t.Fatal(err)
		}
		afterDamage(t, what, store, dir)
	}
	if content, err := os.ReadFile(elsewhere); err != nil || string(content) != "precious" {
		t.Errorf("what a link led to is %q, %v", content, err)
	}

	if err := errors.Join(os.Remove(file), os.MkdirAll(filepath.Join(file, "full"), 0o700)); err != nil {
		t.Fatal(err)
	}
	contents, use, problems := cachedRun(t, store, dir, sizeLimit, store.paths...)
	sameUse(t, "a directory", use, 2, 1)
	for i, path := range store.paths {
		if contents[i] != store.want[path] {
			t.Errorf("a manifest is taken for %q", contents[i])
		}
	}
	if len(problems) != 2 || !problems[0].IsDamage || problems[1].IsDamage {
		t.Errorf("a directory that can't be replaced: %v", problems)
	}

	// The directory of a digit: a link to another directory, with files of the same names.
	dir = t.TempDir()
	cachedRun(t, store, dir, sizeLimit, store.paths...)
	file = filesIn(t, dir)[1]
	elsewhere = filepath.Join(t.TempDir(), "elsewhere")
	if err := errors.Join(os.Rename(filepath.Dir(file), elsewhere), os.Symlink(elsewhere, filepath.Dir(file))); err != nil {
		t.Fatal(err)
	}
	_, use, problems = cachedRun(t, store, dir, sizeLimit, store.paths...)
	sameUse(t, "a link to a directory", use, 2, 1)
	if len(problems) != 2 || !problems[0].IsDamage || problems[1].IsDamage {
		t.Errorf("a link to a directory: %v", problems)
	}
	hasFiles(t, "a link to a directory", elsewhere, 1)
}

func TestCacheIsPrivate(t *testing.T) {
	t.Parallel()
	dir, store := filepath.Join(t.TempDir(), "cache"), newSimulated(1)
	cachedRun(t, store, dir, sizeLimit, store.paths...)
	file := filesIn(t, dir)[0]
	for path, want := range map[string]fs.FileMode{dir: 0o700, filepath.Dir(filepath.Dir(file)): 0o700, filepath.Dir(file): 0o700, file: 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s has %v, %v, want %v", path, info.Mode(), err, want)
		}
	}
}

// A registry with more manifests than there is room for has as many remembered as fit,
// the same ones every time.
func TestCacheIsBounded(t *testing.T) {
	t.Parallel()
	store, dir := newSimulated(20), t.TempDir()
	const limit = 11*4096 + 100
	for _, want := range []int64{0, 11, 11} {
		_, use, problems := cachedRun(t, store, dir, limit, store.paths...)
		noProblems(t, "bounded", problems)
		sameUse(t, "bounded", use, want, 20-want)
		hasFiles(t, "bounded", dir, 11)
	}

	dir = t.TempDir()
	cachedRun(t, store, dir, 20*4096, slices.Concat(store.paths[:10], store.paths[:10], store.paths)...)
	hasFiles(t, "some are read again", dir, 20)
}

// The storages that were not used for the longest time make room.
func TestCacheForgetsTheStorageUsedLongestAgo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const limit = 31 * 4096
	old, used, last := newSimulated(15), newSimulated(15), newSimulated(15)
	old.name, used.name, last.name = "old", "used", "last"
	run := func(s *simulated) Use {
		t.Helper()
		_, use, problems := cachedRun(t, s, dir, limit, s.paths...)
		noProblems(t, s.name, problems)
		return use
	}
	of := func(s *simulated) string {
		name, err := dirName(s.Identity())
		if err != nil {
			t.Fatal(err)
		}
		return filepath.Join(dir, name)
	}
	anHourAgo := time.Now().Add(-time.Hour)
	run(used)
	run(old)
	for s, at := range map[*simulated]time.Time{old: anHourAgo, used: anHourAgo.Add(-time.Hour)} { // until it is used again
		if err := os.Chtimes(of(s), at, at); err != nil {
			t.Fatal(err)
		}
	}
	sameUse(t, "both fit", run(used), 15, 0)

	// What is not ours is not touched, nor what another run may be writing.
	temp := entry{}.path(of(last), sum{}) + tempMark
	keep := []string{filepath.Join(dir, "notes.txt"), filepath.Join(dir, strings.Repeat("0", 31)+dirSuffix), filepath.Join(dir, "notes"+dirSuffix, "x"), temp + "1"}
	killed := temp + "2"
	for _, path := range append(keep, killed) {
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, make([]byte, 9000), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chtimes(killed, anHourAgo.Add(-24*time.Hour), anHourAgo.Add(-24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	run(last)
	if _, err := os.Stat(of(old)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the storage used longest ago: %v", err)
	}
	sameUse(t, "the one that was used", run(used), 15, 0)
	sameUse(t, "the last", run(last), 15, 0)
	sameUse(t, "the one that was not", run(old), 0, 15)
	if _, err := os.Stat(killed); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what a killed run left: %v", err)
	}
	for _, path := range keep {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
}

// Runs at the same time take nothing from each other, whether of one storage or of two.
func TestCacheIsShared(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	stores := []*simulated{newSimulated(50), newSimulated(50), newSimulated(60)}
	stores[2].name = "another"
	for round := range 5 {
		var group sync.WaitGroup
		for i := range 12 {
			store := stores[i%len(stores)]
			group.Go(func() {
				contents, _, problems := cachedRun(t, store, dir, sizeLimit, store.paths[i:min(i+20+10*round, len(store.paths))]...)
				noProblems(t, store.name, problems)
				for j, content := range contents {
					if content != store.want[store.paths[i+j]] {
						t.Errorf("a manifest is taken for %q", content)
					}
				}
			})
		}
		group.Wait()
	}
	hasFiles(t, "two storages", dir, 50+60-2)
}

// A disk that is full costs the cache, and not the run: at once or later.
func TestFullDiskIsNotedAndNoFailure(t *testing.T) {
	t.Parallel()
	for _, fit := range []int{0, 1, 20} {
		dir, store := t.TempDir(), newSimulated(40)
		cachedRun(t, store, dir, sizeLimit, store.paths[:10]...)
		cache, err := Open(store, dir, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		create, left := cache.files.create, fit
		cache.files.create = func(path string) (*os.File, error) {
			file, err := create(path)
			left--
			if left >= 0 || err != nil {
				return file, err
			}
			if left < -1 {
				t.Error("it writes on")
			}
			if err := file.Close(); err != nil {
				t.Error(err)
			}
			return os.OpenFile("/dev/full", os.O_WRONLY, 0)
		}
		if err := cache.Scan(t.Context(), storage.BlobsDir, func([]storage.Object) error { return nil }); err != nil {
			t.Fatal(err)
		}
		for _, path := range store.paths {
			if content, err := cache.Read(t.Context(), path, 1<<20); err != nil || string(content) != store.want[path] {
				t.Errorf("read %s: %q, %v", path, content, err)
			}
		}
		cache.Close(t.Context())
		if problems := cache.Failures(); len(problems) != 1 || problems[0].IsDamage || !strings.Contains(problems[0].Detail, "no space left") {
			t.Errorf("a disk with room for %d manifests: %v", fit, problems)
		}
		hasFiles(t, "a full disk", dir, 10+fit)
		_, use, problems := cachedRun(t, store, dir, sizeLimit, store.paths...)
		sameUse(t, "what was remembered before", use, int64(10+fit), int64(30-fit))
		noProblems(t, "what was remembered before", problems)
	}
}

// A run that begins while another one writes finds whole manifests only.
func TestManifestsAppearWhole(t *testing.T) {
	t.Parallel()
	dir, store := t.TempDir(), newSimulated(5)
	cache, err := Open(store, dir, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	create, others := cache.files.create, int64(0)
	cache.files.create = func(path string) (*os.File, error) {
		file, err := create(path)
		_, use, problems := cachedRun(t, store, dir, sizeLimit, store.paths[:others+1]...)
		sameUse(t, "while another run writes", use, others, 1)
		noProblems(t, "while another run writes", problems)
		others++
		return file, err
	}
	if err := cache.Scan(t.Context(), storage.BlobsDir, func([]storage.Object) error { return nil }); err != nil {
		t.Fatal(err)
	}
	for _, path := range store.paths {
		if _, err := cache.Read(t.Context(), path, 1<<20); err != nil {
			t.Error(err)
		}
	}
	cache.Close(t.Context())
	noProblems(t, "with others", cache.Failures())
	hasFiles(t, "with others", dir, 5)
}

// An interrupted run ends at once. What it has read is remembered.
func TestInterruptedRunLeavesACacheThatIsWhole(t *testing.T) {
	t.Parallel()
	dir, store := t.TempDir(), newSimulated(10)
	interrupted := func(from, to int) {
		t.Helper()
		cache, err := Open(store, dir, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if err := cache.Scan(t.Context(), storage.BlobsDir, func([]storage.Object) error { return nil }); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		for _, path := range store.paths[from:to] {
			if _, err := cache.Read(ctx, path, 1<<20); err != nil {
				t.Error(err)
			}
		}
		cancel()
		if _, err := cache.Read(ctx, store.paths[from], 1<<20); !errors.Is(err, context.Canceled) {
			t.Errorf("it reads on: %v", err)
		}
		cache.Close(ctx)
		noProblems(t, "interrupted", cache.Failures())
		hasFiles(t, "interrupted", dir, to)
	}
	interrupted(0, 4)
	interrupted(4, 7)
	_, use, _ := cachedRun(t, store, dir, sizeLimit, store.paths...)
	sameUse(t, "afterwards", use, 7, 3)
}

// A filesystem has no use for one.
func TestFilesystemHasNoCache(t *testing.T) {
	t.Parallel()
	tree := storagetest.NewTree(t)
	for _, store := range []storage.Store{storagetest.MustOpen(t)(filesystem.Open(tree.Root(), storage.Limits{})), driver.Over(drivertest.Filesystem(tree.Root()), tree.Root())} {
		if CanCache(store) {
			t.Errorf("%v can", store.Identity())
		}
		if _, err := Open(store, t.TempDir(), time.Now()); err == nil {
			t.Errorf("%v has one", store.Identity())
		}
	}
}

func forEachServer(t *testing.T, test func(t *testing.T, server *miniotest.S3)) {
	t.Run("MinIO", func(t *testing.T) { t.Parallel(); test(t, miniotest.SharedMinIO(t)) })
	t.Run("versitygw", func(t *testing.T) { t.Parallel(); test(t, miniotest.SharedVersityGW(t)) })
}
