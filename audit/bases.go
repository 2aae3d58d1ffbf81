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
	base   int            // index of the highest stack below it that has images; 0 if there is none
	layers int            // number of layers
	images []inventory.ID // images with just these layers. The first one stands for all
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
	// The image with the highest rank stands for all that have the same layers.
	rank := func(id inventory.ID) (rank int) {
		for i, has := range []bool{len(names[id]) > 0, r.HasRevision(id), p.nodes[f.Inventory.Digest(id)] != nil} {
			if has {
				rank += 1 << i
			}
		}
		return rank
	}
	bases := []Base{}
	for i := range stacks { // those below a stack come before it
		s, below := &stacks[i], stacks[stacks[i].below]
		slices.SortFunc(s.images, func(a, b inventory.ID) int { return cmp.Or(rank(b)-rank(a), f.compareDigests(a, b)) })
		if s.base = s.below; len(below.images) == 0 {
			s.base = below.base
		}
		if s.base == 0 {
			continue
		}
		base := stacks[s.base]
		to := base.images[0]
		for i, id := range s.images {
			if of := f.Inventory.Digest(id); i == 0 || p.nodes[of] != nil {
				bases = append(bases, Base{of, f.Inventory.Digest(to), base.layers, names[id], names[to]})
			}
		}
	}
	slices.SortFunc(bases, func(a, b Base) int {
		return cmp.Or(cmp.Compare(a.Layers, b.Layers), slices.Compare(a.ImageNames, b.ImageNames), cmp.Compare(a.Image, b.Image))
	})
	return bases
}

// mostNames is the number of names of an image in a Base.
const mostNames = 10

// imageNames returns the tags of the images, and of the indexes that they are in. Those of one repository
// come first.
func (f Facts) imageNames(repository int, stacks []stack) map[inventory.ID][]string {
	names := map[inventory.ID][]string{}
	for _, s := range stacks {
		for _, id := range s.images {
			names[id] = []string{}
		}
	}
	add := func(id inventory.ID, name string) {
		if have, isWanted := names[id]; isWanted && len(have) < mostNames && !slices.Contains(have, name) {
			names[id] = append(have, name)
		}
	}
	all := f.Inventory.Repositories
	for _, r := range slices.Concat(all[repository:repository+1], all) {
		for _, tag := range r.Tags {
			if !tag.HasTarget {
				continue
			}
			name := r.Name + ":" + tag.Name
			add(tag.Target, name)
			if form, _ := f.Graph.Form(tag.Target); form.Kind == manifest.Index {
				for to := range f.Graph.Edges(tag.Target) {
					add(to, name)
				}
			}
		}
	}
	return names
}
