package audit_test

import (
	"bytes"
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

	facts := readFacts(t, tree.Root())
	p := facts.Draw(0, audit.AllTags)
	for at := range p.Indexes(facts) {
		p.SetPlatforms(at, index.Content)
	}
	p.Sum(facts, nil)
	var out bytes.Buffer
	p.WriteTree(&out)
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
