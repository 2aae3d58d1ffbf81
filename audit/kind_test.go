package audit_test

import (
	"testing"
	"time"

	"regsweep/audit"
	"regsweep/internal/imagetest"
	"regsweep/inventory"
	"regsweep/mark"
	"regsweep/storage"
	"regsweep/storage/filesystem"
	"regsweep/storage/storagetest"

	"github.com/opencontainers/go-digest"
)

// readFacts reads a registry on a filesystem as an audit does.
func readFacts(t *testing.T, root string) audit.Facts {
	t.Helper()
	store := storagetest.MustOpen(t)(filesystem.Open(root, storage.Limits{}))
	inv, err := inventory.Take(t.Context(), store, inventory.Options{Sizes: true, TagTimes: true})
	if err != nil {
		t.Fatal(err)
	}
	graph, err := mark.Read(t.Context(), inv, store, mark.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	live, err := graph.Live(t.Context(), mark.Roots{})
	if err == nil {
		live, err = live.CheckLinks(t.Context(), store, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	return audit.Facts{Inventory: inv, Graph: graph, Live: live, Now: time.Now()}
}

// The kind of a blob is that of the manifests that refer to it. What an image needs counts as a part of
// the image, also if a signature refers to it too.
func TestKinds(t *testing.T) {
	tree := storagetest.NewTree(t)
	image := imagetest.Image(imagetest.OCI, imagetest.Layer(1, 10))
	attestation := imagetest.Image(imagetest.OCI, imagetest.Blob{MediaType: "application/vnd.in-toto+json", Content: []byte("provenance")})
	chart := imagetest.Image(imagetest.OCI, imagetest.Blob{MediaType: "application/vnd.cncf.helm.chart.content.v1.tar+gzip", Content: []byte("chart")})
	damaged := imagetest.Image(imagetest.OCI)
	index := imagetest.Index(imagetest.OCI, image, attestation, damaged)
	signature := imagetest.Referrer(index, "application/vnd.dev.cosign.artifact.sig.v1+json", []byte("signature"))
	sbom := imagetest.Referrer(index, "application/spdx+json", imagetest.Layer(1, 10).Content) // in truth the layer
	cache := imagetest.BuildKitCache(imagetest.Layer(2, 10))
	for tag, m := range map[string]*imagetest.Manifest{"v1": index, "chart": chart, "cache": cache} {
		tree.Tag("app", tag, tree.Manifest("app", m))
	}
	tree.Manifest("app", signature)
	tree.Manifest("app", sbom)
	tree.Write(imagetest.BlobPath(damaged.Digest()), "damaged")
	loose := tree.Blob([]byte("no manifest refers to it"))

	want := map[digest.Digest]audit.Kind{
		image.Digest(): audit.Manifest, index.Digest(): audit.Manifest, damaged.Digest(): audit.Manifest,
		imagetest.Layer(1, 10).Digest(): audit.Layer, image.Blobs[1].Digest(): audit.Config,
		attestation.Digest(): audit.Attestation, attestation.Blobs[0].Digest(): audit.Attestation, attestation.Blobs[1].Digest(): audit.Attestation,
		chart.Digest(): audit.Chart, chart.Blobs[0].Digest(): audit.Chart,
		cache.Digest(): audit.BuildCache, cache.Blobs[0].Digest(): audit.BuildCache, cache.Blobs[1].Digest(): audit.BuildCache,
		signature.Digest(): audit.Signature, signature.Blobs[1].Digest(): audit.Signature, sbom.Digest(): audit.Signature,
		loose: audit.Unknown,
	}
	bill, err := audit.New(t.Context(), readFacts(t, tree.Root()), 100)
	if err != nil {
		t.Fatal(err)
	}
	sizes := map[audit.Kind]int64{}
	for _, blob := range bill.Blobs {
		if kind, isKnown := want[blob.Digest]; isKnown && blob.Kind != kind {
			t.Errorf("%s is of kind %s, want %s", blob.Digest, blob.Kind, kind)
		}
		delete(want, blob.Digest)
		sizes[blob.Kind] += blob.Bytes
	}
	for d, kind := range want {
		t.Errorf("there is no %s of kind %s", d, kind)
	}
	for _, k := range bill.Kinds {
		if k.Bytes != sizes[k.Kind] {
			t.Errorf("the kind %s has %d bytes, and its blobs %d", k.Kind, k.Bytes, sizes[k.Kind])
		}
	}
}

// The largest blobs come first, and name those who hold them.
func TestLargestBlobs(t *testing.T) {
	tree := storagetest.NewTree(t)
	shared, own := imagetest.Layer(1, 3000), imagetest.Layer(2, 2000)
	for _, name := range []string{"team/a", "team/b"} {
		tree.Tag(name, "v1", tree.Manifest(name, imagetest.Image(imagetest.OCI, shared)))
	}
	tree.Tag("team/c", "v1", tree.Manifest("team/c", imagetest.Image(imagetest.OCI, own, shared)))
	bill, err := audit.New(t.Context(), readFacts(t, tree.Root()), 2)
	if err != nil {
		t.Fatal(err)
	}
	if len(bill.Blobs) != 2 || bill.Blobs[0].Digest != shared.Digest() || bill.Blobs[1].Digest != own.Digest() {
		t.Fatalf("the largest are %+v", bill.Blobs)
	}
	if b := bill.Blobs[0]; b.Repositories != 3 || b.Manifests != 2 || len(b.Holders) != 3 || b.Holders[2] != "team/c" {
		t.Errorf("the largest is %+v", b)
	}
}

// A comparison has what grew, what shrank, what came and what went, and nothing else.
func TestCompare(t *testing.T) {
	before := []audit.Repository{{Name: "gone", Bytes: 5}, {Name: "same", Bytes: 7, Tags: 1}, {Name: "shrunk", Bytes: 9, Unique: 9}}
	after := []audit.Repository{{Name: "new", Bytes: 4, Tags: 2}, {Name: "same", Bytes: 7, Tags: 1}, {Name: "shrunk", Bytes: 8, Unique: 8}}
	since := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	got := audit.Compare(since, audit.Bytes{Total: 21, Garbage: 3}, audit.Bytes{Total: 19, Garbage: 4}, before, after)
	want := []audit.Change{
		{Name: "new", Tags: 2, Bytes: 4, Is: "new"}, {Name: "shrunk", Bytes: -1, Unique: -1}, {Name: "gone", Bytes: -5, Is: "gone"},
	}
	if len(got.Repositories) != len(want) || got.Bytes != (audit.Bytes{Total: -2, Garbage: 1}) {
		t.Fatalf("%+v", got)
	}
	for i := range want {
		if got.Repositories[i] != want[i] {
			t.Errorf("got %+v, want %+v", got.Repositories[i], want[i])
		}
	}
}
