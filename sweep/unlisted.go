package sweep

import (
	"context"
	"slices"

	"regsweep/inventory"
	"regsweep/storage/layout"
)

// maxUnlistedChecks is the maximum number of blobs that checkUnlisted stats. An intact registry has
// no such blobs. A listing that misses blobs usually misses many.
const maxUnlistedChecks = 100

// checkUnlisted stats live blobs that have a link and were not listed. If one exists, the listing was
// incomplete, and the plan reports a problem. These blobs are not candidates, so none is lost.
func (p *planner) checkUnlisted(ctx context.Context) error {
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
			if len(ids) == maxUnlistedChecks {
				return p.reportUnlisted(ctx, ids)
			}
		}
	}
	return p.reportUnlisted(ctx, ids)
}

func (p *planner) reportUnlisted(ctx context.Context, ids []inventory.ID) error {
	stats, err := p.statPaths(ctx, len(ids), func(i int) string { return layout.BlobPath(p.inv.Digest(ids[i])) })
	if err != nil {
		return err
	}
	for i := range ids {
		if !stats[i].isAbsent {
			p.Problems = append(p.Problems, inventory.UnlistedBlob(p.inv.Digest(ids[i])))
		}
	}
	return nil
}
