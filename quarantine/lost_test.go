package quarantine_test

import (
	"context"
	"crypto/rand"
	"slices"
	"testing"
	"time"

	"regsweep/internal/imagetest"
	"regsweep/quarantine"
	"regsweep/storage"

	"github.com/opencontainers/go-digest"
)

// TestNothingLinksALostBlob: the API had deleted the link of an image, and a blob of the image does not
// come back. The image is not linked again, and nobody is told to do so.
func TestNothingLinksALostBlob(t *testing.T) {
	layer := imagetest.Layer(2, 100)
	image := imagetest.Image(imagetest.OCI, layer)
	damaged := func(r *registry, run string) { r.Write(kept(run, imagetest.BlobPath(layer.Digest())), "rotten") }
	occupied := func(r *registry, _ string) { r.Write(imagetest.BlobPath(image.Digest()), "rotten") }
	linked := func(r *registry, _ string) { // by a push since the run
		r.LayerLink("app", layer.Digest())
		r.Write(imagetest.BlobPath(layer.Digest()), "rotten")
	}
	for name, test := range map[string]struct {
		lose      func(r *registry, run string)
		options   quarantine.RestoreOptions
		unlinked  digest.Digest
		notLinked []digest.Digest
	}{
		"nothing":                     {func(*registry, string) {}, quarantine.RestoreOptions{Repository: "app"}, "", []digest.Digest{image.Digest()}},
		"a layer, for the image":      {damaged, quarantine.RestoreOptions{Digest: image.Digest()}, image.Digest(), nil},
		"a layer, for the repository": {damaged, quarantine.RestoreOptions{Repository: "app"}, "", nil},
		"a layer that is linked":      {linked, quarantine.RestoreOptions{Digest: image.Digest()}, image.Digest(), nil},
		"the manifest, of everything": {occupied, quarantine.RestoreOptions{}, "", nil},
	} {
		r := newRegistry(t)
		r.live("app")
		r.Manifest("app", image)
		r.Remove(imagetest.RevisionPath("app", image.Digest())) // as the API does
		run := r.take()
		test.lose(r, run)
		restored := r.restore(run, test.options)
		if len(restored.Linked) > 0 || restored.Unlinked != test.unlinked || !slices.Equal(restored.NotLinked, test.notLinked) {
			t.Errorf("%s: %+v", name, restored)
		}
	}
}

// TestABlobComesBackFromAnOlderRun: the copy in the newer run is damaged. Nothing is left.
func TestABlobComesBackFromAnOlderRun(t *testing.T) {
	r := newRegistry(t)
	r.live("app")
	layer := imagetest.Layer(2, 100)
	r.untagged("app", layer)
	before := r.everything()
	var newest string
	for range 2 { // two runs
		r.untagged("app", layer)
		newest = max(newest, r.take()) // by name
	}
	r.Write(kept(newest, imagetest.BlobPath(layer.Digest())), "rotten")
	restored, err := quarantine.RestoreAll(t.Context(), r.store, quarantine.RestoreOptions{})
	if err != nil || restored.LeftCount > 0 || len(restored.Left) > 0 {
		t.Errorf("restored %+v, %v", restored, err)
	}
	r.same(before, "restored")
}

// TestARunThatTookDirectoriesAlone is kept, and can be restored.
func TestARunThatTookDirectoriesAlone(t *testing.T) {
	r := newRegistry(t)
	r.live("app")
	r.Mkdir("repositories/empty/_layers")
	before := r.everything()
	run := r.take()
	if r.Exists("repositories/empty") || run == "" {
		t.Fatalf("the run %q took nothing", run)
	}
	r.restore(run, quarantine.RestoreOptions{})
	r.same(before, "restored")
}

// forgetful injects a fault: its moves are made and reported as failed.
type forgetful struct{ storage.Store }

func (f forgetful) Move(ctx context.Context, moves []storage.Move) []storage.Outcome {
	outcomes := f.Store.Move(ctx, moves)
	for i := range outcomes {
		outcomes[i].Err = errFails
	}
	return outcomes
}

// TestAMoveThatIsReportedAsFailed and was made all the same: the run keeps its plan.
func TestAMoveThatIsReportedAsFailed(t *testing.T) {
	r := newRegistry(t)
	path := imagetest.BlobPath(r.Blob([]byte("garbage")))
	refs := planOf{{Path: path}}
	taker, err := quarantine.Begin(t.Context(), forgetful{r.store}, refs, time.Now(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	taker.Remove(t.Context(), refs)
	if err := taker.End(t.Context()); err != nil || !r.Exists(kept(taker.Run, path)) || !r.Exists(kept(taker.Run, "plan.jsonl")) {
		t.Errorf("the run %q ends with %v", taker.Run, err)
	}
}
