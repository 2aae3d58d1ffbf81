package open

import (
	"errors"
	"regsweep/internal/parts"
	"regsweep/storage"
	"regsweep/storage/config"
	"regsweep/storage/storagetest"
	"strings"
	"testing"
)

// TestRequireLayout: what is refused is a usage error, whatever the storage is.
func TestRequireLayout(t *testing.T) {
	tree := storagetest.NewTree(t)
	server := parts.SharedMinIO(t)
	bucket := server.NewBucketT(t)
	for _, c := range []config.Config{
		{Driver: "filesystem", Parameters: config.Parameters{"rootdirectory": tree.Root()}},
		{Driver: "s3", Parameters: config.Parameters(server.Parameters(bucket, "/registry"))},
	} {
		store := storagetest.MustOpen(t)(Open(t.Context(), c))
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
