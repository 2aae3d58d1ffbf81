package registrytest_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/distribution/distribution/v3/configuration"

	"regsweep/internal/imagetest"
	"regsweep/internal/registrytest"
)

// two images that share their base, as most do.
func base() (app, job *imagetest.Manifest) {
	layer := imagetest.Layer(1, 5000)
	return imagetest.Image(imagetest.OCI, layer, imagetest.Layer(2, 300)), imagetest.Image(imagetest.Docker, layer, imagetest.Layer(3, 300))
}

func TestEverythingPushedPulls(t *testing.T) {
	for name, config := range map[string]registrytest.Config{
		"filesystem": {Root: t.TempDir()},
		"in memory":  {Storage: configuration.Storage{"inmemory": {}}},
		"basic":      {Root: t.TempDir(), Username: "ann", Password: "secret"},
		"token":      {Root: t.TempDir(), Username: "ann", Password: "secret", Token: true},
		"https":      {Root: t.TempDir(), TLS: true},
		"https and token": {
			Root: t.TempDir(), Username: "ann", Password: "secret", Token: true, TLS: true},
	} {
		t.Run(name, func(t *testing.T) {
			config.SparseIndexes = true
			pushAndPull(t, registrytest.StartT(t, config).Client())
		})
	}
}

// pushAndPull takes a registry through each kind of content that there is.
func pushAndPull(t *testing.T, client *registrytest.Client) {
	t.Helper()
	app, job := base()
	signature := imagetest.Referrer(app, "application/vnd.example.signature", []byte("signed"))
	cache := imagetest.BuildKitCache(imagetest.Layer(4, 100), imagetest.Layer(5, 100))
	odd := imagetest.Layer(6, 100)
	odd.Algorithm = "sha512"

	references := []string{}
	for reference, m := range map[string]*imagetest.Manifest{
		"team/app:v1":      app,
		"team/app:job":     job,
		"team/app:all":     imagetest.Index(imagetest.OCI, app, imagetest.Image(imagetest.OCI, imagetest.Layer(7, 10))),
		"team/app:list":    imagetest.Index(imagetest.Docker, job),
		"team/app":         signature,
		"team/app:cache":   cache,
		"team/app:odd":     imagetest.Image(imagetest.OCI, odd),
		"team/app:nothing": imagetest.Image(imagetest.OCI),
	} {
		if err := client.Push(t.Context(), reference, m); err != nil {
			t.Fatal(err)
		}
		references = append(references, m.Digest().String())
		if _, tag, found := strings.Cut(reference, ":"); found {
			references = append(references, tag)
		}
	}
	if err := client.PullAll(t.Context(), "team/app", references...); err != nil {
		t.Fatal(err)
	}
	if err := client.PullAll(t.Context(), "team/app", "missing"); err == nil {
		t.Fatal("a tag that is not there pulls")
	}
	if _, err := client.LeaveUpload(t.Context(), "team/app", []byte("half")); err != nil {
		t.Fatal(err)
	}
	if err := client.Mount(t.Context(), "team/other", "team/app", app.Blobs[0].Digest()); err != nil {
		t.Fatal(err)
	}
}

func TestPullAllMissesALayer(t *testing.T) {
	root := t.TempDir()
	registry := registrytest.StartT(t, registrytest.Config{Root: root})
	app, _ := base()
	if err := registrytest.Push(t.Context(), registry.Host()+"/app:v1", app); err != nil {
		t.Fatal(err)
	}
	tree := imagetest.NewTree(t, root)
	layer := app.Blobs[1].Digest()
	tree.Remove(imagetest.BlobPath(layer))
	err := registrytest.PullAll(t.Context(), registry.Host(), "app", "v1")
	if err == nil || !strings.Contains(err.Error(), layer.String()) {
		t.Fatalf("layer %s is gone, and the pull says %v", layer, err)
	}
	tree.Write(imagetest.BlobPath(layer), "damaged")
	if err := registrytest.PullAll(t.Context(), registry.Host(), "app", "v1"); err == nil {
		t.Fatal("a damaged layer pulls")
	}
}

func TestReadOnlyAnswers405AndStillServes(t *testing.T) {
	for name, config := range map[string]registrytest.Config{
		"filesystem": {Root: t.TempDir()},
		"in memory":  {Storage: configuration.Storage{"inmemory": {}}},
	} {
		t.Run(name, func(t *testing.T) {
			registry := registrytest.StartT(t, config)
			app, job := base()
			if err := registrytest.Push(t.Context(), registry.Host()+"/app:v1", app); err != nil {
				t.Fatal(err)
			}
			if got := invalidPut(t, registry.URL()); got != http.StatusBadRequest {
				t.Errorf("writable: PUT answers %d", got)
			}
			if err := registry.SetReadOnly(true); err != nil {
				t.Fatal(err)
			}
			if got := invalidPut(t, registry.URL()); got != http.StatusMethodNotAllowed {
				t.Errorf("read-only: PUT answers %d", got)
			}
			if err := registrytest.Push(t.Context(), registry.Host()+"/app:v2", job); err == nil {
				t.Error("read-only: a push succeeds")
			}
			if err := registrytest.PullAll(t.Context(), registry.Host(), "app", "v1"); err != nil {
				t.Error(err)
			}
			if err := registry.SetReadOnly(false); err != nil {
				t.Fatal(err)
			}
			if err := registrytest.Push(t.Context(), registry.Host()+"/app:v2", job); err != nil {
				t.Error(err)
			}
		})
	}
}

func invalidPut(t *testing.T, url string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url+"/v2/x/manifests/y", strings.NewReader("{"))
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	if err := response.Body.Close(); err != nil {
		t.Fatal(err)
	}
	return response.StatusCode
}

func TestDelete(t *testing.T) {
	app, _ := base()
	registry := registrytest.StartT(t, registrytest.Config{Root: t.TempDir()})
	client := registry.Client()
	if err := client.Push(t.Context(), "app:v1", app); err != nil {
		t.Fatal(err)
	}
	if err := client.Delete(t.Context(), "app", app.Digest().String()); err != nil {
		t.Fatal(err)
	}
	if err := client.PullAll(t.Context(), "app", "v1"); err == nil {
		t.Fatal("a deleted manifest pulls")
	}
}

func TestPasswordIsAsked(t *testing.T) {
	for _, token := range []bool{false, true} {
		registry := registrytest.StartT(t, registrytest.Config{
			Root: t.TempDir(), Username: "ann", Password: "secret", Token: token})
		app, _ := base()
		for _, client := range []*registrytest.Client{
			{Host: registry.Host()},
			{Host: registry.Host(), Username: "ann", Password: "wrong"},
		} {
			if err := client.Push(t.Context(), "app:v1", app); err == nil {
				t.Errorf("token %v: %q pushes with password %q", token, client.Username, client.Password)
			}
		}
	}
}

func TestStoppedRegistryRefusesConnections(t *testing.T) {
	registry, err := registrytest.Start(t.Context(), registrytest.Config{Root: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if err := registry.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := registrytest.PullAll(context.Background(), registry.Host(), "app", "v1"); err == nil {
		t.Fatal("a stopped registry serves")
	}
}

func TestConfigIsChecked(t *testing.T) {
	for _, config := range []registrytest.Config{
		{},
		{Root: t.TempDir(), Storage: configuration.Storage{"inmemory": {}}},
		{Storage: configuration.Storage{"s3": {}}},
	} {
		registry, err := registrytest.Start(t.Context(), config)
		if err == nil {
			t.Errorf("starts with %+v", config)
			t.Error(registry.Stop())
		}
	}
}
