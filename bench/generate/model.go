// Package generate makes registries for the comparison: the same seed and shape make
// the same registry, byte for byte, on a filesystem and in a bucket. It keeps the
// registry as a graph, so that it can say what is garbage in it without reading it
// again and without sharing a line with the collector (garbage.go).
package generate

import (
	"github.com/opencontainers/go-digest"
)

// Registry is a registry before it is written anywhere. It is not changed once made.
type Registry struct {
	repositories []*repository
	blobs        []blob // all that is stored, each digest once, in the order of pushes
	stored       map[digest.Digest]bool
}

// blob is stored content, a manifest's too.
type blob struct {
	digest  digest.Digest
	content []byte
}

// manifest is a manifest or an index.
type manifest struct {
	digest    digest.Digest
	mediaType string
	size      int
	blobs     []digest.Digest // config and layers
	manifests []*manifest     // an index's entries
	subject   *manifest       // nil unless it is a referrer
}

// repository is what is linked below one name.
type repository struct {
	name      string
	revisions ordered[*manifest]
	deleted   ordered[*manifest] // through the API, which leaves an empty directory each
	layers    ordered[digest.Digest]
	tags      []tag
}

// tag points at a manifest, and remembers at what it has pointed.
type tag struct {
	name    string
	current *manifest
	index   ordered[*manifest]
}

// ordered is a set that remembers in which order it was filled.
type ordered[T comparable] struct {
	items []T
	has   map[T]bool
}

func (o *ordered[T]) add(item T) {
	if o.has[item] {
		return
	}
	if o.has == nil {
		o.has = map[T]bool{}
	}
	o.has[item] = true
	o.items = append(o.items, item)
}

// store keeps content under its digest.
func (r *Registry) store(content []byte) digest.Digest {
	d := digest.FromBytes(content)
	if !r.stored[d] {
		r.stored[d] = true
		r.blobs = append(r.blobs, blob{d, content})
	}
	return d
}

// push links a manifest and all that it reaches, as a registry does.
func (repo *repository) push(m *manifest) {
	for _, d := range m.blobs {
		repo.layers.add(d)
	}
	for _, entry := range m.manifests {
		repo.push(entry)
	}
	repo.revisions.add(m)
}

// tag points a tag at the last of some manifests, after all the others.
func (repo *repository) tag(name string, history ...*manifest) {
	t := tag{name: name, current: history[len(history)-1]}
	for _, m := range history {
		t.index.add(m)
	}
	repo.tags = append(repo.tags, t)
}

// remove deletes a manifest and an index's entries through the API: their revision
// links go, their blobs and layer links stay.
func (repo *repository) remove(m *manifest) {
	for _, entry := range m.manifests {
		repo.remove(entry)
	}
	repo.deleted.add(m)
	kept := ordered[*manifest]{}
	for _, revision := range repo.revisions.items {
		if revision != m {
			kept.add(revision)
		}
	}
	repo.revisions = kept
}
