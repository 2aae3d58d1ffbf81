package parts_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"regsweep/internal/parts"
)

// slow keeps tests whose parts take minutes to build, once, out of short runs.
func slow(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("builds a server the first time")
	}
}

func TestReleasedRegistries(t *testing.T) {
	slow(t)
	app, job := base()
	for _, release := range []parts.Release{parts.Release2, parts.Release3} {
		t.Run(string(release), func(t *testing.T) {
			path, err := parts.RegistryBinary(t.Context(), release)
			if errors.Is(err, parts.ErrUnavailable) {
				t.Skip(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			root := t.TempDir()
			writable := parts.StartBinaryT(t, path, parts.FilesystemConfig(root, false))
			if err := writable.Client().Push(t.Context(), "app:all", parts.Index(parts.Docker, app, job)); err != nil {
				t.Fatal(err)
			}

			readOnly := parts.StartBinaryT(t, path, parts.FilesystemConfig(root, true))
			if got := invalidPut(t, readOnly.URL()); got != http.StatusMethodNotAllowed {
				t.Errorf("read-only: PUT answers %d", got)
			}
			if err := readOnly.Client().PullAll(t.Context(), "app", "all", app.Digest().String()); err != nil {
				t.Error(err)
			}

			byEnvironment := parts.StartBinaryT(t, path, parts.FilesystemConfig(root, false),
				"REGISTRY_STORAGE_MAINTENANCE_READONLY={enabled: true}")
			if got := invalidPut(t, byEnvironment.URL()); got != http.StatusMethodNotAllowed {
				t.Errorf("read-only by the environment: PUT answers %d", got)
			}
		})
	}
}

func TestBrokenConfigSaysSo(t *testing.T) {
	slow(t)
	path, err := parts.RegistryBinary(t.Context(), parts.Release3)
	if err != nil {
		t.Fatal(err)
	}
	server, err := parts.StartBinary(context.Background(), path, "version: 0.1\nstorage: {}\n")
	if err == nil {
		t.Error(server.Stop())
		t.Fatal("starts without a storage")
	}
	if !strings.Contains(err.Error(), "storage") {
		t.Errorf("the error does not say why: %v", err)
	}
}
