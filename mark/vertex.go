package mark

import (
	"regsweep/inventory"
)

// vertex is a digest as the mark of one repository meets it: as a manifest, whose
// references count, or as plain content.
//
//	app:   tag → index → X        X is a manifest: the index says so
//	       tag → image → Y        Y is a layer, and nothing more
//	other: revision Y             here Y is a manifest, which is no affair of app's
//
// What other repositories hold a digest for must not matter: their links may go before
// this one's do, and then a second run would find more to remove than the first. A
// repository meets a digest as a manifest if its own links or a manifest say that it is
// one, or if it reads like one where nothing says what it is (builder.perhaps).
type vertex uint32

const asManifest vertex = 1 << 31

func plain(id inventory.ID) vertex { return vertex(id) }

func (v vertex) id() inventory.ID { return inventory.ID(v &^ asManifest) }
func (v vertex) isManifest() bool { return v&asManifest != 0 }

// see is how this repository meets a digest.
func (t *tracer) see(v vertex) vertex {
	switch id := v.id(); {
	case !t.graph.manifests.has(id):
		return plain(id)
	case v.isManifest() || t.named[id] || t.r.HasRevision(id):
		return v | asManifest
	}
	return v
}
