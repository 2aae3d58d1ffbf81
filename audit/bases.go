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
	// repository first. An untagged image has the name REPO@DIGEST, if a repository has a link to it.
	ImageNames []string `json:"image_names"`
	BaseNames  []string `json:"base_names"`
}

// findBases returns the bases of the images of a picture and of their bases, and the images of all
// repositories whose base is in the picture.
func (f Facts) findBases(repository int, p *Picture) []Base {
	isShown := map[inventory.ID]bool{}
	for _, n := range p.Nodes {
		isShown[n.id] = true
	}
	nearest := f.nearestBases(f.allImages(repository, p), isShown)
	names := map[inventory.ID][]string{} // of the images that are wanted
	for id, n := range nearest {
		isWanted := isShown[id] || isShown[n.base]
		for isWanted && names[id] == nil {
			names[id] = []string{}
			id, isWanted = nearest[id].base, nearest[id].layers > 0 // a base is wanted too
		}
	}
	f.addNames(repository, names)
	bases := []Base{}
	for id := range names {
		if n := nearest[id]; n.layers > 0 {
			bases = append(bases, Base{f.Inventory.Digest(id), f.Inventory.Digest(n.base), n.layers, names[id], names[n.base]})
		}
	}
	slices.SortFunc(bases, func(a, b Base) int {
		return cmp.Or(cmp.Compare(a.Layers, b.Layers), slices.Compare(a.ImageNames, b.ImageNames), cmp.Compare(a.Image, b.Image))
	})
	return bases
}

// allImages returns all manifests. One that stands for all with the same layers comes before them: those that
// are shown, then those of the shown repository, and then those with a tag. A manifest may be there several times.
func (f Facts) allImages(repository int, p *Picture) (ids []inventory.ID) {
	for _, n := range p.Nodes {
		ids = append(ids, n.id)
	}
	for at, r := range f.from(repository) {
		for _, tag := range r.Tags {
			ids = append(ids, f.tagged(tag)...)
		}
		if at == 0 {
			for _, link := range r.Revisions {
				ids = append(ids, link.ID())
			}
		}
	}
	for id := range f.Graph.Manifests() {
		ids = append(ids, id)
	}
	return ids
}

// nearest is the base of an image, and its number of layers.
type nearest struct {
	base   inventory.ID
	layers int
}

// stack is a list of layers: those of the stack with the number below, and one more. Numbers begin at 1. Stack 0 has
// no layers. So each stack needs the same memory, however many layers are below it.
type stack struct {
	below int
	layer inventory.ID
}

// nearestBases returns the bases of images. The shown ones come first. It leaves out images whose lowest layer no
// shown image has: they are neither bases of a shown image nor based on one.
func (f Facts) nearestBases(images []inventory.ID, isShown map[inventory.ID]bool) map[inventory.ID]nearest {
	numbers := map[stack]int{}
	first := map[int]inventory.ID{} // by number of a stack: it stands for all images with just these layers
	layers, isSeen := map[inventory.ID][]inventory.ID{}, make([]bool, f.Inventory.Digests())
	for _, id := range images {
		if isSeen[id] {
			continue
		}
		isSeen[id] = true
		of := f.layersOf(id)
		if len(of) == 0 || !isShown[id] && numbers[stack{0, of[0]}] == 0 {
			continue
		}
		layers[id] = of
		at := 0
		for _, layer := range of {
			next := stack{at, layer}
			if numbers[next] == 0 {
				numbers[next] = len(numbers) + 1
			}
			at = numbers[next]
		}
		if _, found := first[at]; !found {
			first[at] = id
		}
	}
	bases := map[inventory.ID]nearest{}
	for id, of := range layers {
		at := 0
		for i, layer := range of[:len(of)-1] {
			at = numbers[stack{at, layer}]
			if base, found := first[at]; found {
				bases[id] = nearest{base, i + 1}
			}
		}
	}
	return bases
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

// mostNames is the number of names of an image in a Base.
const mostNames = 10

// addNames adds the names of images: their tags, those of one repository first, or else REPO@DIGEST of the first
// repository that has them.
func (f Facts) addNames(repository int, names map[inventory.ID][]string) {
	for _, r := range f.from(repository) {
		for _, tag := range r.Tags {
			name := r.Name + ":" + tag.Name
			for _, id := range f.tagged(tag) {
				if have := names[id]; have != nil && len(have) < mostNames && !slices.Contains(have, name) {
					names[id] = append(have, name)
				}
			}
		}
	}
	for _, r := range f.from(repository) {
		for _, link := range r.Revisions {
			if have := names[link.ID()]; have != nil && len(have) == 0 {
				names[link.ID()] = []string{r.Name + "@" + string(f.Inventory.Digest(link.ID()))}
			}
		}
	}
}

// tagged returns the manifest that a tag points to, and those in its index.
func (f Facts) tagged(tag inventory.Tag) (ids []inventory.ID) {
	if !tag.HasTarget {
		return nil
	}
	ids = append(ids, tag.Target)
	if form, _ := f.Graph.Form(tag.Target); form.Kind == manifest.Index {
		for to := range f.Graph.Edges(tag.Target) {
			ids = append(ids, to)
		}
	}
	return ids
}

// from returns a repository, and then all.
func (f Facts) from(repository int) []*inventory.Repository {
	all := f.Inventory.Repositories
	return slices.Concat(all[repository:repository+1], all)
}
