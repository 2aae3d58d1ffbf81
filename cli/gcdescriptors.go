package cli

import (
	"context"
	"errors"
	"fmt"

	"regsweep/descriptors"
	"regsweep/sweep"
)

const leaveCacheName = "leave-cache"

// openDescriptors connects to the Redis in which the registry keeps descriptors. It returns nil if the
// registry keeps none there, or if the operator flushes it.
func (g *gcRun) openDescriptors(ctx context.Context) (*descriptors.Redis, error) {
	if registry := g.config.Registry; registry != nil && registry.Redis != nil && !g.options.leaveCache {
		return descriptors.Open(ctx, registry.Redis)
	}
	return nil, nil
}

// forgetAgain deletes the keys of removed blobs a second time, even if err has stopped the sweep. It returns
// err. If the keys cannot be deleted, conclude adds that to err.
func (g *gcRun) forgetAgain(ctx context.Context, cache *descriptors.Redis, plan *sweep.Plan, err error) error {
	r := g.report.Descriptors
	if r == nil || g.report.result == nil {
		return err
	}
	if cache == nil {
		r.Stale = countsByKind(g.report.result.Removed) != "nothing"
		return err
	}
	g.stale = cache.ForgetAgain(ctx, plan)
	r.Deleted, r.Stale = cache.Deleted, g.stale != nil
	return err
}

// withStale adds to the error of a run that Redis still knows what was removed. That comes first: it harms
// images that are pushed from now on.
func (g *gcRun) withStale(err error) error {
	switch {
	case g.stale == nil:
		return err
	case err == nil || errors.Is(err, errProblems): // the report has the problems
		return g.stale
	}
	return fmt.Errorf("%w; also: %w", g.stale, err)
}
