package s3

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"

	"regsweep/storage"
)

// keySpace is the keys of a bucket, in order. A key is made when it is listed: a million keys would
// take much memory.
type keySpace struct {
	stretches []keyStretch
	keys      int
}

// keyStretch is a run of keys that have a prefix in common, and go on with digests or with names.
type keyStretch struct {
	prefix  string
	first   int
	digests []uint64 // the first 16 digits; the rest follows from them
	blobs   bool     // the path repeats two digits
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

func (k *keySpace) len() int { return k.keys }

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

// The registry is at the root of its bucket.
const simulatedPrefix, simulatedRepositories = storage.Root + "/", storage.Root + "/" + storage.RepositoriesDir + "/"

// repositorySpace has repositories with so many keys each. Six in eight are layers, and one in eight
// is a tag.
func repositorySpace(sizes map[string]int) *keySpace {
	random := rand.New(rand.NewPCG(3, 4))
	k := &keySpace{}
	var sorted []string
	for name := range sizes {
		sorted = append(sorted, name+"/")
	}
	slices.Sort(sorted)
	for _, name := range sorted {
		n, prefix := sizes[name[:len(name)-1]], simulatedRepositories+name
		tags := n / 16 // each has a current link and one in its index
		k.add(keyStretch{prefix: prefix + "_layers/sha256/", digests: randomDigests(random, n-n/8-2*tags)})
		k.add(keyStretch{prefix: prefix + "_manifests/revisions/sha256/", digests: randomDigests(random, n/8)})
		var links []string
		for i := range tags {
			links = append(links, fmt.Sprintf("v%d/current/link", i), fmt.Sprintf("v%d/index/sha256/%016x/link", i, random.Uint64()))
		}
		k.add(keyStretch{prefix: prefix + "_manifests/tags/", names: links})
	}
	return k
}

// equal has repositories of the same size.
func equal(size int, name func(i int) string) func(n int) *keySpace {
	return sized(name, func(*rand.Rand, int, int) int { return size })
}

// sized has as many repositories as n keys need.
func sized(name func(i int) string, size func(random *rand.Rand, i, n int) int) func(n int) *keySpace {
	return func(n int) *keySpace {
		random := rand.New(rand.NewPCG(5, 6))
		sizes := map[string]int{}
		for i, left := 0, n; left > 0; i++ {
			sizes[name(i)] = min(left, size(random, i, n))
			left -= sizes[name(i)]
		}
		return repositorySpace(sizes)
	}
}

// naming is a way to name the i-th repository.
func naming(format string, parts ...func(i int) any) func(i int) string {
	return func(i int) string {
		var values []any
		for _, part := range parts {
			values = append(values, part(i))
		}
		return fmt.Sprintf(format, values...)
	}
}

func counted(i int) any { return i }

func team(teams int) func(i int) any { return func(i int) any { return i % teams } }

// word is one of fourteen words, by a digit of i.
func word(digit int) func(i int) any {
	words := strings.Fields("alpine api base cache db edge front go java node proxy web worker zk")
	return func(i int) any { return words[i/int(math.Pow(float64(len(words)), float64(digit)))%len(words)] }
}

// simulatedShapes are registries of about n keys, with the directory that is listed.
var simulatedShapes = []struct {
	name, dir string
	keys      func(n int) *keySpace
}{
	{"blobs", storage.BlobsDir, func(n int) *keySpace {
		k := &keySpace{}
		k.add(keyStretch{prefix: simulatedPrefix + storage.BlobsDir + "/sha256/", digests: randomDigests(rand.New(rand.NewPCG(1, 2)), n), blobs: true})
		return k
	}},
	{"layers of one repository", storage.RepositoriesDir, layersOfOne},
	{"one repository", storage.RepositoriesDir, func(n int) *keySpace { return repositorySpace(map[string]int{"big": n}) }},
	{"seven repositories", storage.RepositoriesDir, func(n int) *keySpace { return equal(n/7, naming("library/%s", word(0)))(n) }},
	{"300 repositories", storage.RepositoriesDir, func(n int) *keySpace { return equal(n/300, naming("team-%02d/service-%03d", team(30), counted))(n) }},
	{"repositories large and small", storage.RepositoriesDir, sized(naming("%s/svc-%d", word(0), counted),
		func(_ *rand.Rand, i, n int) int { return max(20, n/(6*(i+1))) })},
	{"a giant among small ones", storage.RepositoriesDir, sized(naming("team%02d/app%05d", team(17), counted),
		func(_ *rand.Rand, i, n int) int { return 60 + n/2*max(0, 1-max(i-7, 7-i)) })},
	{"five giants among small ones", storage.RepositoriesDir, sized(naming("team%02d/app%05d", team(17), counted),
		func(_ *rand.Rand, i, n int) int { return 40 + n/7*max(0, 1-i/5) })},
	{"60 keys each, in teams", storage.RepositoriesDir, equal(60, naming("team%02d/app%05d", team(17), counted))},
	{"60 keys each, of words", storage.RepositoriesDir, equal(60, naming("%s/%s-%s%d", word(0), word(1), word(2), counted))},
	{"60 keys each, deep below one prefix", storage.RepositoriesDir, equal(60, naming("mirror/registry.example.com/production/team/service-%d/app", counted))},
	{"60 keys on average, in teams", storage.RepositoriesDir, sized(naming("team%02d/app%05d", team(17), counted),
		func(random *rand.Rand, _, _ int) int { return 5 + int(55*math.Exp(2*random.NormFloat64()-2)) })},
	{"10 keys each, counted", storage.RepositoriesDir, equal(10, naming("app%07d", counted))},
	{"10 keys each, in 300 teams", storage.RepositoriesDir, equal(10, naming("team%03d/app%05d", team(300), counted))},
	{"10 keys each, digits", storage.RepositoriesDir, equal(10, naming("%016x", func(i int) any { return uint64(i) * 0x9E3779B97F4A7C15 }))},
	{"tags of builds", storage.RepositoriesDir, func(n int) *keySpace {
		var tags []string
		for i := range n {
			tags = append(tags, fmt.Sprintf("build-2026-%02d-%02d-%d/current/link", i%12+1, i%28+1, i))
		}
		k := &keySpace{}
		k.add(keyStretch{prefix: simulatedRepositories + "ci/app/_manifests/tags/", names: tags})
		return k
	}},
}

func layersOfOne(n int) *keySpace {
	k := &keySpace{}
	k.add(keyStretch{prefix: simulatedRepositories + "big/_layers/sha256/", digests: randomDigests(rand.New(rand.NewPCG(3, 4)), n)})
	return k
}
