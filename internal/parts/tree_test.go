package parts_test

import (
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"regsweep/internal/parts"
)

func TestHandWrittenTreeIsWhatARegistryWrites(t *testing.T) {
	app, job := base()
	odd := parts.Layer(6, 100)
	odd.Algorithm = digest.SHA512
	things := map[string]*parts.Manifest{
		"one":   parts.Index(parts.OCI, app, parts.Image(parts.OCI, odd)),
		"two":   job,
		"three": app,
	}

	pushed := t.TempDir()
	client := parts.StartRegistryT(t, parts.Config{Root: pushed}).Client()
	tree := parts.NewTree(t, t.TempDir())
	for tag, m := range things {
		if err := client.Push(t.Context(), "team/app:"+tag, m); err != nil {
			t.Fatal(err)
		}
		tree.Tag("team/app", tag, tree.Manifest("team/app", m))
	}

	want, got := parts.SnapshotT(t, pushed), parts.SnapshotT(t, tree.Root())
	if !maps.Equal(got, want) {
		t.Errorf("by hand:\n%s\npushed:\n%s", listing(got), listing(want))
	}
}

func TestRegistryServesAHandWrittenTree(t *testing.T) {
	app, _ := base()
	tree := parts.NewTree(t, t.TempDir())
	tree.Tag("app", "v1", tree.Manifest("app", app))
	tree.Upload("app", "0b8a4b3e-9f0c-4c6b-8f0e-6f0f3c9d0d11", time.Now().Add(-time.Hour), []byte("half"))
	tree.Mkdir("repositories/empty/_manifests/tags")

	registry := parts.StartRegistryT(t, parts.Config{Root: tree.Root()})
	if err := parts.PullAll(t.Context(), registry.Host(), "app", "v1", app.Digest().String()); err != nil {
		t.Fatal(err)
	}
	if !tree.Exists(parts.UploadPath("app", "0b8a4b3e-9f0c-4c6b-8f0e-6f0f3c9d0d11")) {
		t.Error("the upload is not where it was put")
	}
}

func TestContentIsDeterministicAndShared(t *testing.T) {
	app, job := base()
	again, _ := base()
	if app.Digest() != again.Digest() {
		t.Error("the same layers make two images")
	}
	if app.Digest() == job.Digest() {
		t.Error("different layers make one image")
	}
	if !slices.Contains(app.Digests(), parts.Layer(1, 5000).Digest()) ||
		!slices.Contains(job.Digests(), parts.Layer(1, 5000).Digest()) {
		t.Error("the images do not share their base")
	}
}

func TestSchema1IsServedByRelease2(t *testing.T) {
	path, err := parts.RegistryBinary(t.Context(), parts.Release2)
	if errors.Is(err, parts.ErrUnavailable) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	tree := parts.NewTree(t, t.TempDir())
	old := parts.Schema1("app", "old", parts.Layer(1, 100), parts.Layer(2, 100))
	tree.Tag("app", "old", tree.Manifest("app", old))
	registry := parts.StartBinaryT(t, path, parts.FilesystemConfig(tree.Root(), true)+
		"compatibility:\n  schema1:\n    enabled: true\n")
	// It is signed anew whenever it is served, so its bytes are others than stored.
	response, err := http.Get(registry.URL() + "/v2/app/manifests/" + old.Digest().String())
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil {
		t.Fatal(err)
	}
	layer := parts.Layer(1, 100).Digest().String()
	if response.StatusCode != http.StatusOK || !strings.Contains(string(body), layer) {
		t.Errorf("%s: %s", response.Status, body)
	}
	if err := registry.Client().PullAll(t.Context(), "app", "old"); err == nil {
		t.Error("PullAll vouches for content that it can't check")
	}
}

func TestReferrersTagIsAChoice(t *testing.T) {
	app, _ := base()
	signature := parts.Referrer(app, "application/vnd.example.signature", []byte("signed"))
	fallback := strings.ReplaceAll(app.Digest().String(), ":", "-")
	for _, wanted := range []bool{false, true} {
		root := t.TempDir()
		client := parts.StartRegistryT(t, parts.Config{Root: root}).Client()
		client.ReferrersTag = wanted
		for _, m := range []*parts.Manifest{app, signature} {
			if err := client.Push(t.Context(), "app", m); err != nil {
				t.Fatal(err)
			}
		}
		if got := parts.NewTree(t, root).Exists(parts.TagPath("app", fallback)); got != wanted {
			t.Errorf("wanted %v, but the tag %s is there: %v", wanted, fallback, got)
		}
	}
}

func listing(files map[string]string) string {
	return strings.Join(slices.Sorted(maps.Keys(files)), "\n")
}
