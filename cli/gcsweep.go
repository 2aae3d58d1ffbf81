package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"regsweep/guard"
	"regsweep/inventory"
	"regsweep/quarantine"
	"regsweep/storage"
	"regsweep/sweep"
)

// checkListing lists the names again. It returns an error if the listing was not complete. It begins
// to check for pushes before that, so that the returned check finds each push after the second listing.
func (g *gcRun) checkListing(ctx context.Context, survey inventory.Survey, inv *inventory.Inventory, plan *sweep.Plan) (*pushCheck, error) {
	if g.options.unsafe { // pushes are allowed, and --min-age protects them
		return &pushCheck{env: g.env, pushes: &inventory.Pushes{}}, nil
	}
	pushes, err := inventory.NewPushes(ctx, g.store, inv, plan.RemovedRevisions, g.env.Now())
	if err != nil {
		return nil, err
	}
	return &pushCheck{env: g.env, pushes: pushes}, g.listAgain(ctx, survey, inv, plan)
}

// listAgain returns inventory.ErrIncomplete if the listing lacks a name. A listing cannot show its own
// gaps, so it is compared with the survey before it, with what was read since, and with a second listing
// of the names that keep blobs alive.
func (g *gcRun) listAgain(ctx context.Context, survey inventory.Survey, inv *inventory.Inventory, plan *sweep.Plan) error {
	if plan.Len() == 0 {
		return nil
	}
	if missing := survey.Lacks(inv); missing != "" {
		return fmt.Errorf("%w: %s", inventory.ErrIncomplete, missing)
	}
	for _, p := range plan.Problems {
		if p.Kind == inventory.Unlisted {
			return fmt.Errorf("%w: %s", inventory.ErrIncomplete, p.Path)
		}
	}
	phase := g.progress.Begin("listing once more", "", 0)
	err := inventory.ListAgain(ctx, g.store, inv)
	phase.End("")
	return err
}

// chooseRemover returns what removes the objects of the plan: a quarantine, the remover of versions if
// there is one, or the store itself. A taker that is not nil must be ended, also if there is an error.
func (g *gcRun) chooseRemover(ctx context.Context, plan *sweep.Plan, versions storage.Remover) (storage.Remover, *quarantine.Taker, error) {
	switch {
	case g.options.quarantine && plan.Len() > 0: // empty directories alone are not restored
		taker, err := quarantine.Begin(ctx, g.store, plan, g.env.Now(), rand.Reader)
		if err != nil {
			return nil, taker, err
		}
		g.report.Quarantine.Run, g.report.Quarantine.Hidden = taker.Run, taker.Hides()
		return taker, taker, nil
	case versions != nil:
		return versions, nil, nil
	}
	return g.store, nil, nil
}

// execute removes the objects of the plan, and checks for pushes at the end. If the time is used up and
// something was removed, that is no error.
func (g *gcRun) execute(ctx context.Context, plan *sweep.Plan, remover storage.Remover, pushes *pushCheck) error {
	phase := g.progress.Begin(g.report.verb("removing", "moving", "hiding"), "", plan.Len())
	if !g.report.moves() { // a move frees no bytes
		phase.ExpectBytes(tallies(plan.Garbage).bytes() - plan.HardLinked.Bytes)
	}
	result, err := plan.Execute(guard.NoneAfter(ctx), remover, sweep.ExecuteOptions{
		Bulk:        g.store.Bulk(),
		OnRemoved:   func(_ sweep.Kind, tally sweep.Tally) { phase.AddBytes(tally.Count, tally.Bytes) },
		BeforeBlobs: pushes.checkIfDue, // no link is removed while it checks
	})
	phase.EndWith(g.report.verb("removed", "moved", "hidden"), err)
	if errors.Is(err, guard.ErrTimeUp) && result.Len() > 0 {
		g.report.Budget.Ended, err = endedByTime, nil
		ctx = context.WithoutCancel(ctx) // for the last check
	}
	g.report.executed(result, err)
	if err == nil && result.Len() > 0 {
		err = pushes.check(ctx)
	}
	return err
}

// endWatch ends the watch of the proof. It returns the error of the sweep: the cause if the lock or the
// proof was lost, and err otherwise.
func (g *gcRun) endWatch(watched context.Context, stop func() error, err error) error {
	err = withCause(watched, g.explainFull(err))
	if lost := stop(); err == nil {
		return lost
	}
	return err
}

// explainFull adds to the error of a full disk that a quarantine takes space. A removal takes none.
func (g *gcRun) explainFull(err error) error {
	if !g.options.quarantine || !storage.IsFull(err) {
		return err
	}
	return fmt.Errorf("%w: the plan and the directories of a quarantine take some space and inodes of the storage: "+
		"free some, or run without --quarantine, which takes none", err)
}

// moveReport is the part of the report about the quarantine of a run. In a dry run only Hidden can be
// set.
type moveReport struct {
	Run string `json:"run,omitempty"`
	// Hidden is true if the bucket keeps versions: then the garbage is not moved but hidden behind
	// delete markers.
	Hidden bool `json:"hidden"`
	// Absent counts the objects that were gone already. They count as removed, and are not in the
	// quarantine.
	Absent int64 `json:"absent,omitempty"`
}

// endQuarantine completes the quarantine, even if err has stopped the run. It returns err, or if err is
// nil the error of the quarantine. A nil taker means that there is no quarantine.
func (g *gcRun) endQuarantine(ctx context.Context, taker *quarantine.Taker, err error) error {
	if taker == nil {
		return err
	}
	g.report.Quarantine.Absent = taker.Absent()
	ended := taker.End(context.WithoutCancel(ctx))
	g.report.Quarantine.Run = taker.Run // "" if the quarantine is empty
	if err == nil {
		return ended
	}
	if ended != nil {
		g.say(ended.Error())
	}
	return err
}

// pushCheck finds pushes during a removal. The proof does not find a push through a registry that nobody
// named, or a push to a registry that was writable between two probes.
type pushCheck struct {
	env    Env
	pushes *inventory.Pushes
	next   time.Time // checkIfDue checks again after this time
}

// checkIfDue checks before a batch of blobs, if the last check was long enough ago. All checks take at
// most a twentieth of the time.
func (c *pushCheck) checkIfDue(ctx context.Context) error {
	if c.env.Now().Before(c.next) {
		return nil
	}
	return c.check(ctx)
}

// check returns a guard.PushedError if somebody has pushed since checkListing.
func (c *pushCheck) check(ctx context.Context) error {
	began := c.env.Now()
	push, err := c.pushes.Find(ctx, began)
	if err != nil {
		return fmt.Errorf("look for pushes during the removal: %w", err)
	}
	if push != nil {
		return guard.PushedError(guard.Upload{Repository: push.Repository, Touched: push.Touched})
	}
	ended := c.env.Now()
	c.next = ended.Add(max(5*c.env.ProbeInterval, 20*ended.Sub(began)))
	return nil
}
