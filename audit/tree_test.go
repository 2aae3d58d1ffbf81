package audit_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"regsweep/audit"
	"regsweep/internal/imagetest"
	"regsweep/storage/storagetest"

	"github.com/opencontainers/go-digest"
)

// The tree says which manifest is damaged, what is not stored, and where the content of a sha512 digest is.
// An attestation has no platform.
func TestTree(t *testing.T) {
	tree := storagetest.NewTree(t)
	image := imagetest.Image(imagetest.OCI, imagetest.Blob{Algorithm: digest.SHA512, Content: []byte("layer")})
	attestation := imagetest.Image(imagetest.OCI, imagetest.Blob{MediaType: "application/vnd.in-toto+json", Content: []byte("provenance")})
	attestation.Platform.OS, attestation.Platform.Architecture = "unknown", "unknown"
	damaged, missing := imagetest.Image(imagetest.Docker), imagetest.Image(imagetest.OCI)
	missing.Platform.Architecture = "arm64"
	index := imagetest.Index(imagetest.OCI, image, attestation, damaged, missing)
	tree.Tag("app", "v1", tree.Manifest("app", index))
	for i := range 11 {
		tree.Tag("app", fmt.Sprintf("w%02d", i), index.Digest())
	}
	tree.TagIndex("app", "old", damaged.Digest())
	tree.Write(imagetest.BlobPath(damaged.Digest()), "damaged")
	tree.Remove(strings.TrimSuffix(imagetest.BlobPath(missing.Digest()), "/data"))
	tree.Remove(imagetest.RevisionPath("app", missing.Digest()))

	var out bytes.Buffer
	draw(t, tree, "app").WriteTree(&out)
	got := regexp.MustCompile(`[\d.]+ (B|KiB)`).ReplaceAllString(out.String(), "SIZE")
	for name, of := range map[string]digest.Digest{
		"IMAGE": image.Digest(), "CONFIG": image.Blobs[1].Digest(), "SHA512": image.Blobs[0].Digest(), "LAYER": digest.FromBytes([]byte("layer")),
		"ATTESTATION": attestation.Digest(), "OTHER": attestation.Blobs[1].Digest(), "PROVENANCE": attestation.Blobs[0].Digest(),
		"DAMAGED": damaged.Digest(), "MISSING": missing.Digest(), "INDEX": index.Digest(),
	} {
		got = strings.ReplaceAll(got, audit.Short(of), name)
	}
	want := `app: 13 tags, SIZE in 8 blobs
├─ old → linux/amd64  manifest  DAMAGED  SIZE  damaged
└─ v1, w00, w01, w02, w03, w04, w05, w06, w07, w08, … → index  INDEX  SIZE
   ├─ linux/amd64  manifest  IMAGE  SIZE
   │  ├─ config  CONFIG  SIZE
   │  └─ layer  SHA512  alias
   │     └─ blob  LAYER  SIZE
   ├─ attestation manifest  ATTESTATION  SIZE
   │  ├─ config  OTHER  SIZE
   │  └─ layer  PROVENANCE  SIZE
   ├─ linux/amd64  manifest  DAMAGED  SIZE  damaged
   └─ linux/arm64  manifest  MISSING  not stored
old has no current link
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// An untagged manifest is at the top of the tree if none above it leads to it. A cycle of untagged manifests is
// there once.
//
//	I ⇄ S → J           S is an index with the entries I and J, and a referrer of I
//	K → six images      K is an index
func TestTreeOfUntaggedManifests(t *testing.T) {
	tree := storagetest.NewTree(t)
	i, j := imagetest.Image(imagetest.OCI), imagetest.Image(imagetest.Docker)
	content, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
		"manifests": []any{i.Descriptor(), j.Descriptor()}, "subject": i.Descriptor(),
	})
	if err != nil {
		t.Fatal(err)
	}
	tree.Manifest("app", &imagetest.Manifest{Content: content, Manifests: []*imagetest.Manifest{i, j}})
	var images []*imagetest.Manifest
	for seed := range uint64(6) {
		images = append(images, imagetest.Image(imagetest.OCI, imagetest.Layer(seed, 10)))
	}
	tree.Manifest("app", imagetest.Index(imagetest.OCI, images...))
	var out bytes.Buffer
	draw(t, tree, "app").WriteTree(&out)
	top := regexp.MustCompile(`(?m)^[├└]`).FindAllString(out.String(), -1)
	if blob := regexp.MustCompile(`(?:config|layer).*untagged`).FindString(out.String()); blob != "" {
		t.Errorf("only a manifest can be untagged, and not %s", blob)
	}
	if n := strings.Count(out.String(), audit.Short(j.Digest())); len(top) != 2 || n != 1 {
		t.Errorf("%d manifests are at the top, and J is there %d times:\n%s", len(top), n, &out)
	}
}
