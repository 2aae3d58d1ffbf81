package registrytest_test

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

	"regsweep/internal/imagetest"
	"regsweep/internal/registrytest"
)

func TestHandWrittenTreeIsWhatARegistryWrites(t *testing.T) {
	app, job := base()
	odd := imagetest.Layer(6, 100)
	odd.Algorithm = digest.SHA512
	things := map[string]*imagetest.Manifest{
		"one":   imagetest.Index(imagetest.OCI, app, imagetest.Image(imagetest.OCI, odd)),
		"two":   job,
		"three": app,
	}

	pushed := t.TempDir()
	client := registrytest.StartT(t, registrytest.Config{Root: pushed}).Client()
	tree := imagetest.NewTree(t, t.TempDir())
	for tag, m := range things {
		if err := client.Push(t.Context(), "team/app:"+tag, m); err != nil {
			t.Fatal(err)
		}
		tree.Tag("team/app", tag, tree.Manifest("team/app", m))
	}

	want, got := imagetest.SnapshotT(t, pushed), imagetest.SnapshotT(t, tree.Root())
	if !maps.Equal(got, want) {
		t.Errorf("by hand:\n%s\npushed:\n%s", listing(got), listing(want))
	}
}

func TestRegistryServesAHandWrittenTree(t *testing.T) {
	app, _ := base()
	tree := imagetest.NewTree(t, t.TempDir())
	tree.Tag("app", "v1", tree.Manifest("app", app))
	tree.Upload("app", "0b8a4b3e-9f0c-4c6b-8f0e-6f0f3c9d0d11", time.Now().Add(-time.Hour), []byte("half"))
	tree.Mkdir("repositories/empty/_manifests/tags")

	registry := registrytest.StartT(t, registrytest.Config{Root: tree.Root()})
	if err := registrytest.PullAll(t.Context(), registry.Host(), "app", "v1", app.Digest().String()); err != nil {
		t.Fatal(err)
	}
	if !tree.Exists(imagetest.UploadPath("app", "0b8a4b3e-9f0c-4c6b-8f0e-6f0f3c9d0d11")) {
		t.Error("the upload is not where it was put")
	}
}

func TestSchema1IsServedByRelease2(t *testing.T) {
	path, err := registrytest.Binary(t.Context(), registrytest.Release2)
	if errors.Is(err, registrytest.ErrUnavailable) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	tree := imagetest.NewTree(t, t.TempDir())
	old := imagetest.Schema1("app", "old", imagetest.Layer(1, 100), imagetest.Layer(2, 100))
	tree.Tag("app", "old", tree.Manifest("app", old))
	registry := registrytest.StartBinaryT(t, path, registrytest.FilesystemConfig(tree.Root(), true)+
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
	layer := imagetest.Layer(1, 100).Digest().String()
	if response.StatusCode != http.StatusOK || !strings.Contains(string(body), layer) {
		t.Errorf("%s: %s", response.Status, body)
	}
	if err := registry.Client().PullAll(t.Context(), "app", "old"); err == nil {
		t.Error("PullAll vouches for content that it can't check")
	}
}

func TestReferrersTagIsAChoice(t *testing.T) {
	app, _ := base()
	signature := imagetest.Referrer(app, "application/vnd.example.signature", []byte("signed"))
	fallback := strings.ReplaceAll(app.Digest().String(), ":", "-")
	for _, wanted := range []bool{false, true} {
		root := t.TempDir()
		client := registrytest.StartT(t, registrytest.Config{Root: root}).Client()
		client.ReferrersTag = wanted
		for _, m := range []*imagetest.Manifest{app, signature} {
			if err := client.Push(t.Context(), "app", m); err != nil {
				t.Fatal(err)
			}
		}
		if got := imagetest.NewTree(t, root).Exists(imagetest.TagPath("app", fallback)); got != wanted {
			t.Errorf("wanted %v, but the tag %s is there: %v", wanted, fallback, got)
		}
	}
}

func listing(files map[string]string) string {
	return strings.Join(slices.Sorted(maps.Keys(files)), "\n")
}
