package cache

import (
	"bytes"
	"cmp"
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
func cachedRun(t *testing.T, store storage.Store, dir string, limits cacheLimits, paths ...string) (contents []string, use Use, problems []Failure) {
	t.Helper()
	cache, err := Open(store, dir, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	cache.file.limits.bytes = cmp.Or(limits.bytes, cache.file.limits.bytes)
	cache.file.limits.count = cmp.Or(limits.count, cache.file.limits.count)
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

// theFile is the only file in a cache's directory, so nothing was left beside it.
func theFile(t *testing.T, dir string) string {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 {
		t.Fatalf("the cache has %v, %v, not one file", files, err)
	}
	return filepath.Join(dir, files[0].Name())
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
		_, use, problems := cachedRun(t, store, dir, cacheLimits{}, paths[:10]...)
		sameUse(t, "the first run", use, 0, 10)
		noProblems(t, "the first run", problems)

		before := store.Requests()
		contents, use, problems := cachedRun(t, store, dir, cacheLimits{}, paths[:10]...)
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
		contents, use, _ = cachedRun(t, store, dir, cacheLimits{}, paths...)
		sameUse(t, "after a push and a removal", use, 8, 4)
		if contents[0] != "missing" || contents[1] != "missing" {
			t.Errorf("what is gone is remembered: %.20q", contents)
		}
		size := int64(len(cacheMagic))
		for _, path := range paths[2:] {
			size += cacheHead + int64(len(want[path]))
		}
		if info, err := os.Stat(theFile(t, dir)); err != nil || info.Size() != size {
			t.Errorf("the file has %d bytes, %v, not the %d of what is there", info.Size(), err, size)
		}
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
		cachedRun(t, store, dir, cacheLimits{}, paths...)

		damaged := []string{
			strings.Replace(want[paths[0]], "m", "M", 1), want[paths[1]] + "x", want[paths[2]][1:], "",
		}
		for i, content := range damaged {
			plant(paths[i], content)
		}
		contents, use, problems := cachedRun(t, store, dir, cacheLimits{}, paths...)
		sameUse(t, "after the damage", use, 1, 4)
		noProblems(t, "damage to the storage is none to the cache", problems)
		for i, content := range damaged {
			if contents[i] != content {
				t.Errorf("%q was written, and is read as %q", content, contents[i])
			}
		}
		_, use, problems = cachedRun(t, store, dir, cacheLimits{}, paths...)
		sameUse(t, "damage is not remembered", use, 1, 4)
		noProblems(t, "damage is not remembered", problems)
		storagetest.PlantAll(plant, want)
		contents, use, _ = cachedRun(t, store, dir, cacheLimits{}, paths...)
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
	cachedRun(t, store, dir, cacheLimits{}, store.paths...)
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
	_, use, _ := cachedRun(t, store, dir, cacheLimits{}, store.paths...)
	sameUse(t, "and it has taken nothing away", use, 3, 0)

	store.more = 1
	_, use, _ = cachedRun(t, store, dir, cacheLimits{}, store.paths...)
	sameUse(t, "another size", use, 0, 3)
	store.more = 0
	store.etag = ""
	_, use, _ = cachedRun(t, store, dir, cacheLimits{}, store.paths...)
	sameUse(t, "without ETags", use, 0, 3)
	store.etag = "of another kind"
	_, use, _ = cachedRun(t, store, dir, cacheLimits{}, store.paths...)
	sameUse(t, "an ETag that is no MD5", use, 0, 3)
	_, use, _ = cachedRun(t, store, dir, cacheLimits{}, store.paths...)
	sameUse(t, "the same again", use, 3, 0)
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

// afterDamage expects that a run reads what it has to from the storage, and that the
// next one finds the cache whole.
func afterDamage(t *testing.T, what string, store *simulated, dir string, reported bool) {
	t.Helper()
	contents, use, problems := cachedRun(t, store, dir, cacheLimits{}, store.paths...)
	for i, path := range store.paths {
		if contents[i] != store.want[path] {
			t.Fatalf("%s: a manifest is taken for %q", what, contents[i])
		}
	}
	if use.Reads == 0 || use.Hits+use.Reads != int64(len(store.paths)) {
		t.Errorf("%s: %+v", what, use)
	}
	if found := slices.ContainsFunc(problems, func(f Failure) bool { return f.IsDamage }); found != reported {
		t.Errorf("%s: reported as %v", what, problems)
	}
	_, use, problems = cachedRun(t, store, dir, cacheLimits{}, store.paths...)
	sameUse(t, what+", run again", use, int64(len(store.paths)), 0)
	noProblems(t, what+", run again", problems)
	size := int64(len(cacheMagic))
	for _, content := range store.want {
		size += cacheHead + int64(len(content))
	}
	if info, err := os.Stat(theFile(t, dir)); err != nil || info.Size() != size {
		t.Errorf("%s: the file has %d bytes afterwards, %v, want %d", what, info.Size(), err, size)
	}
}

// A poisoned cache is a cache that misses, and is reported: every bit of it counts.
func TestPoisonedCacheIsAMissAndReported(t *testing.T) {
	t.Parallel()
	dir, store := t.TempDir(), newSimulated(3)
	cachedRun(t, store, dir, cacheLimits{}, store.paths...)
	file := theFile(t, dir)
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	try := func(what string, content []byte, reported bool) {
		t.Helper()
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		afterDamage(t, what, store, dir, reported)
	}
	for i := range whole {
		flipped := bytes.Clone(whole)
		flipped[i] ^= 1 << (i % 8)
		try(fmt.Sprintf("bit %d of byte %d is flipped", i%8, i), flipped, true)
	}
	ends := map[int]bool{}
	for at := len(cacheMagic); at < len(whole); {
		ends[at] = true
		at += cacheHead + int(whole[at+42])<<8 + int(whole[at+43])
	}
	for i := range whole {
		// Where one manifest ends and another begins, nothing is to be seen.
		try(fmt.Sprintf("it ends after %d bytes", i), whole[:i], !ends[i])
	}
	if err := os.WriteFile(file, append(bytes.Clone(whole), "more"...), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, use, problems := cachedRun(t, store, dir, cacheLimits{}, store.paths...); len(problems) != 1 {
		t.Errorf("something comes after the end: %v", problems)
	} else {
		sameUse(t, "something comes after the end", use, 3, 0)
	}
	_, _, problems := cachedRun(t, store, dir, cacheLimits{}, store.paths...)
	noProblems(t, "the end was mended", problems)

	// An attacker makes an entry for each digest, with a head that is right.
	evil := []byte(cacheMagic)
	for path, content := range store.want {
		other := strings.Replace(content, "manifest", "poisoned", 1)
		head := cacheHeadOf(sha256.Sum256([]byte(content)), etagMark(store.etag), uint32(len(other)))
		if storagetest.BlobPath("sha256", storagetest.HexOf(content)) != path {
			t.Fatal(path)
		}
		evil = append(append(evil, head[:]...), other...)
	}
	try("all of it is poisoned", evil, true)
	try("it is something else", []byte("GIF89a"), true)
	for _, length := range []uint32{0, cachedLimit + 1, 1<<32 - 1} {
		head := cacheHeadOf([32]byte{}, [8]byte{}, length)
		try(fmt.Sprintf("a manifest of %d bytes", length), slices.Concat([]byte(cacheMagic), head[:], whole[len(cacheMagic):]), true)
	}
	if err := os.Truncate(file, cacheLimit+1); err != nil {
		t.Fatal(err)
	}
	afterDamage(t, "it is huge", store, dir, true)
}

// What stands in the place of the file is neither followed nor harmed.
func TestCacheFileIsARegularFile(t *testing.T) {
	t.Parallel()
	dir, store := t.TempDir(), newSimulated(3)
	cachedRun(t, store, dir, cacheLimits{}, store.paths...)
	file := theFile(t, dir)
	elsewhere := filepath.Join(t.TempDir(), "precious")
	if err := os.Rename(file, elsewhere); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(elsewhere)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(elsewhere, file); err != nil {
		t.Fatal(err)
	}
	afterDamage(t, "a symbolic link", store, dir, true)
	if after, err := os.ReadFile(elsewhere); err != nil || !bytes.Equal(after, before) {
		t.Errorf("what the link led to was written: %v", err)
	}

	if err := errors.Join(os.Remove(file), os.MkdirAll(filepath.Join(file, "full"), 0o700)); err != nil {
		t.Fatal(err)
	}
	contents, use, problems := cachedRun(t, store, dir, cacheLimits{}, store.paths...)
	sameUse(t, "a directory", use, 0, 3)
	if contents[0] != store.want[store.paths[0]] {
		t.Errorf("a manifest is taken for %q", contents[0])
	}
	if len(problems) != 2 || !problems[0].IsDamage || problems[1].IsDamage {
		t.Errorf("a directory that can't be replaced: %v", problems)
	}
	theFile(t, dir)
}

func TestCacheIsPrivate(t *testing.T) {
	t.Parallel()
	dir, store := filepath.Join(t.TempDir(), "cache"), newSimulated(1)
	cachedRun(t, store, dir, cacheLimits{}, store.paths...)
	for path, want := range map[string]fs.FileMode{dir: 0o700, theFile(t, dir): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s has %v, %v, want %v", path, info.Mode(), err, want)
		}
	}
}

// A registry with more manifests than there is room for has as many remembered as fit,
// the same ones every time.
func TestCacheIsBounded(t *testing.T) {
	t.Parallel()
	store := newSimulated(20)
	for what, limits := range map[string]cacheLimits{"bytes": {bytes: 2000}, "count": {count: 11}} {
		dir := t.TempDir()
		cachedRun(t, store, dir, limits, store.paths...)
		_, use, problems := cachedRun(t, store, dir, limits, store.paths...)
		noProblems(t, what, problems)
		if use.Hits < 9 || use.Hits > 11 {
			t.Errorf("%s: %d of 20 manifests fit", what, use.Hits)
		}
		info, err := os.Stat(theFile(t, dir))
		if err != nil {
			t.Fatal(err)
		}
		if limits.bytes > 0 && info.Size() > limits.bytes {
			t.Errorf("%d bytes, and the bound is %d", info.Size(), limits.bytes)
		}
		_, again, _ := cachedRun(t, store, dir, limits, store.paths...)
		if again != use {
			t.Errorf("%s: %+v, and the next time %+v", what, use, again)
		}
	}
}

// The storages that were not looked at for the longest time make room.
func TestCacheForgetsTheStorageUsedLongestAgo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	limits := cacheLimits{bytes: 6000}
	old, used, last := newSimulated(15), newSimulated(15), newSimulated(15)
	old.name, used.name, last.name = "old", "used", "last"
	run := func(s *simulated) Use {
		t.Helper()
		_, use, problems := cachedRun(t, s, dir, limits, s.paths...)
		noProblems(t, s.name, problems)
		return use
	}
	anHourAgo := time.Now().Add(-time.Hour)
	run(used)
	first := theFile(t, dir)
	run(old)
	for _, file := range glob(t, dir, "*") {
		at := anHourAgo
		if file == first {
			at = at.Add(-time.Hour) // until it is used again
		}
		if err := os.Chtimes(file, at, at); err != nil {
			t.Fatal(err)
		}
	}
	sameUse(t, "both fit", run(used), 15, 0)

	// What is not ours is not touched, nor what another run may be writing.
	keep := []string{"notes.txt", strings.Repeat("0", 31) + cacheSuffix, strings.Repeat("0", 32) + cacheSuffix + cacheTemp + "1"}
	for _, name := range keep {
		if err := os.WriteFile(filepath.Join(dir, name), make([]byte, 9000), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	killed := filepath.Join(dir, strings.Repeat("0", 32)+cacheSuffix+cacheTemp+"2")
	if err := errors.Join(os.WriteFile(killed, nil, 0o600), os.Chtimes(killed, anHourAgo.Add(-24*time.Hour), anHourAgo.Add(-24*time.Hour))); err != nil {
		t.Fatal(err)
	}
	run(last)
	sameUse(t, "the one that was used", run(used), 15, 0)
	sameUse(t, "the last", run(last), 15, 0)
	sameUse(t, "the one that was not", run(old), 0, 15)
	if _, err := os.Stat(killed); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what a killed run left: %v", err)
	}
	for _, name := range keep {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}

func glob(t *testing.T, dir, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s in %s: %v, %v", pattern, dir, files, err)
	}
	return files
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
				contents, _, problems := cachedRun(t, store, dir, cacheLimits{}, store.paths[i:min(i+20+10*round, len(store.paths))]...)
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
	if files := glob(t, dir, "*"); len(files) != 2 {
		t.Errorf("two storages have left %v", files)
	}
}

// full is a disk that takes so many bytes.
type full struct{ left int }

func (f *full) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, errors.New("no space left on device")
	}
	return len(p), nil
}

// A disk that is full costs the cache, and not the run: at once, later, or when all is
// written at the end.
func TestFullDiskIsNotedAndNoFailure(t *testing.T) {
	t.Parallel()
	for _, left := range []int{0, 500, 4000, 6000} {
		dir, store := t.TempDir(), newSimulated(40)
		cachedRun(t, store, dir, cacheLimits{}, store.paths[:10]...)
		cache, err := Open(store, dir, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		cache.file.next.w.Reset(&full{left})
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
			t.Errorf("a disk with room for %d bytes: %v", left, problems)
		}
		theFile(t, dir)
		_, use, _ := cachedRun(t, store, dir, cacheLimits{}, store.paths...)
		sameUse(t, "what was remembered before", use, 10, 30)
	}
}

// An interrupted run ends at once. It keeps what it has read if that is all there is, and
// otherwise what was there before.
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
		theFile(t, dir)
	}
	interrupted(0, 4)
	interrupted(4, 7)
	_, use, _ := cachedRun(t, store, dir, cacheLimits{}, store.paths...)
	sameUse(t, "afterwards", use, 4, 6)
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
