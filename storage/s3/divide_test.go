package s3

import (
	"context"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"regsweep/internal/miniotest"
	"regsweep/storage"

	"golang.org/x/sync/errgroup"
)

// keyList is a list of keys, in order.
type keyList interface {
	len() int
	key(i int) string
}

type keySlice []string

func (k keySlice) len() int         { return len(k) }
func (k keySlice) key(i int) string { return k[i] }

// fakeBucket answers the requests of a division, in simulated time.
type fakeBucket struct {
	keys   keyList
	length int                  // how many keys a page has, and how many names a list of names
	flat   bool                 // it lists no names
	minio  bool                 // its tokens look like those of MinIO
	answer func() time.Duration // if set, how long an answer takes
	change func()               // if set, changes the keys before each answer

	mu             sync.Mutex
	pages, names   int             // requests
	begun          int             // pages that were requested by a key
	ends           map[string]bool // the last keys of pages
	boundsWithKeys int             // ranges that were cut exactly at a key
}

// above is the number of the first key above a key.
func (b *fakeBucket) above(key string) int {
	return sort.Search(b.keys.len(), func(i int) bool { return b.keys.key(i) > key })
}

func (b *fakeBucket) wait() {
	if b.answer != nil {
		b.mu.Lock()
		answer := b.answer()
		b.mu.Unlock()
		time.Sleep(answer)
	}
}

// page has the number of a key as the size of its object.
func (b *fakeBucket) page(_ context.Context, after, token string) (keyPage, error) {
	b.wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pages++
	if token == "" {
		b.begun++
	}
	if b.change != nil {
		b.change()
	}
	at := b.above(after)
	if at > 0 && !b.ends[after] && b.keys.key(at-1) == after {
		b.boundsWithKeys++
	}
	page := keyPage{last: after}
	for ; at < b.keys.len() && len(page.objects) < b.length; at++ {
		page.last = b.keys.key(at)
		page.objects = append(page.objects, storage.Object{Path: page.last[len(simulatedPrefix):], Size: int64(at)})
	}
	b.ends[page.last] = true
	if at < b.keys.len() {
		page.token = "after " + page.last
		if b.minio {
			page.token = base64.StdEncoding.EncodeToString([]byte(page.last + "[minio_cache:v2,id:]"))
		}
	}
	return page, nil
}

func (b *fakeBucket) list(_ context.Context, prefix, after string) (names []string, more bool, err error) {
	b.wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.names++
	if b.flat {
		return nil, false, nil
	}
	from := func(key string) int {
		return sort.Search(b.keys.len(), func(i int) bool { return b.keys.key(i) >= key })
	}
	for at := max(b.above(after), from(prefix)); at < b.keys.len(); {
		rest, isBelow := strings.CutPrefix(b.keys.key(at), prefix)
		if !isBelow {
			break
		}
		if len(names) == b.length {
			return names, true, nil
		}
		name, _, isDir := strings.Cut(rest, "/")
		if !isDir {
			at++
			continue
		}
		names = append(names, prefix+name+"/")
		at = from(prefix + name + "0") // 0 comes after the slash
	}
	return names, false, nil
}

// list lists a bucket, and returns how long it took.
func list(t *testing.T, dir string, b *fakeBucket, listers int, visit func([]storage.Object)) (took time.Duration) {
	synctest.Test(t, func(t *testing.T) {
		b.ends = map[string]bool{}
		began := time.Now()
		g, ctx := errgroup.WithContext(t.Context())
		var mu sync.Mutex
		l := newDivision(simulatedPrefix, dir, listers, g, func(page []storage.Object) error {
			mu.Lock()
			defer mu.Unlock()
			visit(page)
			return nil
		})
		l.page = b.page
		if dir == storage.RepositoriesDir {
			l.names = b.list
		}
		l.begin(ctx)
		if err := g.Wait(); err != nil {
			t.Error(err)
		}
		took = time.Since(began)
	})
	return took
}

// listsEachOnce lists a bucket and expects each key once, for at most 128 requests more than pages.
func listsEachOnce(t *testing.T, dir string, b *fakeBucket, listers int) (took time.Duration) {
	t.Helper()
	seen := make([]int, b.keys.len())
	took = list(t, dir, b, listers, func(page []storage.Object) {
		for _, object := range page {
			seen[object.Size]++
		}
	})
	for i := range seen {
		if seen[i] != 1 {
			t.Fatalf("%q is listed %d times", b.keys.key(i), seen[i])
		}
	}
	if requests, pages := b.pages+b.names, max(1, (b.keys.len()+b.length-1)/b.length); requests > pages+128 {
		t.Errorf("%d requests for %d pages", requests, pages)
	}
	return took
}

// TestListingStaysInItsBudget, at any size and of any shape: it makes at most 128 requests more than
// there are pages. SIMULATE_KEYS=1000000 sets one size. With -v the test prints how long the listing
// takes if each answer takes 20 ms on average.
func TestListingStaysInItsBudget(t *testing.T) {
	t.Parallel()
	sizes := []int{3_000, 40_000}
	if !testing.Short() {
		sizes = append(sizes, 200_000)
	}
	if n, err := strconv.Atoi(os.Getenv("SIMULATE_KEYS")); err == nil {
		sizes = []int{n}
	}
	for _, shape := range simulatedShapes {
		for _, n := range sizes {
			random := rand.New(rand.NewPCG(7, 8))
			b := &fakeBucket{keys: shape.keys(n), length: pageLength, answer: func() time.Duration {
				return time.Duration((1 + random.ExpFloat64()) / 2 * float64(20*time.Millisecond))
			}}
			took := listsEachOnce(t, shape.dir, b, defaultConcurrency)
			t.Logf("%-36s %8d keys: %5d requests for pages, %3d for names, %5d ms", shape.name, n, b.pages, b.names, took.Milliseconds())
		}
	}
}

// TestListingDividesItself: each answer takes a second, and a listing of 60 pages takes less than half
// of 60 seconds.
func TestListingDividesItself(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("TestListingStaysInItsBudget lists the same keys")
	}
	for _, shape := range simulatedShapes {
		b := &fakeBucket{keys: shape.keys(60_000), length: pageLength, answer: func() time.Duration { return time.Second }}
		if took := listsEachOnce(t, shape.dir, b, defaultConcurrency); took > 30*time.Second {
			t.Errorf("%s: it took %v", shape.name, took)
		}
	}
}

// hostileKeys returns keys of shapes that a listing may find hard to divide.
func hostileKeys(random *rand.Rand, stem string) keySlice {
	var keys keySlice
	repositories := []string{"a", "a-b", "a/b", "a.b", "a_b", "ab", "a/b/c", "a/b-c", "Ä", "a b", "a+b", "a%2Fb", "_a", "~", "a~", ""}
	some := func(n int) int { return 1 + random.IntN(n) }
	hex := func() string { return fmt.Sprintf("%016x%048x", random.Uint64(), 0) }
	add := func(key string) { keys = append(keys, stem+key) }
	for range some(4) {
		repository := repositories[random.IntN(len(repositories))]
		switch random.IntN(10) {
		case 0: // one large directory
			for range some(300) {
				add(repository + "/_layers/sha256/" + hex() + "/link")
			}
		case 1:
			for range some(300) {
				digits := hex()
				add("sha256/" + digits[:2] + "/" + digits + "/data")
			}
		case 2: // digests that share a long prefix
			for range some(200) {
				add(repository + "/_layers/sha256/" + strings.Repeat("0", 50) + hex()[:14] + "/link")
			}
		case 3: // any bytes
			for range some(200) {
				key := make([]byte, some(6))
				for i := range key {
					key[i] = "\x00\x01\t\n %&+/0~\x7f\x80\xc3\xa4\xff"[random.IntN(16)]
				}
				add(string(key))
			}
		case 4: // keys without a slash
			for i := range some(300) {
				add(strconv.Itoa(i))
			}
		case 5: // folder keys beside what is in them
			for i := range some(60) {
				add(fmt.Sprintf("team%d/", i%7))
				add(fmt.Sprintf("team%d/app%d/", i%7, i))
				add(fmt.Sprintf("team%d/app%d/_layers/sha256/%s/link", i%7, i, hex()))
			}
		case 6: // keys that differ in length only
			for i := range some(200) {
				add(strings.Repeat("a", i+1))
			}
		case 7: // all words of some digits: many bounds are keys
			for i := range 256 {
				add(fmt.Sprintf("tags/%08b", i))
			}
		case 8: // deep
			add(strings.Repeat("a/", some(60)) + "b")
		case 9:
			for _, repository := range repositories {
				for i := range some(20) {
					add(fmt.Sprintf("%s/_manifests/tags/v%d/current/link", repository, i))
				}
			}
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// TestNoKeyIsMissedOrSeenTwice, whatever the shape of the names.
func TestNoKeyIsMissedOrSeenTwice(t *testing.T) {
	t.Parallel()
	rounds, boundsWithKeys := 1500, 0
	if testing.Short() {
		rounds = 200
	}
	for seed := range rounds {
		random := rand.New(rand.NewPCG(uint64(seed), 1))
		dir := []string{storage.BlobsDir, storage.RepositoriesDir}[random.IntN(2)]
		b := &fakeBucket{
			keys: hostileKeys(random, simulatedPrefix+dir+"/"), length: 1 + random.IntN(12), flat: random.IntN(4) == 0, minio: random.IntN(4) == 0,
			answer: func() time.Duration { return time.Duration(random.IntN(1000)) },
		}
		listsEachOnce(t, dir, b, 1+random.IntN(40))
		boundsWithKeys += b.boundsWithKeys
		if t.Failed() {
			t.Fatalf("seed %d: %d keys, %d a page", seed, b.keys.len(), b.length)
		}
	}
	if boundsWithKeys == 0 {
		t.Error("no range was cut exactly at a key: the test proves less than it should")
	}
}

// TestKeysThatStayAreListedOnce while others come and go.
func TestKeysThatStayAreListedOnce(t *testing.T) {
	t.Parallel()
	rounds := 200
	if testing.Short() {
		rounds = 30
	}
	for seed := range rounds {
		random := rand.New(rand.NewPCG(uint64(seed), 2))
		dir := storage.RepositoriesDir
		all := hostileKeys(random, simulatedPrefix+dir+"/")
		comes := map[string]bool{}
		for _, key := range all {
			if random.IntN(3) == 0 {
				comes[key] = true
			}
		}
		b := &fakeBucket{keys: all, length: 1 + random.IntN(12), answer: func() time.Duration { return time.Duration(random.IntN(1000)) }}
		b.change = func() {
			var now keySlice
			for _, key := range all {
				if !comes[key] || random.IntN(2) == 0 {
					now = append(now, key)
				}
			}
			b.keys = now
		}
		seen := map[string]int{}
		list(t, dir, b, 1+random.IntN(40), func(page []storage.Object) {
			for _, object := range page {
				seen[simulatedPrefix+object.Path]++
			}
		})
		for _, key := range all {
			if n := seen[key]; n > 1 || n == 0 && !comes[key] {
				t.Fatalf("seed %d: %q is listed %d times", seed, key, n)
			}
		}
	}
}

func FuzzNoKeyIsMissedOrSeenTwice(f *testing.F) {
	for seed := range uint64(20) {
		keys := hostileKeys(rand.New(rand.NewPCG(seed, 3)), "")
		f.Add(strings.Join(keys, "\n"), uint8(seed), uint8(64), seed%2 == 0)
	}
	f.Fuzz(func(t *testing.T, names string, length, listers uint8, flat bool) {
		var keys keySlice
		for name := range strings.SplitSeq(names, "\n") {
			keys = append(keys, simulatedRepositories+name)
		}
		slices.Sort(keys)
		b := &fakeBucket{keys: slices.Compact(keys), length: 1 + int(length), flat: flat}
		listsEachOnce(t, storage.RepositoriesDir, b, 1+int(listers))
	})
}

// On MinIO a page that begins in the middle of a huge directory is expensive. Such a directory is
// listed by one reader, with tokens. On other servers it is divided.
func TestAHugeDirectoryOfMinIOIsListedByTokens(t *testing.T) {
	t.Parallel()
	for _, minio := range []bool{false, true} {
		b := &fakeBucket{keys: layersOfOne(200_000), length: pageLength, minio: minio, answer: func() time.Duration { return time.Second }}
		listsEachOnce(t, storage.RepositoriesDir, b, defaultConcurrency)
		if isByToken := b.begun < 5; isByToken != minio {
			t.Errorf("MinIO %t: %d pages of %d were requested by a key", minio, b.begun, b.pages)
		}
	}
}

// TestMinIOsTokensAreKnown: they have the form that isMinIOToken expects.
func TestMinIOsTokensAreKnown(t *testing.T) {
	t.Parallel()
	server := miniotest.SharedMinIO(t)
	store, plant := openBucket(t, server, server.NewBucketT(t))
	err := storage.Each(t.Context(), pageLength+1, 16, func(_ context.Context, i int) error {
		plant(fmt.Sprintf("%s/%04d", storage.BlobsDir, i), "")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	page, err := store.(*Store).page(t.Context(), storage.BlobsDir, "", "")
	if err != nil || !isMinIOToken(page.token) {
		t.Errorf("the token is %q, %v", page.token, err)
	}
}

// A range begins ahead of the reader, inside the range, and where no server reads another key.
func TestARangeBeginsAtPlainKeysAhead(t *testing.T) {
	l := newDivision("my registry/", storage.RepositoriesDir, defaultConcurrency, nil, nil)
	r := &keyRange{after: l.stem + "b/", upTo: l.stem + "m/"}
	for name, want := range map[string]bool{"": false, "b/": false, "a/": false, "c/": true, "m/": false, "n/": false, "c+d/": false, "c d/": false, "ç/": false, "c/_layers/sha256/~": true} {
		if got := l.isBound(l.stem+name, r); got != want {
			t.Errorf("a range may begin at %q: %t", name, got)
		}
	}
}
