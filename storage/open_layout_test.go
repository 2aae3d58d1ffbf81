package storage

import (
	"errors"
	"regsweep/internal/parts"
	"strings"
	"testing"
)

// TestRequireLayout: what is refused is a usage error, whatever the storage is.
func TestRequireLayout(t *testing.T) {
	tree := newTree(t)
	server := parts.SharedMinIO(t)
	bucket := server.NewBucketT(t)
	for _, c := range []Config{
		{Driver: "filesystem", Parameters: Parameters{"rootdirectory": tree.Root()}},
		{Driver: "s3", Parameters: Parameters(server.Parameters(bucket, "/registry"))},
	} {
		store := mustOpen(t)(Open(t.Context(), c))
		if err := RequireLayout(t.Context(), store, c); !errors.As(err, new(*AbsentError)) || !errors.As(err, new(*UsageError)) {
			t.Errorf("%s without a layout: %v", c.Driver, err)
		}
		if err := store.Put(t.Context(), QuarantineDir+"/run/plan.jsonl", strings.NewReader("x")); err != nil {
			t.Fatal(err)
		}
		if err := RequireLayout(t.Context(), store, c); err != nil {
			t.Errorf("%s with a layout: %v", c.Driver, err)
		}
	}
}
