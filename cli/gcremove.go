package cli

import (
	"context"
	"crypto/rand"

	"regsweep/quarantine"
	"regsweep/storage"
	"regsweep/sweep"
)

// remover is what removes: the quarantine that takes what goes, what removes all versions or knows
// what a removal destroys, or the store itself.
func (g *gcRun) remover(ctx context.Context, plan *sweep.Plan, versions storage.Remover) (storage.Remover, *quarantine.Taker, error) {
	switch {
	case g.options.quarantine && plan.Len() > 0: // empty directories are nothing to restore
		taker, err := quarantine.Begin(ctx, g.store, plan, g.env.Now(), rand.Reader)
		if err != nil {
			return nil, taker, err // a taker that is there has to end
		}
		g.report.Quarantine.Run, g.report.Quarantine.Hidden = taker.Run, taker.Hides()
		return taker, taker, nil
	case versions != nil:
		return versions, nil, nil
	}
	return g.store, nil, nil
}

// execute removes what the plan lists.
func (g *gcRun) execute(ctx context.Context, plan *sweep.Plan, remover storage.Remover, pushes *pushCheck) error {
	phase := g.progress.begin(g.verb("removing", "moving", "hiding"), "", plan.Len())
	if !g.report.moves() { // which frees nothing
		phase.expectBytes(tallies(plan.Garbage).bytes() - plan.HardLinked.Bytes)
	}
	result, err := plan.Execute(ctx, remover, sweep.ExecuteOptions{
		Bulk:      g.store.Bulk(),
		OnRemoved: func(_ sweep.Kind, tally sweep.Tally) { phase.addBytes(tally.Count, tally.Bytes) },
		// Links are not removed then.
		BeforeBlobs: pushes.sometimes,
	})
	phase.endWith(g.verb("removed", "moved", "hidden"), err)
	g.report.executed(result, err)
	if err == nil && result.Len() > 0 {
		err = pushes.check(ctx)
	}
	return err
}

// verb is what happens to what goes.
func (g *gcRun) verb(remove, move, hide string) string {
	switch {
	case !g.report.moves():
		return remove
	case g.report.Quarantine.Hidden:
		return hide
	}
	return move
}
