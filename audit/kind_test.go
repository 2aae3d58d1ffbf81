package audit_test

import (
	"testing"

	"regsweep/audit"
	"regsweep/internal/audittest"
	"regsweep/internal/imagetest"
	"regsweep/storage/storagetest"

	"github.com/opencontainers/go-digest"
)

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
	facts, _ := audittest.Read(t, tree.Root(), audittest.Bill)
	bill, err := audit.New(t.Context(), facts, 100)
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
