package mark

import (
	"regsweep/inventory"
)

// vertex is a digest as it is reached in one repository: as a manifest, whose
// references count, or as plain content.
//
//	app:   tag → index → X        X is a manifest: the index says so
//	       tag → image → Y        Y is a layer, and nothing more
//	other: revision Y             here Y is a manifest, which is no affair of app's
//
// How other repositories reach a digest must not matter: their links may be removed before
// this one's, and then a second run would find more to remove than the first. In a
// repository a digest is reached as a manifest if its own links or a manifest say that it is
// one, or if nothing says what it is and it reads like one (builder.perhaps).
type vertex uint32

const asManifest vertex = 1 << 31

func plain(id inventory.ID) vertex { return vertex(id) }

func (v vertex) id() inventory.ID { return inventory.ID(v &^ asManifest) }
func (v vertex) isManifest() bool { return v&asManifest != 0 }

// asReached is a digest as this repository reaches it.
func (m *marker) asReached(v vertex) vertex {
	switch id := v.id(); {
	case !m.graph.manifests.has(id):
		return plain(id)
	case v.isManifest() || m.named[id] || m.r.HasRevision(id):
		return v | asManifest
	}
	return v
}
