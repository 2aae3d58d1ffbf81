package s3

import (
	"context"
	"fmt"
	"math"
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

	"regsweep/storage"

	"golang.org/x/sync/errgroup"
)

// keySpace is a bucket's keys, in order, that are rendered when they are listed: millions
// of them would not fit.
type keySpace struct {
	stretches []keyStretch
	keys      int
}

// keyStretch is a run of keys with a prefix in common, that go on with digests or with
// tags.
type keyStretch struct {
	prefix  string
	first   int
	digests []uint64 // the first 16 digits; the rest follows from them
	blobs   bool     // digests are those of blobs, whose path repeats two digits
	names   []string
}

func (s *keyStretch) len() int { return len(s.digests) + len(s.names) }

func (s *keyStretch) key(i int) string {
	if len(s.names) > 0 {
		return s.prefix + s.names[i]
	}
	var digits [16]byte
	for n, digest := 15, s.digests[i]; n >= 0; n, digest = n-1, digest>>4 {
		digits[n] = "0123456789abcdef"[digest&15]
	}
	hex := string(digits[:])
	if s.blobs {
		return s.prefix + hex[:2] + "/" + hex + hex + hex + hex + "/data"
	}
	return s.prefix + hex + hex + hex + hex + "/link"
}

func (k *keySpace) key(i int) string {
	at := sort.Search(len(k.stretches), func(n int) bool { return k.stretches[n].first > i }) - 1
	return k.stretches[at].key(i - k.stretches[at].first)
}

// beside is how many keys lie together with the first one after another.
func (k *keySpace) beside(after string) int {
	first := sort.Search(k.keys, func(i int) bool { return k.key(i) > after })
	at := sort.Search(len(k.stretches), func(n int) bool { return k.stretches[n].first > first }) - 1
	return k.stretches[at].len()
}

func (k *keySpace) add(s keyStretch) {
	if s.len() == 0 {
		return
	}
	s.first = k.keys
	slices.Sort(s.digests)
	slices.Sort(s.names)
	k.keys += s.len()
	k.stretches = append(k.stretches, s)
}

func randomDigests(random *rand.Rand, n int) []uint64 {
	digests := make([]uint64, n)
	for i := range digests {
		digests[i] = random.Uint64()
	}
	return digests
}

// simulatedPrefix is that of a registry at the root of its bucket.
const simulatedPrefix = storage.Root + "/"

func blobSpace(n int) *keySpace {
	k := &keySpace{}
	k.add(keyStretch{prefix: simulatedPrefix + storage.BlobsDir + "/sha256/", digests: randomDigests(rand.New(rand.NewPCG(1, 2)), n), blobs: true})
	return k
}

// repositorySpace has repositories with so many keys each, of which six in eight are
// layers, and one in eight are tags.
func repositorySpace(names map[string]int) *keySpace {
	random := rand.New(rand.NewPCG(3, 4))
	k := &keySpace{}
	sorted := make([]string, 0, len(names))
	for name := range names {
		sorted = append(sorted, name+"/")
	}
	slices.Sort(sorted)
	for _, name := range sorted {
		n := names[strings.TrimSuffix(name, "/")]
		prefix := simulatedPrefix + storage.RepositoriesDir + "/" + name
		tags := n / 16 // each has a current link and one in its index
		k.add(keyStretch{prefix: prefix + "_layers/sha256/", digests: randomDigests(random, n-n/8-2*tags)})
		k.add(keyStretch{prefix: prefix + "_manifests/revisions/sha256/", digests: randomDigests(random, n/8)})
		var links []string
		for i := range tags {
			tag := "v" + strconv.Itoa(i)
			links = append(links, tag+"/current/link", tag+"/index/sha256/"+strings.Repeat(fmt.Sprintf("%016x", random.Uint64()), 4)+"/link")
		}
		k.add(keyStretch{prefix: prefix + "_manifests/tags/", names: links})
	}
	return k
}

// simulatedShapes are buckets of about n keys, with the directory that is listed, and how many
// requests are to be under way: of twenty listings one has fewer, since goroutines run in an order
// of chance, and an answer that comes a little later moves every cut behind it.
var simulatedShapes = []struct {
	name, dir string
	keys      func(n int) *keySpace
	least     float64 // on average, of a million keys
}{
	{"blobs", storage.BlobsDir, blobSpace, 41},
	{"layers of one repository", storage.RepositoriesDir, layersOfOne, 36},
	{"one repository", storage.RepositoriesDir, func(n int) *keySpace { return repositorySpace(map[string]int{"big": n}) }, 28},
	{"seven repositories", storage.RepositoriesDir, func(n int) *keySpace {
		names := map[string]int{}
		for _, name := range []string{"alpine", "debian", "golang", "node", "python", "redis", "ubuntu"} {
			names["library/"+name] = n / 7
		}
		return repositorySpace(names)
	}, 28},
	{"repositories large and small", storage.RepositoriesDir, func(n int) *keySpace {
		names := map[string]int{}
		for i, left := 0, n; left > 0 && i < 400; i++ {
			size := max(20, n/(6*(i+1)))
			names[fmt.Sprintf("%c%c/svc-%d", 'a'+i*7%26, 'a'+i*11%26, i)] = min(size, left)
			left -= size
		}
		return repositorySpace(names)
	}, 8},
	{"a giant among small ones", storage.RepositoriesDir, func(n int) *keySpace {
		names := map[string]int{"mirror/giant": n / 2}
		for i := range n / 120 {
			names[fmt.Sprintf("team%02d/app%05d", i%17, i)] = 60
		}
		return repositorySpace(names)
	}, 15},
	{"60 keys each, in teams", storage.RepositoriesDir, smallRepositories(func(i, _ int, _ *rand.Rand) string {
		return fmt.Sprintf("team%02d/app%05d", i%17, i)
	}), 33},
	{"60 keys each, one below the other", storage.RepositoriesDir, oneBelowTheOther, 39},
	{"60 keys each, of words", storage.RepositoriesDir, smallRepositories(func(i, n int, random *rand.Rand) string {
		words := []string{"alpine", "api", "base", "cache", "db", "edge", "front", "go", "java", "node", "proxy", "web", "worker", "zk"}
		word := func() string { return words[random.IntN(len(words))] }
		return word() + "/" + word() + "-" + word() + strconv.Itoa(random.IntN(1+n/1000))
	}), 21},
	{"60 keys each, of digits at random", storage.RepositoriesDir, digitsAtRandom, 38},
	{"60 keys each, deep below one prefix", storage.RepositoriesDir, smallRepositories(func(i, _ int, _ *rand.Rand) string {
		return fmt.Sprintf("mirror/registry.example.com/production/team/service-%d/app", i)
	}), 33},
	{"of many sizes, one below the other", storage.RepositoriesDir, manySizes, 11},
	{"of very many sizes, in teams", storage.RepositoriesDir, ofManySizes(2, func(i int) string {
		return fmt.Sprintf("team%02d/app%05d", i%17, i)
	}), 14},
}

// ofManySizes has repositories of 60 keys on average, whose sizes are spread log-normally: with a
// deviation of 1 one in twenty has more than 170, and with 2 more than 200 and one in a
// thousand several thousands.
func ofManySizes(deviation float64, name func(i int) string) func(n int) *keySpace {
	return func(n int) *keySpace {
		random := rand.New(rand.NewPCG(5, 6))
		names := map[string]int{}
		for i := 0; n > 0; i++ {
			size := min(n, 5+int(55*math.Exp(deviation*random.NormFloat64()-deviation*deviation/2)))
			names[name(i)] = size
			n -= size
		}
		return repositorySpace(names)
	}
}

func layersOfOne(n int) *keySpace {
	k := &keySpace{}
	k.add(keyStretch{
		prefix:  simulatedPrefix + storage.RepositoriesDir + "/big/_layers/sha256/",
		digests: randomDigests(rand.New(rand.NewPCG(3, 4)), n),
	})
	return k
}

var oneBelowTheOther = smallRepositories(func(i, _ int, _ *rand.Rand) string { return fmt.Sprintf("app%06d", i) })

var manySizes = ofManySizes(1, func(i int) string { return fmt.Sprintf("app%06d", i) })

var digitsAtRandom = smallRepositories(func(_, _ int, random *rand.Rand) string { return fmt.Sprintf("%016x", random.Uint64()) })

// smallRepositories has as many repositories of 60 keys as n keys need.
func smallRepositories(name func(i, n int, random *rand.Rand) string) func(n int) *keySpace {
	return func(n int) *keySpace {
		random := rand.New(rand.NewPCG(5, 6))
		names := map[string]int{}
		for i := 0; len(names) < n/60; i++ {
			names[name(i, n, random)] = 60
		}
		return repositorySpace(names)
	}
}

// simulation is what one listing came to.
type simulation struct {
	keys, pages, requests, scouts int
	begun                         int // pages for which a toll was due
	tokens                        int // pages that were asked for with a token
	took                          time.Duration
	// mean is of the requests under way over the whole time, its beginning and its end
	// included, and middle is without these: from after five answers' time, until fewer
	// than 32 pages are left.
	mean, middle float64
}

func (s simulation) extra() float64 { return float64(s.requests)/float64(s.pages) - 1 }

func (s simulation) String() string {
	return fmt.Sprintf("%7d keys %+5.1f%% requests (%d for names), %4.1f under way on average, %4.1f in the middle, %v",
		s.keys, 100*s.extra(), s.scouts, s.mean, s.middle, s.took.Round(time.Millisecond))
}

// simulatedAnswer is how long an answer takes on average; none takes less than half.
const simulatedAnswer = 20 * time.Millisecond

const simulatedStall = 250 * time.Millisecond

// simulatedServer is one that does not answer like S3; its zero value does.
type simulatedServer struct {
	first time.Duration // how much later its first answer comes
	// toll is what it works for each name in a directory, once a page is to begin in it and
	// not to go on with a listing that it remembers, as it does from the third token on. It
	// works on two at once. Every fifth page that goes on comes 250 ms later.
	toll time.Duration
}

// simulate lists keys from a server in a time of the test's own. Every key must come once.
func simulate(t *testing.T, dir string, keys *keySpace, server simulatedServer) (s simulation) {
	random := rand.New(rand.NewPCG(7, 8))
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		began := time.Now()
		under, since, listed := 0, began, 0
		var all, middle, took time.Duration // middle of took
		change := func(by int) {
			mu.Lock()
			defer mu.Unlock()
			passed := time.Since(since)
			all += passed * time.Duration(under)
			if since.Sub(began) >= 5*simulatedAnswer && keys.keys-listed >= 32*pageLength {
				middle += passed * time.Duration(under)
				took += passed
			}
			under, since = under+by, time.Now()
		}
		answer := func() {
			change(1)
			mu.Lock()
			s.requests++
			wait := time.Duration((1 + random.ExpFloat64()) / 2 * float64(simulatedAnswer))
			mu.Unlock()
			time.Sleep(wait)
			change(-1)
		}
		processors := make(chan struct{}, 2)
		page := func(_ context.Context, after, token string) (s3Page, error) {
			tokens := strings.Count(token, "+")
			if tokens > 0 {
				mu.Lock()
				s.tokens++
				mu.Unlock()
			}
			if server.toll > 0 && tokens < 3 {
				mu.Lock()
				s.begun++
				mu.Unlock()
				processors <- struct{}{}
				time.Sleep(server.toll * time.Duration(keys.beside(after)))
				<-processors
			} else if server.toll > 0 && tokens%5 == 0 {
				time.Sleep(simulatedStall)
			}
			if after == "" {
				time.Sleep(server.first)
			}
			answer()
			at := sort.Search(keys.keys, func(i int) bool { return keys.key(i) > after })
			page := s3Page{last: after}
			for ; at < keys.keys && len(page.objects) < pageLength; at++ {
				page.last = keys.key(at)
				page.objects = append(page.objects, storage.Object{Path: page.last[len(simulatedPrefix):]})
			}
			if at < keys.keys {
				page.token = strings.Repeat("+", tokens+1)
			}
			return page, nil
		}
		type stretch struct {
			first string
			keys  int
		}
		var visited []stretch
		g, ctx := errgroup.WithContext(t.Context())
		l := newDivision(simulatedPrefix, dir, defaultConcurrency, g, func(objects []storage.Object) error {
			mu.Lock()
			defer mu.Unlock()
			listed += len(objects)
			visited = append(visited, stretch{simulatedPrefix + objects[0].Path, len(objects)})
			return nil
		})
		l.page = page
		if dir != storage.BlobsDir {
			l.expected = float64(keys.keys) / 2 // the blobs have been listed: links are more
			l.names = func(_ context.Context, prefix, after string) (names []string, more bool, err error) {
				answer()
				mu.Lock()
				s.scouts++
				mu.Unlock()
				if after != "" {
					after += "~"
				}
				for {
					at := sort.Search(keys.keys, func(i int) bool { key := keys.key(i); return key > after && key >= prefix })
					if at == keys.keys || !strings.HasPrefix(keys.key(at), prefix) {
						return names, false, nil
					}
					if len(names) == pageLength {
						return names, true, nil
					}
					name, _, _ := strings.Cut(keys.key(at)[len(prefix):], "/")
					names = append(names, prefix+name+"/")
					after = prefix + name + "/~"
				}
			}
		}
		l.begin(ctx)
		if err := g.Wait(); err != nil {
			t.Error(err)
		}
		s.keys, s.pages, s.took = keys.keys, (keys.keys+pageLength-1)/pageLength, time.Since(began)
		s.mean, s.middle = float64(all)/float64(s.took), float64(middle)/float64(max(took, 1))
		if listed != keys.keys {
			t.Errorf("%d keys listed of %d", listed, keys.keys)
		}
		slices.SortFunc(visited, func(a, b stretch) int { return strings.Compare(a.first, b.first) })
		at := 0
		for _, v := range visited {
			if at >= keys.keys || v.first != keys.key(at) {
				t.Errorf("after %d keys comes %s", at, v.first)
				break
			}
			at += v.keys
		}
	})
	return s
}

// simulates skips a test with -short. It lists in simulated time and judges how many requests are
// under way at each moment. The race detector changes that, and sees the same in other tests.
func simulates(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("lists many registries in simulated time")
	}
}

// TestListingKeepsManyUnderWay, of any shape, for a few percent more requests than pages. What is
// under way may be less once or twice by chance, and three times in a row it is not.
// SIMULATE_KEYS sets another size, such as 6000000.
func TestListingKeepsManyUnderWay(t *testing.T) {
	t.Parallel()
	simulates(t)
	sizes := []int{200_000, 1_000_000}
	if n, err := strconv.Atoi(os.Getenv("SIMULATE_KEYS")); err == nil {
		sizes = []int{n}
	}
	for _, shape := range simulatedShapes {
		for _, n := range sizes {
			keys := shape.keys(n)
			least, most := 0.0, 0.055 // the 5% and one request of 200
			if n >= 1_000_000 {
				least, most = shape.least, 0.05
			}
			for try := 1; ; try++ {
				s := simulate(t, shape.dir, keys, simulatedServer{})
				t.Logf("%-35s %v", shape.name, s)
				if s.extra() > most {
					t.Errorf("%s, %d keys: %d requests for %d pages", shape.name, n, s.requests, s.pages)
				}
				if s.mean >= least {
					break
				}
				if try == 3 {
					t.Errorf("%s, %d keys: %.1f requests under way, want %v", shape.name, n, s.mean, least)
					break
				}
			}
		}
	}
}

// TestListingOfNamesKeepsAhead of the keys that are read below them, however many there
// are, and whether they can be guessed or not: were the next names not listed before ranges have
// paid for them, nothing would be known that pays for ranges. And ranges are as long as what
// is known leaves: short ones would spend everything at the beginning.
func TestListingOfNamesKeepsAhead(t *testing.T) {
	t.Parallel()
	simulates(t)
	for _, of := range []struct {
		name  string
		keys  *keySpace
		least float64
	}{
		{"names one below the other", oneBelowTheOther(2_000_000), 40},
		{"names that can't be guessed", digitsAtRandom(6_000_000), 45},
		{"repositories of many sizes", manySizes(6_000_000), 12},
	} {
		s := simulate(t, storage.RepositoriesDir, of.keys, simulatedServer{})
		t.Logf("%s: %v", of.name, s)
		if s.mean < of.least || s.extra() > 0.05 {
			t.Errorf("%s: %.1f requests under way, %d for %d pages", of.name, s.mean, s.requests, s.pages)
		}
	}
}

// When all is spent more names are listed only where many are known, and they pay: one listing in
// sixteen of many sizes otherwise ends with one reader for a hundred pages.
func TestNamesAreListedThoughAllIsSpent(t *testing.T) {
	for _, of := range []struct {
		names, each float64
		affordable  bool
		want        bool
	}{
		{2000, 60, false, true},
		{1000, 60, false, false},
		{1000, 60, true, true},
		{2000, 12, false, false},
		{2000, 12, true, false}, // dear
	} {
		var group errgroup.Group
		l := newDivision(simulatedPrefix, storage.RepositoriesDir, 1, &group, nil)
		l.names = func(context.Context, string, string) ([]string, bool, error) { return nil, false, nil }
		n := &s3Names{prefix: l.stem}
		for i := range int(of.names) {
			n.names = append(n.names, fmt.Sprintf("%sapp%05d/", l.stem, i))
		}
		for range 3 {
			n.sizes.note(100*of.each, 100)
		}
		l.known[l.stem] = n
		r := &s3Range{pages: 3, first: n.names[5] + "_layers/", after: n.last() + "_layers/"}
		l.active[r] = true
		if got := l.scout(t.Context(), 0, of.affordable); got != of.want {
			t.Errorf("%v: names are listed: %t", of, got)
		}
		if err := group.Wait(); err != nil {
			t.Error(err)
		}
	}
}

// Of repositories with a dozen keys each, from a single image, the names are dear: a listing of a
// thousand would cost more than the 12 pages that they stand for can pay. They are guessed at.
func TestDearNamesAreGuessedAt(t *testing.T) {
	t.Parallel()
	simulates(t)
	for _, of := range []struct {
		kind  string
		name  func(i int, random *rand.Rand) string
		least float64 // 1.3 if they are listed
	}{
		{"counted", func(i int, _ *rand.Rand) string { return fmt.Sprintf("app%07d", i) }, 15},                   // 22 to 25
		{"at random", func(_ int, random *rand.Rand) string { return fmt.Sprintf("%016x", random.Uint64()) }, 3}, // 4 to 12
	} {
		random := rand.New(rand.NewPCG(9, 9))
		names := map[string]int{}
		for i := range 100_000 {
			names[of.name(i, random)] = 12
		}
		s := simulate(t, storage.RepositoriesDir, repositorySpace(names), simulatedServer{})
		t.Logf("%s: %v", of.kind, s)
		if s.mean < of.least || s.extra() > 0.05 || s.scouts > 10 {
			t.Errorf("%s: %.1f requests under way, %d for %d pages, %d for names", of.kind, s.mean, s.requests, s.pages, s.scouts)
		}
	}
}

// TestNamesAreNotListedForAFewPages: the names in a directory cost a request, which 25 pages pay for.
func TestNamesAreNotListedForAFewPages(t *testing.T) {
	t.Parallel()
	simulates(t)
	for _, of := range []struct{ teams, pages, least, most int }{
		{60, 8, 1, 6}, // one in ten may look larger at first
		{17, 60, 18, 18},
	} {
		keys := smallRepositories(func(i, _ int, _ *rand.Rand) string { return fmt.Sprintf("team%02d/app%05d", i%of.teams, i) })
		s := simulate(t, storage.RepositoriesDir, keys(of.teams*of.pages*pageLength), simulatedServer{})
		if s.scouts < of.least || s.scouts > of.most {
			t.Errorf("%d teams of %d pages: %d listings of names, want %d to %d", of.teams, of.pages, s.scouts, of.least, of.most)
		}
	}
}

// A small registry may cost some more requests for each thousand keys, and is listed in the
// time of a few answers, whatever its shape: from page to page it would be some 60 of them. It
// is 7 to 13, and once in a hundred listings 17, by which answer comes late. Where sizes differ most
// it is 18 to 23; and one in thirty with a giant, for whose sake the registry may be taken for a
// large one, takes 26 and more, so that the middle one of five counts.
func TestASmallRegistryIsListedInAFewAnswers(t *testing.T) {
	t.Parallel()
	simulates(t)
	for _, shape := range simulatedShapes {
		answers := time.Duration(22)
		if strings.HasPrefix(shape.name, "of very many sizes") {
			answers = 28
		}
		var took []time.Duration
		for range 5 {
			s := simulate(t, shape.dir, shape.keys(60_000), simulatedServer{})
			t.Logf("%-35s %v", shape.name, s)
			took = append(took, s.took)
			if s.requests-s.pages > 30 {
				t.Errorf("%s: %d requests for %d pages", shape.name, s.requests, s.pages)
			}
		}
		slices.Sort(took)
		if took[2] > answers*simulatedAnswer {
			t.Errorf("%s: %v", shape.name, took)
		}
	}
}

// A token makes MinIO list all that follows. In a registry of ordinary size one of them, for
// the second page, took it as much work as a third of all pages.
func TestAListingThatDividesAsksWithoutTokens(t *testing.T) {
	t.Parallel()
	for _, shape := range simulatedShapes {
		if s := simulate(t, shape.dir, shape.keys(20_000), simulatedServer{}); s.tokens > 0 {
			t.Errorf("%s: %d of %d requests with a token", shape.name, s.tokens, s.requests)
		}
	}
}

// Where beginning at a key is dear, as on MinIO where very many keys lie in one directory, a
// listing takes little longer than one that goes from page to page, and hardly begins anew.
func TestAListingDoesNotBeginOftenWhereThatIsDear(t *testing.T) {
	t.Parallel()
	for name, keys := range map[string]*keySpace{
		"one directory":                   layersOfOne(200_000),
		"one that is dear, among several": repositorySpace(map[string]int{"a": 20_000, "giant": 200_000, "m": 20_000, "z": 20_000}),
	} {
		s := simulate(t, storage.RepositoriesDir, keys, simulatedServer{toll: 1500 * time.Nanosecond})
		serial := time.Duration(s.pages)*simulatedAnswer + time.Duration(s.pages/5)*simulatedStall
		t.Logf("%s: %v, from page to page %v", name, s, serial)
		if s.took > serial*5/4 {
			t.Errorf("%s: it took %v, and from page to page %v", name, s.took, serial)
		}
		if name == "one directory" && s.begun > 9 {
			t.Errorf("%d pages were begun, want at most 9", s.begun)
		}
	}
}

// An answer that is late by chance makes a listing go from page to page for twenty pages, and
// not for all.
func TestALateAnswerIsNotTakenForDear(t *testing.T) {
	t.Parallel()
	s := simulate(t, storage.RepositoriesDir, layersOfOne(1_000_000), simulatedServer{first: time.Second})
	t.Log(s)
	if most := time.Second + 100*simulatedAnswer; s.took > most {
		t.Errorf("it took %v, want at most %v", s.took, most)
	}
}

// While nothing is known of a very large directory no range begins in it, and one may behind.
func TestARangeMayBeginBehindADearDirectory(t *testing.T) {
	span := &s3Span{prefix: "big/_layers/sha256/", alphabet: hexAlphabet, even: true, keys: 1000, wide: 1000.0 / (2 * dearKeys)}
	r := &s3Range{after: span.key(0.01), span: span}
	if inside := span.key(0.5); r.mayEndAt(inside) || !r.mayEndAt(span.behind()) || !r.mayEndAt("big/_manifests/") {
		t.Errorf("a range may begin inside: %t, behind: %t", r.mayEndAt(inside), r.mayEndAt(span.behind()))
	}
	span.wide *= 4 // not so large
	if !r.mayEndAt(span.key(0.5)) {
		t.Error("no range may begin in a directory of an ordinary size")
	}
}

// All keys of a span lie below its end, which lies at 1: what is between would otherwise look
// empty, and be left to one range.
func TestTheEndOfASpanLiesAtOne(t *testing.T) {
	for _, s := range []*s3Span{
		{prefix: "big/_layers/sha256/", alphabet: hexAlphabet, even: true},
		{prefix: "blobs/sha256/", alphabet: hexAlphabet, even: true, doubled: true},
		{prefix: "big/_manifests/tags/v", alphabet: digitAlphabet},
		{prefix: "big/_manifests/tags/", alphabet: nameAlphabet},
	} {
		last := s.key(1 - 1e-9)
		if end, at := s.position(s.behind()), s.position(last); end != 1 || at >= 1 || at < 0.999 || last >= s.behind() {
			t.Errorf("the end of %s lies at %v, %s before it at %v", s.prefix, end, last, at)
		}
	}
	s := simulate(t, storage.RepositoriesDir, layersOfOne(500_000), simulatedServer{})
	t.Log(s)
	if s.mean < 20 { // 28 to 41, and 13 where the last sixteenth looks empty
		t.Errorf("%.1f requests under way", s.mean)
	}
}

// Tags of moments, 20240101120000, differ so late that as many seem to be there as there were
// seconds since the year 0. What a range should keep of them is known at once.
func TestTagsOfMomentsAreNoMillionPages(t *testing.T) {
	t.Parallel()
	keys := &keySpace{}
	var tags []string
	for minute := range 30_000 {
		at := time.Date(2024, 1, 1, 0, minute, 0, 0, time.UTC).Format("20060102150405")
		tags = append(tags, at+"/current/link")
	}
	keys.add(keyStretch{prefix: simulatedPrefix + storage.RepositoriesDir + "/app/_manifests/tags/", names: tags})
	t.Log(simulate(t, storage.RepositoriesDir, keys, simulatedServer{}))
	l := &s3Division{listers: defaultConcurrency, active: map[*s3Range]bool{}}
	if pages := l.share(&s3Range{}, 1e18, 5); pages < 1e12 {
		t.Errorf("of 10^15 pages a range keeps %v", pages)
	}
}

// A range begins ahead of the reader, inside the range, and where no server reads another key.
func TestARangeBeginsAtPlainKeysAhead(t *testing.T) {
	l := newDivision("my registry/", storage.RepositoriesDir, defaultConcurrency, nil, nil)
	r := &s3Range{after: l.stem + "b/", upTo: l.stem + "m/"}
	for name, want := range map[string]bool{"": false, "b/": false, "a/": false, "c/": true, "m/": false, "n/": false, "c+d/": false, "c d/": false, "ç/": false, "c/_layers/sha256/~": true} {
		if got := l.isBound(l.stem+name, r); got != want {
			t.Errorf("a range may begin at %q: %t", name, got)
		}
	}
	if l.isBound("", r) {
		t.Error("a range may begin nowhere")
	}
}
