package audit

import (
	"context"

	"regsweep/inventory"
	"regsweep/mark"
)

// Alone returns what the removal of each tag alone would free, in addition to what a run with these roots frees
// without removing any tag. Of facts, Inventory and Graph are used. The error is the cause of ctx.
func Alone(ctx context.Context, facts Facts, roots mark.Roots) (freed func(inventory.TagPlace) int64, err error) {
	roots.Tag, roots.Removed = nil, nil
	if facts.Live, err = facts.Graph.Live(ctx, roots); err != nil {
		return nil, err
	}
	roots.Removed = func(int, int) bool { return true }
	without, err := facts.Graph.Live(ctx, roots)
	if err != nil {
		return nil, err
	}
	facts.Followers = roots.Followers
	facts.isKept = func(id inventory.ID) bool { // by a list, an untagged manifest, damage or its age
		return without.Blob(id).Alive() || !facts.Live.Blob(id).Alive() || facts.Inventory.Recent(id) || facts.Inventory.HardLinked(id)
	}
	keepers, err := NewKeepers(ctx, facts)
	if err != nil {
		return nil, err
	}
	return func(at inventory.TagPlace) int64 { return keepers.Of(at.Repository)[at.Tag].Unique }, nil
}
