package audit

import (
	"bytes"
	"cmp"
	"slices"
	"strings"

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

// kindTexts has the names of the kinds for readers: of one blob, at the beginning of a sentence, and of many.
var kindTexts = map[Kind]struct{ one, many string }{
	Layer: {"A layer", "layers"}, Config: {"A config", "configs"}, Manifest: {"A manifest", "manifests"},
	Attestation: {"Part of an attestation", "attestations"}, Signature: {"Part of a signature or an SBOM", "signatures and SBOMs"},
	BuildCache: {"Part of a BuildKit cache", "BuildKit caches"}, Chart: {"Part of a Helm chart", "Helm charts"},
	Unknown: {"A blob", "unknown"},
}

// One names a blob of the kind, and Many names all its blobs. The kind of a digest that is not stored is "".
func (k Kind) One() string  { return kindTexts[cmp.Or(k, Unknown)].one }
func (k Kind) Many() string { return kindTexts[cmp.Or(k, Unknown)].many }

// Word is the kind as a word in a table.
func (k Kind) Word() string { return strings.ReplaceAll(string(k), "_", " ") }

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

// kindsOf returns the kind of each digest, as its index in Kinds.
func kindsOf(inv *inventory.Inventory, graph *mark.Graph) []uint8 {
	kinds := bytes.Repeat([]byte{uint8(len(Kinds) - 1)}, inv.Digests())
	eachUse(inv, graph, func(_, of inventory.ID, kind Kind) {
		kinds[of] = min(kinds[of], uint8(slices.Index(Kinds, kind)))
	})
	return kinds
}

// kindOf returns the kind of a manifest.
func kindOf(form mark.Form) Kind { return cmp.Or(byPurpose[form.Purpose], Manifest) }

// eachUse visits each manifest, and the digests that it refers to, with the kind that it gives to them. All
// uses by one manifest are visited together. The cost does not depend on the number of repositories.
//
// The content of a sha512 digest is stored under another digest, which layer links name. So a manifest that
// refers to the one uses the other.
func eachUse(inv *inventory.Inventory, graph *mark.Graph, visit func(by, of inventory.ID, kind Kind)) {
	contents, signatures := map[inventory.ID][]inventory.ID{}, map[inventory.ID][]inventory.ID{}
	add := func(all map[inventory.ID][]inventory.ID, id, to inventory.ID) { // many repositories have the same links
		if !slices.Contains(all[id], to) {
			all[id] = append(all[id], to)
		}
	}
	for _, r := range inv.Repositories {
		for id, to := range r.Aliases {
			add(contents, id, to)
		}
		for id, all := range r.Signatures {
			for _, to := range all {
				add(signatures, id, to)
			}
		}
	}
	for id, form := range graph.Manifests() {
		own := kindOf(form)
		visit(id, id, own)
		for _, signature := range signatures[id] {
			visit(id, signature, Signature)
		}
		isFirst := true
		for to, isManifest := range graph.Edges(id) {
			kind := own
			switch entry, _ := graph.Form(to); {
			case own != Manifest:
			case isManifest:
				kind = kindOf(entry)
			case isFirst && form.Kind == manifest.Image:
				kind = Config
			default:
				kind = Layer
			}
			isFirst = false
			visit(id, to, kind)
			for _, content := range contents[to] {
				visit(id, content, kind)
			}
		}
	}
}
