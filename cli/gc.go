package cli

import (
	"context"
	"time"

	"regsweep/descriptors"
	"regsweep/guard"
	"regsweep/metrics"
	"regsweep/storage"
	"regsweep/storage/config"

	urfave "github.com/urfave/cli/v2"
)

// gcRun is one run of gc or apply. gc may remove all garbage, and apply only garbage that is in its
// plan. After prepare no step changes a field, except that the steps add to the report. No step reads
// the report to decide what is removed.
type gcRun struct {
	*runner
	options  gcOptions
	lists    rootLists   // the lists of images in use
	policy   *policyRun  // the policy; nil without one
	review   *review     // the plan of apply; nil for gc
	window   *heldWindow // nil unless the command is window
	finished bool        // see finish
	planFile *outputFile // the file of gc --plan; nil without it
	deadline time.Time   // see setBudget; zero without a limit
	config   config.Config
	store    storage.Store
	report   *report
	metrics  *metrics.File
	began    time.Time
	stale    error // Redis may still have keys of what was removed; nil if not
}

// collect prepares a run, carries it out, and reports it.
// wrong is an error in the arguments, or nil.
func (r *runner) collect(c *urfave.Context, g *gcRun, target []string, wrong error) error {
	g.runner, g.began = r, r.env.Now()
	g.report.DryRun = g.options.dryRun
	r.startProgress(g.options.quiet)
	var err error
	if g.metrics, err = r.openMetrics(c, g.report.Command, target); err == nil {
		err = wrong
	}
	if err == nil {
		err = g.setBudget(r.env.Now())
	}
	ctx, stopDeadline := guard.Until(c.Context, g.deadline, r.env.Now)
	defer stopDeadline()
	c.Context = ctx
	stopHint := context.AfterFunc(ctx, func() { g.hintStopping(context.Cause(ctx)) })
	var proof guard.Options
	if err == nil {
		proof, err = g.prepare(c, target)
	}
	switch {
	case err != nil:
	case g.window != nil:
		err = g.window.hold(ctx, g, proof)
	default:
		err = g.run(ctx, proof)
	}
	g.discardFiles()
	if g.store != nil {
		err = storage.ExplainPermission(g.store, err)
	}
	stopHint()
	return g.conclude(g.endMetrics(g.finish(ctx, err)))
}

// run does the steps of a run in their order: prove, lock, list, mark, plan, confirm, prove again, list
// again, remove. A dry run makes the same plan and stops there.
//
// The proof comes before the listing. Suppose that somebody pushes after a repository was listed. The
// push can make a blob alive that the listing shows as garbage. So from the start nobody may be able to
// push.
func (g *gcRun) run(ctx context.Context, proof guard.Options) (err error) {
	reader, closeCache, err := g.openCache(ctx, g.store, g.options.cache, &g.report.cacheReport)
	if err != nil {
		return err
	}
	defer closeCache()
	admitted, err := g.admit(ctx, proof)
	if err != nil {
		return err
	}
	var cache *descriptors.Redis
	if admitted.mayRemove {
		var unlock func(error) error
		if ctx, unlock, err = g.lockForRun(ctx); err != nil {
			return err
		}
		defer func() { err = unlock(err) }()
		if cache, err = g.openDescriptors(ctx); err != nil {
			return err
		}
		defer cache.Close()
	}

	now := g.env.Now()
	inv, ahead, err := g.list(ctx, reader, now)
	if err != nil {
		return err
	}
	if proof, err = g.withListing(ctx, admitted.proof, inv); err != nil {
		return err
	}
	only, err := g.review.selection(ctx, inv, g.store)
	if err != nil {
		return err
	}
	lists, err := g.findListRoots(inv)
	if err != nil {
		return err
	}
	held, err := g.findProtected(inv)
	if err != nil {
		return err
	}
	live, decision, err := g.mark(ctx, reader, now, inv, ahead, only, lists, held)
	closeCache()
	if err != nil {
		return err
	}
	plan, err := g.plan(ctx, now, inv, live, decision, only)
	if err != nil {
		return err
	}
	proof = g.withKeptSamples(proof, inv, live, lists)
	if err := g.review.compare(plan, g.report); err != nil {
		return err
	}
	versions, err := g.findVersions(ctx, plan)
	if err != nil {
		return err
	}
	if err := g.accept(ctx, plan, inv); err != nil {
		return err
	}
	if !admitted.mayRemove || plan.Idle() {
		return admitted.refused
	}

	if err := g.confirm(ctx, proof, plan); err != nil {
		return err
	}
	defer stopwatch(g.env.Now, &g.report.Seconds.Sweep)()
	if err := g.prove(ctx, proof); err != nil {
		return err
	}
	watched, stop := guard.Watch(ctx, proof, g.env.ProbeInterval, nil)
	pushes, err := g.checkListing(watched, admitted.survey, inv, plan)
	if err == nil {
		err = cache.Forget(watched, plan)
	}
	if err != nil {
		return g.endWatch(watched, stop, err)
	}
	remover, taker, err := g.chooseRemover(watched, plan, versions)
	if err == nil {
		err = g.execute(watched, plan, remover, pushes)
	}
	err = g.endQuarantine(ctx, taker, g.endWatch(watched, stop, err))
	return g.forgetAgain(ctx, cache, plan, err)
}
