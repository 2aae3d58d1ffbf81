package sweep_test

import (
	"math"
	"testing"

	"regsweep/sweep"
)

// What manifests claim of sizes is bounded, and adds up without becoming negative. What was
// measured is not among it.
func TestClaimedSizesAreBounded(t *testing.T) {
	const claim = 9e18
	d := newDisk()
	config, layers := d.blob("config"), []any{}
	for _, text := range []string{"a layer", "another"} {
		digest := d.blob(text)
		d.layer("app", digest)
		layers = append(layers, map[string]any{"mediaType": layerType, "digest": digest, "size": int64(claim)})
	}
	d.layer("app", config)
	image := d.blob(json1(map[string]any{
		"schemaVersion": 2, "mediaType": ociImage, "layers": layers,
		"config": map[string]any{"mediaType": configType, "digest": config, "size": int64(math.MaxInt64)},
	}))
	d.revision("app", image)
	plan := planFor(t, d.put(t), rules{})
	const bound = 1 << 43
	size := int64(len(d.files[blobFile(image)].content))
	if want := 3*bound + size; plan.Live.Bytes != want || plan.Live.ClaimedBytes != want {
		t.Errorf("alive are %d bytes, %d of them claimed, want %d", plan.Live.Bytes, plan.Live.ClaimedBytes, want)
	}
	if row := plan.Kept[0]; row.Reason != sweep.KeptUntagged || row.Bytes != plan.Live.Bytes || row.ClaimedBytes != row.Bytes {
		t.Errorf("kept: %+v", row)
	}

	var tally sweep.Tally
	tally.Add(1, math.MaxInt64-1)
	tally.Add(1, 2)
	if tally.Bytes != math.MaxInt64 {
		t.Errorf("added up: %d", tally.Bytes)
	}
}
