package open

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"regsweep/internal/miniotest"
	"regsweep/storage"
	"regsweep/storage/config"
	"regsweep/storage/storagetest"
)

// TestRequireLayout: a missing layout is a usage error on every storage.
func TestRequireLayout(t *testing.T) {
	tree := storagetest.NewTree(t)
	server := miniotest.SharedMinIO(t)
	bucket := server.NewBucketT(t)
	for _, c := range []config.Config{
		{Driver: "filesystem", Parameters: config.Parameters{"rootdirectory": tree.Root()}},
		{Driver: "s3", Parameters: config.Parameters(server.Parameters(bucket, "/registry"))},
	} {
		store := storagetest.MustOpen(t)(Store(t.Context(), c))
		if err := config.RequireLayout(t.Context(), store, c); !errors.As(err, new(*config.AbsentError)) || !errors.As(err, new(*storage.UsageError)) {
			t.Errorf("%s without a layout: %v", c.Driver, err)
		}
		if err := store.Put(t.Context(), storage.QuarantineDir+"/run/plan.jsonl", strings.NewReader("x")); err != nil {
			t.Fatal(err)
		}
		if err := config.RequireLayout(t.Context(), store, c); err != nil {
			t.Errorf("%s with a layout: %v", c.Driver, err)
		}
	}
}

func TestADriverThatIsNotLinkedIsNamed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.yml")
	if err := os.WriteFile(file, []byte("version: 0.1\nstorage: {gcs: {bucket: images, keyfile: /swordfish}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.ParseTarget(file, os.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Store(t.Context(), c)
	if !errors.As(err, new(*storage.UsageError)) || !strings.Contains(err.Error(), `storage driver "gcs": regsweep works on filesystem and s3 only`) || strings.Contains(err.Error(), "swordfish") {
		t.Errorf("%v", err)
	}
}
