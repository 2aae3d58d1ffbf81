package audit_test

import (
	"encoding/json"
	"strings"
	"testing"

	"regsweep/audit"
	"regsweep/internal/imagetest"
	"regsweep/storage/storagetest"

	"github.com/opencontainers/go-digest"
)

// Two indexes may give different platforms to a manifest. It has that of the first one in the picture, in
// whatever order they are read.
func TestPlatformsAreThoseOfTheFirstIndex(t *testing.T) {
	tree := storagetest.NewTree(t)
	image := imagetest.Image(imagetest.OCI, imagetest.Layer(1, 10))
	content := map[digest.Digest][]byte{}
	for tag, architecture := range map[string]string{"a": "s390x", "b": "riscv64", "c": "amd64"} {
		image.Platform.Architecture = architecture
		index := imagetest.Index(imagetest.OCI, image)
		content[index.Digest()] = index.Content
		tree.Tag("app", tag, tree.Manifest("app", index))
	}
	facts := readFacts(t, tree.Root())
	for _, order := range [][]int{{0, 1, 2}, {2, 1, 0}, {1, 0, 2}} {
		p := facts.Draw(0, audit.AllTags)
		indexes := p.Indexes(facts)
		for _, at := range order {
			p.SetPlatforms(at, content[facts.Inventory.Digest(indexes[at])])
		}
		p.Sum(facts, nil)
		for _, n := range p.Nodes {
			if n.Digest == image.Digest() && n.Platform != "linux/s390x" {
				t.Errorf("in the order %v the platform is %q", order, n.Platform)
			}
		}
	}
}

// A manifest has the pull of an image also without a revision link, and a digest that is reached both as
// content and as a manifest has each edge once.
func TestAManifestThatOnlyAnIndexNames(t *testing.T) {
	tree := storagetest.NewTree(t)
	child := imagetest.Image(imagetest.OCI, imagetest.Layer(1, 1000))
	signature := imagetest.Referrer(child, "application/vnd.dev.cosign.artifact.sig.v1+json", []byte("signature"))
	asLayer := child.Descriptor()
	asLayer.MediaType = "application/vnd.oci.image.layer.v1.tar+gzip"
	index := imagetest.Index(imagetest.OCI, child)
	tree.Manifest("app", index)
	tree.Manifest("app", signature)
	tree.Remove(imagetest.RevisionPath("app", child.Digest()))
	content, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": index.MediaType, "manifests": []any{asLayer}})
	if err != nil {
		t.Fatal(err)
	}
	tree.Tag("app", "as-layer", tree.Manifest("app", &imagetest.Manifest{Content: content}))
	tree.Tag("app", "as-manifest", index.Digest())
	facts := readFacts(t, tree.Root())
	p := facts.Draw(0, audit.AllTags)
	p.Sum(facts, nil)
	for _, n := range p.Nodes {
		if n.Digest == child.Digest() && (n.Kind != audit.ManifestLink || n.Pulled < 1000) {
			t.Errorf("%+v", n)
		}
	}
	edges := map[string]bool{}
	for _, e := range p.Edges {
		edge := strings.Join([]string{string(e.Kind), e.From.String(), e.To.String()}, " ")
		if edges[edge] {
			t.Errorf("the edge %s is there twice", edge)
		}
		edges[edge] = true
	}
	if want := "referrer " + child.Digest().String() + " " + signature.Digest().String(); !edges[want] {
		t.Errorf("there is no edge %s", want)
	}
}
