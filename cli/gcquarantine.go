package cli

import (
	"context"
	"fmt"

	"regsweep/quarantine"
	"regsweep/storage"
	"regsweep/sweep"
)

const quarantineName = "quarantine"

// quarantined tells where a run has moved what it took; of a dry run it tells that it
// would.
type quarantined struct {
	Run string `json:"run,omitempty"`
	// Hidden is set where a bucket keeps versions: nothing is moved then, and what goes is
	// hidden behind delete markers.
	Hidden bool `json:"hidden"`
	// Absent counts the objects that were gone already. They count as removed, and are not in
	// the quarantine.
	Absent int64 `json:"absent,omitempty"`
}

// checkQuarantine finds out before anything is moved whether that would fail half way.
func (g *gcRun) checkQuarantine(ctx context.Context, plan *sweep.Plan) error {
	if !g.options.quarantine || plan.Len() == 0 {
		return nil
	}
	return quarantine.Check(ctx, g.store, plan)
}

// explainFull says what a quarantine needs of a disk that is full. A removal needs nothing.
func (g *gcRun) explainFull(err error) error {
	if !g.options.quarantine || !storage.IsFull(err) {
		return err
	}
	return fmt.Errorf("%w: the plan and the directories of a quarantine take some space and inodes of the storage: "+
		"free some, or run without --quarantine, which takes none", err)
}

// endQuarantine makes what was taken safe, also where err has stopped the run. err decides how the
// run ends.
func (g *gcRun) endQuarantine(ctx context.Context, taker *quarantine.Taker, err error) error {
	if taker == nil {
		return err
	}
	g.report.Quarantine.Absent = taker.Absent()
	ended := taker.End(context.WithoutCancel(ctx))
	g.report.Quarantine.Run = taker.Run // "" if it has taken nothing
	if err == nil {
		return ended
	}
	if ended != nil {
		g.progress.note(ended.Error())
	}
	return err
}
