package imagetest_test

import (
	"slices"
	"testing"

	"regsweep/internal/imagetest"
)

func TestContentIsDeterministicAndShared(t *testing.T) {
	make := func(own uint64) *imagetest.Manifest {
		return imagetest.Image(imagetest.OCI, imagetest.Layer(1, 5000), imagetest.Layer(own, 300))
	}
	app, again, job := make(2), make(2), make(3)
	if app.Digest() != again.Digest() {
		t.Error("the same layers make two images")
	}
	if app.Digest() == job.Digest() {
		t.Error("different layers make one image")
	}
	if !slices.Contains(app.Digests(), imagetest.Layer(1, 5000).Digest()) ||
		!slices.Contains(job.Digests(), imagetest.Layer(1, 5000).Digest()) {
		t.Error("the images do not share their base")
	}
}
