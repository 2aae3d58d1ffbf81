package sweep

import (
	"context"
	"slices"

	"regsweep/inventory"
	"regsweep/storage/layout"
)

// lookedForUnlisted bounds how many missing blobs are looked at. A registry in order has
// none of them, and a listing with a hole seldom misses one alone.
const lookedForUnlisted = 100

// lookForUnlisted looks at live blobs that a link leads to and that were not listed. They
// are no candidates, so that none of them is lost; but where one is there, the listing has
// a hole, and it may not be the only one.
func (p *planner) lookForUnlisted(ctx context.Context) error {
	var ids []inventory.ID
	for i, live := range p.live.Repositories {
		r := p.inv.Repositories[i]
		for at, cause := range live.Layers.All() {
			id := r.Layers[at].ID()
			if p.inv.Listed(id) || !cause.Alive() {
				continue
			}
			if _, isAlias := r.Aliases[id]; !isAlias && !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
			if len(ids) == lookedForUnlisted {
				return p.reportUnlisted(ctx, ids)
			}
		}
	}
	return p.reportUnlisted(ctx, ids)
}

func (p *planner) reportUnlisted(ctx context.Context, ids []inventory.ID) error {
	looks, err := p.look(ctx, len(ids), func(i int) string { return layout.BlobPath(p.inv.Digest(ids[i])) })
	if err != nil {
		return err
	}
	for i := range ids {
		if !looks[i].isAbsent {
			p.Problems = append(p.Problems, inventory.UnlistedBlob(p.inv.Digest(ids[i])))
		}
	}
	return nil
}
