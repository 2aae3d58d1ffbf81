package audit

import (
	"cmp"
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

// stack is a list of layers. The stacks below it are its beginnings.
type stack struct {
	below  int            // index of the stack without the last layer
	layers int            // number of layers
	images []inventory.ID // images with just these layers, that which represents them first
}

// level is a stack on top of another.
type level struct {
	below int
	layer inventory.ID
}

// findBases returns the bases of the images of a picture, and of their bases.
func (f Facts) findBases(repository int, p *Picture) []Base {
	stacks, at := []stack{{}}, map[level]int{} // the first stack has no layers
	for _, n := range p.Nodes {
		below := 0
		for _, layer := range f.layersOf(n.id) {
			next, known := at[level{below, layer}]
			if !known {
				next = len(stacks)
				at[level{below, layer}] = next
				stacks = append(stacks, stack{below: below, layers: stacks[below].layers + 1})
			}
			below = next
		}
	}
	for id := range f.Graph.Manifests() {
		last := 0
		for _, layer := range f.layersOf(id) {
			if last = at[level{last, layer}]; last == 0 {
				break // no image of the picture begins with these layers
			}
		}
		if last > 0 {
			stacks[last].images = append(stacks[last].images, id)
		}
	}
	names := f.imageNames(repository, stacks)
	r := f.Inventory.Repositories[repository]
	rank := func(id inventory.ID) (rank int) {
		for i, has := range []bool{len(names[id]) > 0, r.HasRevision(id), p.nodes[f.Inventory.Digest(id)] != nil} {
			if has {
				rank += 1 << i
			}
		}
		return rank
	}
	for _, s := range stacks {
		slices.SortFunc(s.images, func(a, b inventory.ID) int { return cmp.Or(rank(b)-rank(a), f.compareDigests(a, b)) })
	}
	bases := []Base{}
	for _, s := range stacks {
		base := stacks[s.below]
		for base.layers > 0 && len(base.images) == 0 {
			base = stacks[base.below]
		}
		if base.layers == 0 {
			continue
		}
		to := base.images[0]
		for i, id := range s.images {
			if of := f.Inventory.Digest(id); i == 0 || p.nodes[of] != nil {
				bases = append(bases, Base{of, f.Inventory.Digest(to), base.layers, names.of(id), names.of(to)})
			}
		}
	}
	slices.SortFunc(bases, func(a, b Base) int {
		return cmp.Or(cmp.Compare(a.Layers, b.Layers), slices.Compare(a.ImageNames, b.ImageNames), cmp.Compare(a.Image, b.Image))
	})
	return bases
}

// names are the names of images.
type names map[inventory.ID][]string

func (n names) of(id inventory.ID) []string { return append([]string{}, n[id]...) }

// mostNames is the number of names of an image in a Base.
const mostNames = 10

// imageNames returns the tags of the images, and of the indexes that they are in. Those of one repository
// come first.
func (f Facts) imageNames(repository int, stacks []stack) names {
	out := names{}
	for _, s := range stacks {
		for _, id := range s.images {
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
