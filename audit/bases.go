package audit

import (
	"cmp"
	"encoding/binary"
	"maps"
	"slices"

	"regsweep/inventory"
	"regsweep/manifest"

	"github.com/opencontainers/go-digest"
)

// Base says that an image is based on another: all layers of the base are its first ones. The image has
// more layers than its base, and no image of the registry lies between the two.
//
//	a        ← a b      ← a b c       the layers of three images
type Base struct {
	Image digest.Digest `json:"image"`
	Base  digest.Digest `json:"base"`
	// Layers is the number of layers of the base.
	Layers int `json:"layers"`
	// ImageNames and BaseNames are the tags that lead to the two, as REPO:TAG, those of the shown
	// repository first. There are none for an untagged image.
	ImageNames []string `json:"image_names"`
	BaseNames  []string `json:"base_names"`
}

// layersOf returns the layers of an image, the lowest first. It returns nil for all other digests.
func (f Facts) layersOf(id inventory.ID) (layers []inventory.ID) {
	form, _ := f.Graph.Form(id)
	if form.Purpose != manifest.ForImages || form.Kind != manifest.Image && form.Kind != manifest.Schema1 {
		return nil
	}
	for to := range f.Graph.Edges(id) {
		layers = append(layers, to)
	}
	if form.Kind == manifest.Schema1 {
		slices.Reverse(layers) // it has its uppermost layer first
		return layers
	}
	return layers[min(1, len(layers)):] // without the config
}

// stack is a list of layers as a text, so that it can be the key of a map. A layer takes layerSize bytes.
type stack string

const layerSize = 4

func stackOf(layers []inventory.ID) stack {
	text := make([]byte, 0, layerSize*len(layers))
	for _, id := range layers {
		text = binary.BigEndian.AppendUint32(text, uint32(id))
	}
	return stack(text)
}

// findBases returns the bases of the images among some nodes of a repository, and of their bases.
func (f Facts) findBases(repository int, nodes []*Node) []Base {
	images := map[stack][]inventory.ID{} // all images that may be in the result
	for _, n := range nodes {
		s := stackOf(f.layersOf(n.id))
		for end := layerSize; end <= len(s); end += layerSize {
			images[s[:end]] = nil
		}
	}
	if len(images) == 0 {
		return []Base{}
	}
	for id := range f.Graph.Manifests() {
		s := stackOf(f.layersOf(id))
		if same, isWanted := images[s]; isWanted {
			images[s] = append(same, id)
		}
	}
	maps.DeleteFunc(images, func(_ stack, same []inventory.ID) bool { return len(same) == 0 })
	names := f.imageNames(repository, images)
	r := f.Inventory.Repositories[repository]
	isShown := map[inventory.ID]bool{}
	for _, n := range nodes {
		isShown[n.id] = true
	}
	for _, same := range images { // the first one represents all with the same layers
		slices.SortFunc(same, func(a, b inventory.ID) int {
			return cmp.Or(first(isShown[a], isShown[b]), first(r.HasRevision(a), r.HasRevision(b)), first(len(names[a]) > 0, len(names[b]) > 0), f.compareDigests(a, b))
		})
	}
	bases := []Base{}
	for s, same := range images {
		for end := len(s) - layerSize; end > 0; end -= layerSize {
			below := images[s[:end]]
			if len(below) == 0 {
				continue
			}
			for i, id := range same {
				if i == 0 || isShown[id] {
					bases = append(bases, Base{f.Inventory.Digest(id), f.Inventory.Digest(below[0]), end / layerSize, names.of(id), names.of(below[0])})
				}
			}
			break
		}
	}
	slices.SortFunc(bases, func(a, b Base) int {
		return cmp.Or(cmp.Compare(a.Layers, b.Layers), slices.Compare(a.ImageNames, b.ImageNames), cmp.Compare(a.Image, b.Image))
	})
	return bases
}

// first orders what has a property before what has it not.
func first(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// names are the names of images.
type names map[inventory.ID][]string

func (n names) of(id inventory.ID) []string { return append([]string{}, n[id]...) }

// mostNames is the number of names of an image in a Base.
const mostNames = 10

// imageNames returns the tags of the images, and of the indexes that they are in. Those of one repository
// come first.
func (f Facts) imageNames(repository int, images map[stack][]inventory.ID) names {
	out := names{}
	for _, same := range images {
		for _, id := range same {
			out[id] = nil
		}
	}
	name := func(id inventory.ID, text string) {
		if have, isWanted := out[id]; isWanted && len(have) < mostNames && !slices.Contains(have, text) {
			out[id] = append(have, text)
		}
	}
	inRepository := func(r *inventory.Repository) {
		for _, tag := range r.Tags {
			if !tag.HasTarget {
				continue
			}
			text := r.Name + ":" + tag.Name
			name(tag.Target, text)
			if form, _ := f.Graph.Form(tag.Target); form.Kind == manifest.Index {
				for to := range f.Graph.Edges(tag.Target) {
					name(to, text)
				}
			}
		}
	}
	inRepository(f.Inventory.Repositories[repository])
	for i, r := range f.Inventory.Repositories {
		if i != repository {
			inRepository(r)
		}
	}
	return out
}
