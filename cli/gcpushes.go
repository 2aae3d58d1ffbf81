package cli

import (
	"context"
	"fmt"
	"time"

	"regsweep/guard"
	"regsweep/inventory"
	"regsweep/sweep"
)

// pushCheck finds pushes that begin during a removal. The proof does not see those through a
// registry that nobody named, nor those to a registry that was writable between two probes.
type pushCheck struct {
	*gcRun
	pushes *inventory.Pushes
	next   time.Time
}

// newPushCheck is for pushes from now on. With --unsafe-online there may be some.
func (g *gcRun) newPushCheck(ctx context.Context, listed *inventory.Inventory, plan *sweep.Plan) (*pushCheck, error) {
	if g.options.unsafe {
		return &pushCheck{gcRun: g, pushes: &inventory.Pushes{}}, nil
	}
	pushes, err := inventory.NewPushes(ctx, g.store, listed, plan.RemovedRevisions, g.env.Now())
	return &pushCheck{gcRun: g, pushes: pushes}, err
}

// sometimes checks before a batch of blobs. It takes at most a twentieth of the time.
func (c *pushCheck) sometimes(ctx context.Context) error {
	if c.env.Now().Before(c.next) {
		return nil
	}
	return c.check(ctx)
}

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
