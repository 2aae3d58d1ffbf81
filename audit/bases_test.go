package audit_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"regsweep/audit"
	"regsweep/internal/imagetest"
	"regsweep/storage/storagetest"

	"github.com/opencontainers/go-digest"
)

// One of several images with the same layers stands for all as a base: one that is shown, or else one that the
// shown repository links, or else one with a tag. The others have no base of their own, unless they are shown.
//
//	lib: x ← x a (twice)      app: x a b
func TestOneOfTwinsIsTheBase(t *testing.T) {
	x, a, b := imagetest.Layer(1, 10), imagetest.Layer(2, 10), imagetest.Layer(3, 10)
	twins := []*imagetest.Manifest{imagetest.Image(imagetest.OCI, x, a), imagetest.Image(imagetest.Docker, x, a)}
	image := imagetest.Image(imagetest.OCI, x, a, b)
	for i, base := range twins { // in both orders of their digests
		other := twins[1-i]
		for name, c := range map[string]struct {
			images string // what is shown
			put    func(tree *imagetest.Tree)
		}{
			"a tag": {"app", func(tree *imagetest.Tree) {
				tree.Tag("lib", "a", base.Digest())
			}},
			"a link here, and no tag": {"app:b", func(tree *imagetest.Tree) {
				tree.Manifest("app", base)
				tree.Tag("lib", "a", other.Digest())
			}},
			"shown, and no link": {"app", func(tree *imagetest.Tree) {
				tree.Manifest("app", imagetest.Index(imagetest.OCI, base))
				tree.Remove(imagetest.RevisionPath("app", base.Digest()))
				tree.Tag("lib", "a", other.Digest())
			}},
			"shown, and the other has a link": {"app:index", func(tree *imagetest.Tree) {
				tree.Tag("app", "index", tree.Manifest("app", imagetest.Index(imagetest.OCI, base)))
				tree.Remove(imagetest.RevisionPath("app", base.Digest()))
				tree.Manifest("app", other)
				tree.Tag("app", "a", other.Digest())
			}},
		} {
			tree := storagetest.NewTree(t)
			tree.Tag("lib", "x", tree.Manifest("lib", imagetest.Image(imagetest.OCI, x)))
			tree.Manifest("lib", twins[0])
			tree.Manifest("lib", twins[1])
			tree.Tag("app", "b", tree.Manifest("app", image))
			c.put(tree)
			bases := draw(t, tree, c.images).Bases
			if len(bases) != 2 || bases[0].Image != base.Digest() || bases[0].Layers != 1 ||
				bases[1].Image != image.Digest() || bases[1].Base != base.Digest() {
				t.Errorf("%s: %+v", name, bases)
			}
		}
	}
}

// A picture has the images of all repositories whose next base is shown, but no others. An untagged image has the
// name of a repository that links it.
//
//	base: x, x a      app: x a b (also aaa:z), x a c (twice, untagged), x a b d      other: y, x e
func TestImagesOfOtherRepositoriesHaveABase(t *testing.T) {
	layer := func(name byte) imagetest.Blob { return imagetest.Layer(uint64(name), 10) }
	tree := storagetest.NewTree(t)
	put := func(repository, tag string, m *imagetest.Manifest) digest.Digest {
		if tree.Manifest(repository, m); tag != "" {
			tree.Tag(repository, tag, m.Digest())
		}
		return m.Digest()
	}
	x, a, b, c := layer('x'), layer('a'), layer('b'), layer('c')
	put("base", "x", imagetest.Image(imagetest.OCI, x))
	put("base", "a", imagetest.Image(imagetest.OCI, x, a))
	put("app", "b", imagetest.Image(imagetest.OCI, x, a, b))
	put("aaa", "z", imagetest.Image(imagetest.OCI, x, a, b))
	untagged := put("app", "", imagetest.Image(imagetest.OCI, x, a, c))
	twin := put("app", "", imagetest.Image(imagetest.Docker, x, a, c))
	put("app", "d", imagetest.Image(imagetest.OCI, x, a, b, layer('d')))
	put("other", "y", imagetest.Image(imagetest.OCI, layer('y')))
	put("other", "e", imagetest.Image(imagetest.OCI, x, layer('e')))
	for images, want := range map[string][]string{
		"base":                 {"x <- a <- aaa:z, app:b", "x <- a <- app@" + audit.Short(untagged), "x <- a <- app@" + audit.Short(twin), "x <- other:e"},
		"base:x":               {"x <- a", "x <- other:e"},
		"app":                  {"base:x <- base:a <- b, aaa:z <- d", "base:x <- base:a <- " + audit.Short(untagged), "base:x <- base:a <- " + audit.Short(twin)},
		"app:b":                {"base:x <- base:a <- b, aaa:z <- d"},
		"app@" + twin.String(): {"base:x <- base:a <- " + audit.Short(twin)},
		"other:y":              nil,
	} {
		var out bytes.Buffer
		draw(t, tree, images).WriteTree(&out)
		_, bases, _ := strings.Cut(out.String(), "\nBased on, the base first\n")
		slices.Sort(want)
		if got := strings.Fields(strings.ReplaceAll(bases, " <- ", "<-")); !slices.Equal(got, strings.Fields(strings.ReplaceAll(strings.Join(want, "\n"), " <- ", "<-"))) {
			t.Errorf("%s: got\n%s\nwant\n  %s", images, bases, strings.Join(want, "\n  "))
		}
	}
}

// The tree names fifty images that are based on others. The picture has all.
func TestTheTreeNamesFiftyBases(t *testing.T) {
	tree := storagetest.NewTree(t)
	base := imagetest.Layer(0, 10)
	tree.Tag("base", "x", tree.Manifest("base", imagetest.Image(imagetest.OCI, base)))
	for seed := range uint64(60) {
		tree.Manifest("app", imagetest.Image(imagetest.OCI, base, imagetest.Layer(seed+1, 10)))
	}
	var out bytes.Buffer
	p := draw(t, tree, "base")
	p.WriteTree(&out)
	if n := strings.Count(out.String(), "\n  x <- app@sha256:"); n != 50 || len(p.Bases) != 60 || !strings.HasSuffix(out.String(), "\n  and 10 more: see --json\n") {
		t.Errorf("%d of %d bases:\n%s", n, len(p.Bases), &out)
	}
}

// The tree names all images that are shown, also if it leaves out others that are based on them. The names of the
// others sort before those of the shown ones here.
func TestTheTreeNamesTheBasesOfAllShownImages(t *testing.T) {
	tree := storagetest.NewTree(t)
	x, y := imagetest.Layer(0, 10), imagetest.Layer(1, 10)
	tree.Tag("z", "x", tree.Manifest("z", imagetest.Image(imagetest.OCI, x)))
	tree.Tag("z", "y", tree.Manifest("z", imagetest.Image(imagetest.OCI, y)))
	for seed := range uint64(60) {
		tree.Manifest("a", imagetest.Image(imagetest.OCI, x, imagetest.Layer(seed+2, 10)))
		tree.Manifest("z", imagetest.Image(imagetest.OCI, y, imagetest.Layer(seed+2, 10)))
	}
	for images, want := range map[string][3]int{"z": {1, 60, 59}, "z:x": {50, 0, 10}} {
		var out bytes.Buffer
		draw(t, tree, images).WriteTree(&out)
		onX, onY := strings.Count(out.String(), "\n  x <- a@sha256:"), strings.Count(out.String(), "\n  y <- sha256:")
		if onX != want[0] || onY != want[1] || !strings.HasSuffix(out.String(), fmt.Sprintf("\n  and %d more: see --json\n", want[2])) {
			t.Errorf("%s: %d images are based on x, and %d on y:\n%s", images, onX, onY, &out)
		}
	}
}
