package e2e

import (
	"strings"
	"testing"

	"regsweep/internal/imagetest"

	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// TestSuspendedVersioning: what was pushed while the bucket kept versions is hidden, and what
// was pushed before or since is destroyed. The report says how much is freed.
func TestSuspendedVersioning(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		states []types.BucketVersioningStatus // of the bucket before each push, and at the run
		frees  int                            // of the two manifests
	}{
		"pushed before versioning":    {[]types.BucketVersioningStatus{"", "", types.BucketVersioningStatusEnabled, types.BucketVersioningStatusSuspended}, 2},
		"pushed while it was enabled": {[]types.BucketVersioningStatus{types.BucketVersioningStatusEnabled, "", types.BucketVersioningStatusSuspended}, 0},
		"one of each":                 {[]types.BucketVersioningStatus{types.BucketVersioningStatusEnabled, types.BucketVersioningStatusSuspended}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			q := &quarantineSite{site: newBucketSite(t)}
			gone := []*imagetest.Manifest{app(1, 2), app(3, 4)}
			q.push("team/app:kept", app(5, 6))
			for i, state := range test.states {
				if state != "" {
					q.setVersioning(state)
				}
				if i < len(gone) {
					q.push("team/app:gone", gone[i])
					q.delete("team/app", gone[i].Digest().String())
				}
			}
			q.must(q.registry.SetReadOnly(true))
			config := q.config(q.registry.ConfigYAML())
			_, text, _ := regsweep(q.site, "gc", config, "-dm", "--no-cache")
			dry := q.run("--dry-run", "-m")
			run := q.run("-m")
			all, freed := dry.Garbage.Blobs.Bytes, run.Removed.Blobs.Bytes
			if all == 0 || run.Removed.Blobs.Count != dry.Garbage.Blobs.Count || freed+run.HiddenBytes != all {
				t.Errorf("freed %d and hidden %d of %d bytes", freed, run.HiddenBytes, all)
			}
			if (freed == 0) != (test.frees == 0) || (run.HiddenBytes == 0) != (test.frees == 2) {
				t.Errorf("freed %d and hidden %d of %d bytes", freed, run.HiddenBytes, all)
			}
			if strings.Contains(text, "; 0 B would be freed.") != (test.frees == 0) || strings.Contains(text, "Versioning of the bucket is suspended") != (test.frees > 0) {
				t.Errorf("the dry run says: %s", text)
			}
		})
	}
}
