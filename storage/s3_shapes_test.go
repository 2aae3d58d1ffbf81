package storage

import (
	"context"
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
	hex := fmt.Sprintf("%016x", s.digests[i])
	hex += hex + hex + hex
	if s.blobs {
		return s.prefix + hex[:2] + "/" + hex + "/data"
	}
	return s.prefix + hex + "/link"
}

func (k *keySpace) key(i int) string {
	at := sort.Search(len(k.stretches), func(n int) bool { return k.stretches[n].first > i }) - 1
	return k.stretches[at].key(i - k.stretches[at].first)
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
const simulatedPrefix = Root + "/"

func blobSpace(n int) *keySpace {
	k := &keySpace{}
	k.add(keyStretch{prefix: simulatedPrefix + BlobsDir + "/sha256/", digests: randomDigests(rand.New(rand.NewPCG(1, 2)), n), blobs: true})
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
		prefix := simulatedPrefix + RepositoriesDir + "/" + name
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

// simulatedShapes are buckets of about n keys, with the directory that is listed.
var simulatedShapes = []struct {
	name, dir string
	keys      func(n int) *keySpace
	least     float64 // requests under way on average, from a million keys on
}{
	{"blobs", BlobsDir, blobSpace, 40},
	{"one repository", RepositoriesDir, func(n int) *keySpace { return repositorySpace(map[string]int{"big": n}) }, 12},
	{"repositories of 60 keys", RepositoriesDir, func(n int) *keySpace {
		names := map[string]int{}
		for i := range n / 60 {
			names[fmt.Sprintf("team%02d/app%05d", i%17, i)] = 60
		}
		return repositorySpace(names)
	}, 10},
	{"repositories of 60 keys, named at random", RepositoriesDir, func(n int) *keySpace {
		random := rand.New(rand.NewPCG(5, 6))
		words := []string{"alpine", "api", "base", "cache", "db", "edge", "front", "go", "java", "node", "proxy", "web", "worker", "zk"}
		names := map[string]int{}
		for len(names) < n/60 {
			name := words[random.IntN(len(words))] + "/" + words[random.IntN(len(words))] + "-" + words[random.IntN(len(words))] + strconv.Itoa(random.IntN(1+n/1000))
			names[name] = 60
		}
		return repositorySpace(names)
	}, 10},
	{"seven repositories", RepositoriesDir, func(n int) *keySpace {
		names := map[string]int{}
		for _, name := range []string{"alpine", "debian", "golang", "node", "python", "redis", "ubuntu"} {
			names["library/"+name] = n / 7
		}
		return repositorySpace(names)
	}, 10},
	{"repositories large and small", RepositoriesDir, func(n int) *keySpace {
		names := map[string]int{}
		for i, left := 0, n; left > 0 && i < 400; i++ {
			size := max(20, n/(6*(i+1)))
			names[fmt.Sprintf("%c%c/svc-%d", 'a'+i*7%26, 'a'+i*11%26, i)] = min(size, left)
			left -= size
		}
		return repositorySpace(names)
	}, 10},
}

// simulation is what one listing came to.
type simulation struct {
	keys, pages, requests, scouts int
	took                          time.Duration
	mean                          float64 // requests under way, over the time
	busy                          float64 // share of the time in which 32 or more were
}

func (s simulation) extra() float64 { return float64(s.requests)/float64(s.pages) - 1 }

func (s simulation) String() string {
	return fmt.Sprintf("%8d keys %5d pages %+5.1f%% requests (%d for names), %6v, %4.1f under way on average, 32 or more for %3.0f%%",
		s.keys, s.pages, 100*s.extra(), s.scouts, s.took, s.mean, 100*s.busy)
}

// simulate lists keys from a server that answers after latency, in a time of the test's
// own. Every key must come once.
func simulate(t *testing.T, dir string, keys *keySpace, latency func() time.Duration) (s simulation) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		began := time.Now()
		under, since, weighted, busy := 0, began, time.Duration(0), time.Duration(0)
		change := func(by int) {
			mu.Lock()
			defer mu.Unlock()
			passed := time.Since(since)
			weighted += passed * time.Duration(under)
			if under >= 32 {
				busy += passed
			}
			under, since = under+by, time.Now()
		}
		listed := 0
		page := func(_ context.Context, after, token string) (s3Page, error) {
			change(1)
			time.Sleep(latency())
			change(-1)
			mu.Lock()
			s.requests++
			mu.Unlock()
			at := sort.Search(keys.keys, func(i int) bool { return keys.key(i) > after })
			page := s3Page{last: after}
			for ; at < keys.keys && len(page.objects) < s3PageLength; at++ {
				page.last = keys.key(at)
				page.objects = append(page.objects, Object{Path: page.last[len(simulatedPrefix):]})
			}
			if at < keys.keys {
				page.token = page.last
			}
			return page, nil
		}
		g, ctx := errgroup.WithContext(t.Context())
		l := newDivision(simulatedPrefix, dir, s3Concurrency, g, func(objects []Object) error {
			mu.Lock()
			defer mu.Unlock()
			listed += len(objects)
			return nil
		})
		l.page = page
		if dir != BlobsDir {
			l.names = func(_ context.Context, prefix, after string) (names []string, more bool, err error) {
				change(1)
				time.Sleep(latency())
				change(-1)
				mu.Lock()
				s.requests++
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
					if len(names) == s3PageLength {
						return names, true, nil
					}
					name, _, _ := strings.Cut(keys.key(at)[len(prefix):], "/")
					names = append(names, prefix+name+"/")
					after = prefix + name + "/~"
				}
			}
		}
		l.start(ctx, &s3Range{})
		if err := g.Wait(); err != nil {
			t.Error(err)
		}
		s.keys, s.pages, s.took = keys.keys, (keys.keys+s3PageLength-1)/s3PageLength, time.Since(began)
		s.mean, s.busy = float64(weighted)/float64(s.took), float64(busy)/float64(s.took)
		if listed != keys.keys {
			t.Errorf("%d keys listed of %d", listed, keys.keys)
		}
	})
	return s
}

// TestListingKeepsManyUnderWay, of any shape, for a few percent more requests than pages.
// SIMULATE_KEYS sets another size, such as 6000000.
func TestListingKeepsManyUnderWay(t *testing.T) {
	t.Parallel()
	sizes := []int{200_000, 1_000_000}
	if n, err := strconv.Atoi(os.Getenv("SIMULATE_KEYS")); err == nil {
		sizes = []int{n}
	}
	for _, shape := range simulatedShapes {
		for _, n := range sizes {
			keys := shape.keys(n)
			random := rand.New(rand.NewPCG(7, 8))
			var mu sync.Mutex
			for name, latency := range map[string]func() time.Duration{
				"steady": func() time.Duration { return 20 * time.Millisecond },
				"varied": func() time.Duration {
					mu.Lock()
					defer mu.Unlock()
					return time.Duration((10 + random.ExpFloat64()*10) * float64(time.Millisecond))
				},
			} {
				s := simulate(t, shape.dir, keys, latency)
				t.Logf("%-40s %s %v", shape.name, name, s)
				// Where it is small, half a page at each end is much.
				if most := max(30, s.pages*11/200); s.requests-s.pages > most {
					t.Errorf("%s, %d keys: %d requests for %d pages", shape.name, n, s.requests, s.pages)
				}
				if n >= 1_000_000 && s.mean < shape.least {
					t.Errorf("%s, %d keys: %.1f requests under way, want %v", shape.name, n, s.mean, shape.least)
				}
			}
		}
	}
}
