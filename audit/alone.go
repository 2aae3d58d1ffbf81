package audit

import (
	"context"

	"regsweep/inventory"
	"regsweep/mark"
)

// Alone returns what the removal of each tag alone would free, in addition to what a run with these roots frees
// without removing any tag. Of facts, Inventory and Graph are used. The error is the cause of ctx.
func Alone(ctx context.Context, facts Facts, roots mark.Roots) (*Freed, error) {
	roots.Tag, roots.Removed = nil, nil
	live, err := facts.Graph.Live(ctx, roots)
	if err != nil {
		return nil, err
	}
	facts.Live = live
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
	return &Freed{keepers}, nil
}

// Freed is what the removal of each tag alone would free.
type Freed struct{ keepers *Keepers }

// Bytes returns the sums of sizes, by tag. It may be called when more sizes are known than for Alone.
func (f *Freed) Bytes(size func(inventory.ID) int64) func(inventory.TagPlace) int64 {
	sums := f.keepers.unique(size)
	return func(at inventory.TagPlace) int64 { return sums[f.keepers.begin[at.Repository]+at.Tag] }
}
