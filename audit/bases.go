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
	below   int            // index of the stack without the last layer
	base    int            // index of the highest stack below it that has images; 0 if there is none
	layers  int            // number of layers
	images  []inventory.ID // images with just these layers
	first   inventory.ID   // of images: it stands for all
	isShown bool           // one of the images is in the picture
	isBase  bool           // an image of the picture is based on them, or on what is based on them
}

// level is a stack on top of another.
type level struct {
	below int
	layer inventory.ID
}

// findBases returns the bases of the images of a picture and of their bases, and the images of all
// repositories whose base is in the picture.
func (f Facts) findBases(repository int, p *Picture) []Base {
	isShown := map[inventory.ID]bool{}
	for _, n := range p.Nodes {
		isShown[n.id] = true
	}
	stacks := f.stackImages(isShown)
	names := map[inventory.ID][]string{}
	for i := len(stacks) - 1; i > 0; i-- { // those that are based on a stack come before it
		s, base := &stacks[i], &stacks[stacks[i].base]
		base.isBase = base.isBase || s.isBase || s.isShown
		if base.isShown || s.isBase || s.isShown {
			for _, id := range s.images {
				names[id] = []string{}
			}
		}
	}
	f.addTags(repository, names)
	// The image with the highest rank stands for all that have the same layers.
	rank := func(id inventory.ID) (rank int) {
		for i, has := range []bool{len(names[id]) > 0, f.Inventory.Repositories[repository].HasRevision(id), isShown[id]} {
			if has {
				rank += 1 << i
			}
		}
		return rank
	}
	for i := range stacks {
		if s := &stacks[i]; len(s.images) > 0 {
			s.first = slices.MinFunc(s.images, func(a, b inventory.ID) int { return cmp.Or(rank(b)-rank(a), f.compareDigests(a, b)) })
		}
	}
	f.addRevisions(repository, names)
	bases := []Base{}
	for _, s := range stacks {
		base := stacks[s.base]
		if s.base == 0 {
			continue
		}
		for _, id := range s.images {
			if base.isShown || isShown[id] || s.isBase && id == s.first {
				bases = append(bases, Base{f.Inventory.Digest(id), f.Inventory.Digest(base.first), base.layers, names[id], names[base.first]})
			}
		}
	}
	slices.SortFunc(bases, func(a, b Base) int {
		return cmp.Or(cmp.Compare(a.Layers, b.Layers), slices.Compare(a.ImageNames, b.ImageNames), cmp.Compare(a.Image, b.Image))
	})
	return bases
}

// stackImages returns the stacks of all images that have their lowest layer in common with an image of a
// picture. All others are neither bases of that image nor based on it. The first stack has no layers. A stack
// comes after those below it.
func (f Facts) stackImages(isShown map[inventory.ID]bool) []stack {
	isLowest := map[inventory.ID]bool{}
	for id := range isShown {
		if layers := f.layersOf(id); len(layers) > 0 {
			isLowest[layers[0]] = true
		}
	}
	stacks, at := []stack{{}}, map[level]int{}
	for id := range f.Graph.Manifests() {
		layers := f.layersOf(id)
		if len(layers) == 0 || !isLowest[layers[0]] {
			continue
		}
		top := 0
		for _, layer := range layers {
			next, known := at[level{top, layer}]
			if !known {
				next = len(stacks)
				at[level{top, layer}] = next
				stacks = append(stacks, stack{below: top, layers: stacks[top].layers + 1})
			}
			top = next
		}
		s := &stacks[top]
		s.images, s.isShown = append(s.images, id), s.isShown || isShown[id]
	}
	for i := range stacks {
		s := &stacks[i]
		if s.base = s.below; len(stacks[s.base].images) == 0 {
			s.base = stacks[s.base].base
		}
	}
	return stacks
}

// mostNames is the number of names of an image in a Base.
const mostNames = 10

// addTags adds the tags of the images, and of the indexes that they are in. Those of one repository come first.
func (f Facts) addTags(repository int, names map[inventory.ID][]string) {
	add := func(id inventory.ID, name string) {
		if have, isWanted := names[id]; isWanted && len(have) < mostNames && !slices.Contains(have, name) {
			names[id] = append(have, name)
		}
	}
	for _, r := range f.from(repository) {
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
}

// addRevisions adds a name to images without a tag: REPO@DIGEST of the first repository that has them.
func (f Facts) addRevisions(repository int, names map[inventory.ID][]string) {
	for _, r := range f.from(repository) {
		for _, link := range r.Revisions {
			if have, isWanted := names[link.ID()]; isWanted && len(have) == 0 {
				names[link.ID()] = []string{r.Name + "@" + string(f.Inventory.Digest(link.ID()))}
			}
		}
	}
}

// from returns a repository, and then all.
func (f Facts) from(repository int) []*inventory.Repository {
	all := f.Inventory.Repositories
	return slices.Concat(all[repository:repository+1], all)
}
