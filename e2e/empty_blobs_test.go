package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"regsweep/internal/imagetest"
	"regsweep/storage"
)

// Links without any blob: the disk of the blobs is not mounted. An empty registry is none of that.
func TestEmptyBlobsAskForTheirDisk(t *testing.T) {
	t.Parallel()
	const asks = "blobs is empty, and repositories name blobs: is its disk mounted?"
	for _, links := range []bool{true, false} {
		tree := imagetest.NewTree(t, t.TempDir())
		if links {
			tree.Tag("team/app", "v1", app(1, 2).Digest())
		}
		must(t, os.MkdirAll(filepath.Join(tree.Root(), storage.Root, "blobs"), 0o755))
		out, _ := program(t, "gc", "-d", tree.Root()).CombinedOutput() // exit code 4: a tag can't be pulled
		if strings.Contains(string(out), asks) != links {
			t.Errorf("links %v:\n%s", links, out)
		}
	}
}
