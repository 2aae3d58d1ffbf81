package audit_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
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

// nodeOf returns the only node of a manifest.
func nodeOf(t *testing.T, p *audit.Picture, m *imagetest.Manifest) (found *audit.Node) {
	t.Helper()
	for _, n := range p.Nodes {
		if n.Digest != m.Digest() {
			continue
		}
		if found != nil {
			t.Fatalf("%s has two nodes", m.Digest())
		}
		found = n
	}
	if found == nil {
		t.Fatalf("%s has no node", m.Digest())
	}
	return found
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
	if n := nodeOf(t, p, image); n.Platform != "linux/s390x" {
		t.Errorf("the platform is %q", n.Platform)
	}
}

// An index that is gone when it is read again gives no platforms. Any other error of the storage is returned.
func TestAnIndexIsGoneBeforePlatformsAreRead(t *testing.T) {
	tree := storagetest.NewTree(t)
	image := imagetest.Image(imagetest.OCI)
	index := imagetest.Index(imagetest.OCI, image)
	tree.Tag("app", "v1", tree.Manifest("app", index))
	facts, store := audittest.Read(t, tree.Root(), inventory.Options{})
	failed, path := errors.New("failed"), imagetest.BlobPath(index.Digest())
	for _, reader := range []failing{{store, path, failed, nil}, {store, path, nil, failed}} {
		if _, err := facts.Draw(t.Context(), "app", reader, 1); !errors.Is(err, failed) {
			t.Errorf("the error is %v", err)
		}
	}
	tree.Remove(path)
	p, err := facts.Draw(t.Context(), "app", store, 1)
	if err != nil {
		t.Fatal(err)
	}
	if nodeOf(t, p, index).Stored {
		t.Error("the index is stored")
	}
	if n := nodeOf(t, p, image); n.Platform != "" || n.Kind != audit.ManifestLink {
		t.Errorf("%+v", n)
	}
}

// failing is a store that can neither read nor stat one file.
type failing struct {
	storage.Reader
	path       string
	read, stat error
}

func (f failing) Read(ctx context.Context, path string, limit int64) ([]byte, error) {
	if path == f.path && f.read != nil {
		return nil, f.read
	}
	return f.Reader.Read(ctx, path, limit)
}

func (f failing) Stat(ctx context.Context, path string) (storage.Object, error) {
	if path == f.path && f.stat != nil {
		return storage.Object{}, f.stat
	}
	return f.Reader.Stat(ctx, path)
}

// A digest that is reached both as content and as a manifest is a manifest, also without a revision link. It has
// each edge once, and those to its referrers too.
func TestADigestThatIsContentAndAManifest(t *testing.T) {
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
	if n := nodeOf(t, p, child); n.Kind != audit.ManifestLink || n.Pulled < 1000 {
		t.Errorf("%+v", n)
	}
	edges := map[string]int{}
	for _, e := range p.Edges {
		edge := strings.Join([]string{string(e.Kind), e.From.Digest.String(), e.To.Digest.String()}, " ")
		if edges[edge]++; edges[edge] > 1 {
			t.Errorf("the edge %s is there twice", edge)
		}
	}
	for _, want := range []string{
		"layer " + child.Digest().String() + " " + child.Blobs[0].Digest().String(),
		"referrer " + child.Digest().String() + " " + signature.Digest().String(),
	} {
		if edges[want] != 1 {
			t.Errorf("there is no edge %s", want)
		}
	}
}

// A picture of REPO@DIGEST has the tags that point at the manifest, and no others. A layer of which only the
// directory exists is not stored.
func TestPicturesOfADigest(t *testing.T) {
	tree := storagetest.NewTree(t)
	child := imagetest.Image(imagetest.OCI, imagetest.Layer(1, 1000))
	index := imagetest.Index(imagetest.OCI, child)
	tree.Tag("app", "v1", tree.Manifest("app", index))
	tree.Tag("app", "other", tree.Manifest("app", imagetest.Image(imagetest.OCI, imagetest.Layer(2, 10))))
	if p := draw(t, tree, "app@"+index.Digest().String()); len(p.Tags) != 1 || p.Tags[0].Name != "v1" {
		t.Errorf("the tags of the index are %+v", p.Tags)
	}
	layer := child.Blobs[0].Digest()
	tree.Remove(imagetest.BlobPath(layer))
	tree.Mkdir(strings.TrimSuffix(imagetest.BlobPath(layer), "/data"))
	p := draw(t, tree, "app@"+child.Digest().String())
	var out bytes.Buffer
	if p.WriteTree(&out); len(p.Tags) != 0 || !strings.Contains(out.String(), "layer  "+audit.Short(layer)+"  not stored") {
		t.Errorf("%d tags point at an entry:\n%s", len(p.Tags), &out)
	}
}
