package audit_test

import (
	"testing"

	"regsweep/audit"
	"regsweep/internal/imagetest"
	"regsweep/storage/storagetest"
)

// One of several images with the same layers stands for all as a base: one that is shown, or else one
// with a tag. The others have no base of their own, unless they are shown.
//
//	lib: x ← x a (twice)      app: x a b
func TestOneOfTwinsIsTheBase(t *testing.T) {
	x, a, b := imagetest.Layer(1, 10), imagetest.Layer(2, 10), imagetest.Layer(3, 10)
	twins := []*imagetest.Manifest{imagetest.Image(imagetest.OCI, x, a), imagetest.Image(imagetest.Docker, x, a)}
	for i, base := range twins { // in both orders of their digests
		for _, isShown := range []bool{false, true} {
			tree, other := storagetest.NewTree(t), twins[1-i]
			tree.Tag("lib", "x", tree.Manifest("lib", imagetest.Image(imagetest.OCI, x)))
			tree.Manifest("lib", other)
			if tree.Manifest("lib", base); isShown {
				tree.Tag("lib", "a", other.Digest())
				tree.Manifest("app", base)
			} else {
				tree.Tag("lib", "a", base.Digest())
			}
			image := imagetest.Image(imagetest.OCI, x, a, b)
			tree.Tag("app", "b", tree.Manifest("app", image))
			bases := readFacts(t, tree.Root()).Draw(0, audit.AllTags).Bases
			if len(bases) != 2 || bases[0].Image != base.Digest() || bases[0].Layers != 1 ||
				bases[1].Image != image.Digest() || bases[1].Base != base.Digest() {
				t.Errorf("shown %v: %+v", isShown, bases)
			}
		}
	}
}
