package generate

import "github.com/opencontainers/go-digest"

// Garbage is what a correct collector finds.
type Garbage struct {
	Blobs           int
	Bytes           int64 // of the blobs
	Revisions       int
	LayerLinks      int
	TagIndexEntries int
}

// Keys is how many objects of a bucket go.
func (g Garbage) Keys() int { return g.Blobs + g.Revisions + g.LayerLinks + g.TagIndexEntries }

// Garbage tells what no tag and, unless untagged revisions go too, no revision reaches.
func (r *Registry) Garbage(deleteUntagged bool) Garbage {
	var garbage Garbage
	everywhere := map[digest.Digest]bool{}
	for _, repo := range r.repositories {
		alive := repo.alive(deleteUntagged)
		for d := range alive {
			everywhere[d] = true
		}
		for _, m := range repo.revisions.items {
			if !alive[m.digest] {
				garbage.Revisions++
			}
		}
		for _, d := range repo.layers.items {
			if !alive[d] {
				garbage.LayerLinks++
			}
		}
		for _, t := range repo.tags {
			for _, m := range t.index.items {
				if !alive[m.digest] {
					garbage.TagIndexEntries++
				}
			}
		}
	}
	for _, b := range r.blobs {
		if !everywhere[b.digest] {
			garbage.Blobs++
			garbage.Bytes += int64(len(b.content))
		}
	}
	return garbage
}

// alive is what one repository needs.
func (repo *repository) alive(deleteUntagged bool) map[digest.Digest]bool {
	referrers := map[*manifest][]*manifest{}
	for _, m := range repo.revisions.items {
		if m.subject != nil {
			referrers[m.subject] = append(referrers[m.subject], m)
		}
	}
	alive := map[digest.Digest]bool{}
	var visit func(m *manifest)
	visit = func(m *manifest) {
		if alive[m.digest] {
			return
		}
		alive[m.digest] = true
		for _, d := range m.blobs {
			alive[d] = true
		}
		for _, entry := range m.manifests {
			visit(entry)
		}
		for _, referrer := range referrers[m] {
			visit(referrer)
		}
	}
	for _, t := range repo.tags {
		visit(t.current)
	}
	if !deleteUntagged {
		for _, m := range repo.revisions.items {
			visit(m)
		}
	}
	return alive
}
