package audit

import (
	"bytes"
	"cmp"
	"slices"

	"regsweep/inventory"
	"regsweep/manifest"
	"regsweep/mark"
)

// Kind is the use of a blob.
type Kind string

// The kinds of blobs. A blob with several uses has the first of them.
const (
	Layer       Kind = "layer"
	Config      Kind = "config"
	Manifest    Kind = "manifest"
	Attestation Kind = "attestation"
	Signature   Kind = "signature" // a signature or an SBOM
	BuildCache  Kind = "build_cache"
	Chart       Kind = "chart"
	Unknown     Kind = "unknown" // no manifest that was read refers to the blob
)

// Kinds has all kinds in their order.
var Kinds = []Kind{Layer, Config, Manifest, Attestation, Signature, BuildCache, Chart, Unknown}

// KindBytes is the space of all blobs of a kind. Bytes includes Garbage.
type KindBytes struct {
	Kind    Kind  `json:"kind"`
	Blobs   int   `json:"blobs"`
	Bytes   int64 `json:"bytes"`
	Garbage int64 `json:"garbage"`
}

// byPurpose has the kinds of manifests, and of all that they refer to, that are not for images.
var byPurpose = map[manifest.Purpose]Kind{
	manifest.ForAttestations: Attestation,
	manifest.ForSignatures:   Signature,
	manifest.ForBuildCache:   BuildCache,
	manifest.ForCharts:       Chart,
}

// kindsOf returns the kind of each stored blob, as its index in Kinds.
func kindsOf(inv *inventory.Inventory, graph *mark.Graph) []uint8 {
	kinds := bytes.Repeat([]byte{uint8(len(Kinds) - 1)}, inv.Blobs())
	note := func(id inventory.ID, kind Kind) {
		if inv.Stored(id) {
			kinds[id] = min(kinds[id], uint8(slices.Index(Kinds, kind)))
		}
	}
	for id, form := range graph.Manifests() {
		own, isSpecial := byPurpose[form.Purpose]
		note(id, cmp.Or(own, Manifest))
		isFirst := true
		for to, isManifest := range graph.Edges(id) {
			switch {
			case isSpecial:
				note(to, own)
			case isManifest:
			case isFirst && form.Kind == manifest.Image:
				note(to, Config)
			default:
				note(to, Layer)
			}
			isFirst = false
		}
	}
	return kinds
}
