package generate

import "github.com/opencontainers/go-digest"

// Size counts what a registry is made of.
type Size struct {
	Repositories int
	Tags         int
	Blobs        int // manifests among them
	Manifests    int // distinct ones that a revision links
	Files        int // blobs and links: the objects of a bucket
}

// Size counts.
func (r *Registry) Size() Size {
	size := Size{Repositories: len(r.repositories), Blobs: len(r.blobs)}
	manifests := map[digest.Digest]bool{}
	for _, repo := range r.repositories {
		size.Tags += len(repo.tags)
		for _, m := range repo.revisions.items {
			manifests[m.digest] = true
		}
	}
	size.Manifests = len(manifests)
	for range r.Files() {
		size.Files++
	}
	return size
}
