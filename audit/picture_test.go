package audit_test

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"

	"regsweep/audit"
	"regsweep/internal/audittest"
	"regsweep/internal/imagetest"
	"regsweep/inventory"
	"regsweep/storage"
	"regsweep/storage/storagetest"
)

// draw makes a picture of what REPO, REPO:TAG or REPO@DIGEST names.
func draw(t *testing.T, tree *imagetest.Tree, images string) *audit.Picture {
	t.Helper()
	facts, store := audittest.Read(t, tree.Root(), inventory.Options{})
	p, err := facts.Draw(t.Context(), images, store, 4)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// lastFirst is a store that finishes the reading of a file after that of all others.
type lastFirst struct {
	storage.Reader
	first  string
	others sync.WaitGroup
}

func (l *lastFirst) Read(ctx context.Context, path string, limit int64) ([]byte, error) {
	if path == l.first {
		l.others.Wait()
	} else {
		defer l.others.Done()
	}
	return l.Reader.Read(ctx, path, limit)
}

// Several indexes may give different platforms to a manifest. It has that of the first one in the picture, in
// whatever order they are read.
func TestPlatformsAreThoseOfTheFirstIndex(t *testing.T) {
	tree := storagetest.NewTree(t)
	image := imagetest.Image(imagetest.OCI, imagetest.Layer(1, 10))
	for tag, architecture := range map[string]string{"a": "s390x", "b": "riscv64", "c": "amd64"} {
		image.Platform.Architecture = architecture
		tree.Tag("app", tag, tree.Manifest("app", imagetest.Index(imagetest.OCI, image)))
	}
	facts, store := audittest.Read(t, tree.Root(), inventory.Options{})
	reader := &lastFirst{Reader: store, first: facts.Inventory.BlobPath(facts.Inventory.Repositories[0].Tags[0].Target)}
	reader.others.Add(2)
	p, err := facts.Draw(t.Context(), "app", reader, 3)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range p.Nodes {
		if n.Digest == image.Digest() && n.Platform != "linux/s390x" {
			t.Errorf("the platform is %q", n.Platform)
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
	p := draw(t, tree, "app")
	for _, n := range p.Nodes {
		if n.Digest == child.Digest() && (n.Kind != audit.ManifestLink || n.Pulled < 1000) {
			t.Errorf("%+v", n)
		}
	}
	edges := map[string]bool{}
	for _, e := range p.Edges {
		edge := strings.Join([]string{string(e.Kind), e.From.Digest.String(), e.To.Digest.String()}, " ")
		if edges[edge] {
			t.Errorf("the edge %s is there twice", edge)
		}
		edges[edge] = true
	}
	layer := child.Blobs[0].Digest()
	tree.Remove(imagetest.BlobPath(layer))
	tree.Mkdir(strings.TrimSuffix(imagetest.BlobPath(layer), "/data")) // a directory alone is no blob
	var out bytes.Buffer
	p = draw(t, tree, "app@"+child.Digest().String())
	if p.WriteTree(&out); len(p.Tags) != 0 || !strings.Contains(out.String(), "layer  "+audit.Short(layer)+"  not stored") {
		t.Errorf("%d tags point at an entry:\n%s", len(p.Tags), &out)
	}
	if p = draw(t, tree, "app@"+index.Digest().String()); len(p.Tags) != 1 || p.Tags[0].Name != "as-manifest" {
		t.Errorf("the tags of the index are %+v", p.Tags)
	}
	if want := "referrer " + child.Digest().String() + " " + signature.Digest().String(); !edges[want] {
		t.Errorf("there is no edge %s", want)
	}
}
