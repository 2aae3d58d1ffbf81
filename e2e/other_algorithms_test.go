package e2e

import (
	"encoding/json"
	"fmt"
	"testing"

	"regsweep/internal/imagetest"

	"github.com/opencontainers/go-digest"
)

// TestBlobsUnderOtherAlgorithmsAreKept: a registry serves an image whose blobs are stored under
// sha512. A run keeps them, collects all else, and does what its dry run says (1, 5).
func TestBlobsUnderOtherAlgorithmsAreKept(t *testing.T) {
	t.Parallel()
	for _, of := range []struct{ manifest, blobs digest.Algorithm }{
		{digest.SHA512, digest.SHA512}, {digest.SHA256, digest.SHA512}, {digest.SHA384, digest.SHA384}, {digest.SHA512, digest.SHA256},
	} {
		for _, tagged := range []bool{true, false} {
			what := fmt.Sprintf("a manifest under %s with blobs under %s, tagged: %t", of.manifest, of.blobs, tagged)
			s := newSite(t)
			s.plant("app", "v1", app(1))
			s.plant("app", "", app(1, 2))
			s.tree.Blob([]byte("garbage"))
			blob := func(content string, algorithm digest.Algorithm) digest.Digest {
				d := algorithm.FromString(content)
				s.write(imagetest.BlobPath(d), content)
				return d
			}
			config, data := blob("{}", of.blobs), blob("a layer under another algorithm", of.blobs)
			s.tree.LayerLink("other", config)
			s.tree.LayerLink("other", data)
			manifest, err := json.Marshal(map[string]any{
				"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
				"config": map[string]any{"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2},
				"layers": []any{map[string]any{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": data, "size": 31}},
			})
			s.must(err)
			image := blob(string(manifest), of.manifest)
			s.tree.Revision("other", image)
			flags := []string{"gc", "--registry-stopped", "--json", s.tree.Root()}
			if tagged {
				s.tree.Tag("other", "v1", image)
				flags = append(flags, "-m")
			}
			s.tree.Age("", 1000*3600*1e9)
			before := s.files()
			var dry, real gcReport
			for _, run := range []struct {
				dry    string
				report *gcReport
			}{{"-d", &dry}, {"--yes", &real}} {
				code, stdout, stderr := regsweep(s, append(flags, run.dry)...)
				if err := json.Unmarshal([]byte(stdout), run.report); err != nil || code != 0 {
					t.Errorf("%s: %s ends with %d, %v: %s", what, run.dry, code, err, stderr)
				}
			}
			if dry.Garbage != real.Removed || dry.Garbage.Blobs.Count == 0 {
				t.Errorf("%s: a dry run has %+v, and removed were %+v", what, dry.Garbage, real.Removed)
			}
			after := s.files()
			for _, path := range []string{
				imagetest.BlobPath(image), imagetest.BlobPath(config), imagetest.BlobPath(data), imagetest.RevisionPath("other", image),
				imagetest.LayerPath("other", config), imagetest.LayerPath("other", data),
			} {
				if after[path] != before[path] || before[path] == 0 {
					t.Errorf("%s: %s is gone", what, path)
				}
			}
		}
	}
}
