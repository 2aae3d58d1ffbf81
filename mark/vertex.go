package mark

import (
	"regsweep/inventory"
)

// vertex is a digest as it is reached in one repository: as a manifest, whose references are followed,
// or as plain content.
//
//	app:   tag → index → X        X is a manifest: the index says so
//	       tag → image → Y        Y is only a layer
//	other: revision Y             Y is a manifest in other, but not in app
//
// Other repositories have no influence on how a digest is reached. Their links may be removed before
// the links of this one, and then a second run would remove more than the first. In a repository a
// digest is reached as a manifest if a link or a manifest says that it is one. If its type is unknown,
// it is a manifest if it can be parsed as one (builder.untyped).
type vertex uint32

const asManifest vertex = 1 << 31

func plain(id inventory.ID) vertex { return vertex(id) }

func (v vertex) id() inventory.ID { return inventory.ID(v &^ asManifest) }
func (v vertex) isManifest() bool { return v&asManifest != 0 }

// asReached returns the vertex for a reference, as this repository reaches it.
func (m *marker) asReached(v vertex) vertex {
	switch id := v.id(); {
	case !m.graph.manifests.has(id):
		return plain(id)
	case v.isManifest() || m.named[id] || m.r.HasRevision(id):
		return v | asManifest
	}
	return v
}
