package cli

import (
	"context"
	"fmt"

	"regsweep/inventory"
	"regsweep/sweep"
)

// listAgain looks for what the listing has missed, which nothing in it can tell: by what
// was seen before it and since, and by a second one of the names that keep something alive.
// Where somebody may be pushing, what is new is no fault, and --min-age has to do.
func (g *gcRun) listAgain(ctx context.Context, survey inventory.Survey, listed *inventory.Inventory, plan *sweep.Plan) error {
	if g.options.unsafe || plan.Len() == 0 {
		return nil
	}
	if missing := survey.Lacks(listed); missing != "" {
		return fmt.Errorf("%w: %s", inventory.ErrIncomplete, missing)
	}
	for _, p := range plan.Problems {
		if p.Kind == inventory.Unlisted {
			return fmt.Errorf("%w: %s", inventory.ErrIncomplete, p.Path)
		}
	}
	phase := g.progress.begin("listing once more", "", 0)
	err := inventory.ListAgain(ctx, g.store, listed)
	phase.end("")
	return err
}
