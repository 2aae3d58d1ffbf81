package generate

import (
	"fmt"
	"math/rand/v2"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Shape says how large a registry is and of what it is made. Shares are between 0
// and 1.
type Shape struct {
	Repositories int
	Releases     int // of each repository, on average
	Layers       int // that an image has to itself, on average; others it shares

	Indexes  float64 // share of releases that have two to four platforms
	Untagged float64 // share of releases whose tag has moved on
	Deleted  float64 // share of releases deleted through the API
	Signed   float64 // share of releases with a referrer
	Promoted float64 // share of tagged releases that are pushed to a second repository
	Orphans  int     // blobs for each repository that nothing links
}

// Many is a registry as a company has one, many repositories with releases of several
// platforms: 200 of them are some 90,000 blobs in 216,000 files.
func Many(repositories int) Shape {
	return Shape{
		Repositories: repositories, Releases: 36, Layers: 3,
		Indexes: 0.6, Untagged: 0.12, Deleted: 0.06, Signed: 0.5, Promoted: 0.15, Orphans: 10,
	}
}

// Neglected is the same after its owners have deleted much of it and never collected:
// of 200 repositories' blobs some 25,000 can go.
func Neglected(repositories int) Shape {
	s := Many(repositories)
	s.Deleted = 0.275
	return s
}

// Deep is a registry of fewer manifests with more layers each: 25 repositories are
// some 23,000 objects with 1,600 manifests among them.
func Deep(repositories int) Shape {
	s := Many(repositories)
	s.Releases, s.Layers = 21, 6
	return s
}

type generator struct {
	registry *Registry
	random   *rand.Rand
	seed     uint64
	serial   int // makes content new

	bases [][][]ocispec.Descriptor // layers by base image and platform
}

// New makes a registry of a shape.
func New(seed uint64, shape Shape) *Registry {
	g := newGenerator(seed)
	for i := range shape.Repositories {
		g.registry.repositories = append(g.registry.repositories, &repository{name: repositoryName(i)})
	}
	for i := range g.registry.repositories {
		g.fill(i, shape)
	}
	return g.registry
}

// NewRepository makes a registry of one repository with so many tagged and untagged
// images of one platform, in turn.
func NewRepository(seed uint64, tags, untagged int) *Registry {
	g := newGenerator(seed)
	repo := &repository{name: "team/service"}
	g.registry.repositories = []*repository{repo}
	for i := range tags + untagged {
		image := g.image(i%3 == 0, platforms[0], g.onBase(g.bases[0][0], 2))
		repo.push(image)
		// The untagged ones are spread evenly among the tagged.
		if (i+1)*untagged/(tags+untagged) == i*untagged/(tags+untagged) {
			repo.tag(fmt.Sprintf("build-%05d", i), image)
		}
	}
	return g.registry
}

const (
	baseImages = 12
	baseLayers = 4
)

func newGenerator(seed uint64) *generator {
	g := &generator{
		registry: &Registry{stored: map[digest.Digest]bool{}},
		random:   rand.New(rand.NewPCG(seed, 0)),
		seed:     seed,
	}
	for range baseImages {
		var byPlatform [][]ocispec.Descriptor
		for range platforms {
			byPlatform = append(byPlatform, g.layers(baseLayers))
		}
		g.bases = append(g.bases, byPlatform)
	}
	return g
}

// repositoryName is a name like those that people give; every eighth lies in the
// directory of the one before.
func repositoryName(i int) string {
	if i%8 == 7 {
		return repositoryName(i-1) + "/worker"
	}
	return fmt.Sprintf("team-%02d/service-%03d", i/10, i)
}

func (g *generator) chance(share float64) bool { return g.random.Float64() < share }

// about is a number between half and one and a half of n, and at least 1.
func (g *generator) about(n int) int { return max(1, n/2+g.random.IntN(n+1)) }

func (g *generator) layers(n int) []ocispec.Descriptor {
	var layers []ocispec.Descriptor
	for range n {
		layers = append(layers, g.layer())
	}
	return layers
}

// onBase are a base's layers and n new ones.
func (g *generator) onBase(base []ocispec.Descriptor, n int) []ocispec.Descriptor {
	return append(append([]ocispec.Descriptor{}, base...), g.layers(n)...)
}

// fill pushes releases to a repository, and does with them what people do.
func (g *generator) fill(number int, shape Shape) {
	repo := g.registry.repositories[number]
	base := g.bases[g.random.IntN(len(g.bases))]
	docker := g.chance(0.3)
	var all []*manifest // the releases so far, gone ones too
	var last *manifest  // the last that is tagged
	for i := range g.about(shape.Releases) {
		release := g.release(base, docker, shape)
		repo.push(release)
		pushed := []*manifest{release}
		if g.chance(shape.Signed) {
			signature := g.signature(release)
			repo.push(signature)
			pushed = append(pushed, signature)
		}
		all = append(all, release)
		switch {
		case i > 0 && g.chance(shape.Deleted):
			for _, m := range pushed {
				repo.remove(m)
			}
		case i > 0 && g.chance(shape.Untagged):
		default:
			last = release
			repo.tag(fmt.Sprintf("1.%d.0", i), release)
			if g.chance(shape.Promoted) {
				g.promote(number, release, fmt.Sprintf("from-%d-1.%d.0", number, i))
			}
		}
	}
	if last != nil {
		repo.tag("latest", append(all, last)...)
	}
	for range shape.Orphans {
		g.layer()
	}
}

// release is an image, or an index of images, of layers that are new to all of them
// or to each.
func (g *generator) release(base [][]ocispec.Descriptor, docker bool, shape Shape) *manifest {
	if !g.chance(shape.Indexes) {
		return g.image(docker, platforms[0], g.onBase(base[0], g.about(shape.Layers)))
	}
	var images []*manifest
	shared := g.layer()
	for i := range 2 + g.random.IntN(len(platforms)-1) {
		layers := append(g.onBase(base[i], g.about(shape.Layers)), shared)
		images = append(images, g.image(docker, platforms[i], layers))
	}
	return g.index(docker, images)
}

// promote pushes a release to another repository, as pipelines do.
func (g *generator) promote(number int, release *manifest, name string) {
	others := g.registry.repositories
	if len(others) == 1 {
		return
	}
	to := others[(number+1+g.random.IntN(len(others)-1))%len(others)]
	to.push(release)
	to.tag(name, release)
}
