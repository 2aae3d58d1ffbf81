package registrytest_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"regsweep/internal/imagetest"
	"regsweep/internal/registrytest"
)

func TestReleasedRegistries(t *testing.T) {
	if testing.Short() {
		t.Skip("builds both releases the first time")
	}
	app, job := base()
	for _, release := range []registrytest.Release{registrytest.Release2, registrytest.Release3} {
		t.Run(string(release), func(t *testing.T) {
			path, err := registrytest.Binary(t.Context(), release)
			if errors.Is(err, registrytest.ErrUnavailable) {
				t.Skip(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			root := t.TempDir()
			writable := registrytest.StartBinaryT(t, path, registrytest.FilesystemConfig(root, false))
			if err := writable.Client().Push(t.Context(), "app:all", imagetest.Index(imagetest.Docker, app, job)); err != nil {
				t.Fatal(err)
			}

			readOnly := registrytest.StartBinaryT(t, path, registrytest.FilesystemConfig(root, true))
			if got := invalidPut(t, readOnly.URL()); got != http.StatusMethodNotAllowed {
				t.Errorf("read-only: PUT answers %d", got)
			}
			if err := readOnly.Client().PullAll(t.Context(), "app", "all", app.Digest().String()); err != nil {
				t.Error(err)
			}

			byEnvironment := registrytest.StartBinaryT(t, path, registrytest.FilesystemConfig(root, false),
				"REGISTRY_STORAGE_MAINTENANCE_READONLY={enabled: true}")
			if got := invalidPut(t, byEnvironment.URL()); got != http.StatusMethodNotAllowed {
				t.Errorf("read-only by the environment: PUT answers %d", got)
			}
		})
	}
}

func TestBrokenConfigSaysSo(t *testing.T) {
	path := registrytest.BinaryT(t)
	server, err := registrytest.StartBinary(context.Background(), path, "version: 0.1\nstorage: {}\n")
	if err == nil {
		t.Error(server.Stop())
		t.Fatal("starts without a storage")
	}
	if !strings.Contains(err.Error(), "storage") {
		t.Errorf("the error does not say why: %v", err)
	}
}
