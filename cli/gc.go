package cli

import (
	"context"

	"regsweep/guard"
	"regsweep/quarantine"
	"regsweep/storage"
	"regsweep/storage/config"

	urfave "github.com/urfave/cli/v2"
)

// gcRun is what a run of gc or apply was asked for, and where it tells what it finds. They differ
// in what the plan may have in it: everything, or what a file has. After prepare no step changes a
// field; the report is for the user alone, and nothing is decided by it.
type gcRun struct {
	*runner
	options  gcOptions
	lists    rootLists // what the user says is in use
	review   *review   // nil for gc
	planFile *planFile
	config   config.Config
	store    storage.Store
	report   *report
}

func (r *runner) gc(c *urfave.Context) error {
	return r.collect(c, &gcRun{options: readGCOptions(c), report: newReport("gc")}, c.Args().Slice())
}

// collect carries a run of gc or apply through to its report.
func (r *runner) collect(c *urfave.Context, g *gcRun, target []string) error {
	g.runner = r
	g.report.DryRun = g.options.dryRun
	r.startProgress(g.options.quiet)
	quiet := context.AfterFunc(c.Context, g.interrupted)
	proof, err := g.prepare(c, target)
	if err == nil {
		err = g.run(c.Context, proof)
	}
	g.discardFiles()
	if g.store != nil {
		err = storage.ExplainPermission(g.store, err)
	}
	quiet()
	return g.conclude(withCause(c.Context, err))
}

// run is a run from its first look at the storage to its last removal: prove, lock, list, mark,
// plan, confirm, prove again, list again, remove. A dry run makes the same plan and stops there.
//
// The proof comes before the listing. A push after a repository was listed could make a blob alive
// again that the listing has as unreferenced, so it must be known from the start that nobody can
// push.
func (g *gcRun) run(ctx context.Context, proof guard.Options) (err error) {
	reader, closeCache, err := g.openCache(ctx)
	if err != nil {
		return err
	}
	defer closeCache()
	admitted, err := g.admit(ctx, proof)
	if err != nil {
		return err
	}
	if admitted.mayRemove {
		var unlock func(error) error
		if ctx, unlock, err = g.lock(ctx, g.store, g.report.Command); err != nil {
			return err
		}
		defer func() { err = unlock(err) }()
	}

	now := g.env.Now()
	listed, ahead, err := g.list(ctx, reader, now)
	if err != nil {
		return err
	}
	if proof, err = g.withListing(ctx, admitted.proof, listed); err != nil {
		return err
	}
	only, err := g.review.selection(ctx, listed, g.store)
	if err != nil {
		return err
	}
	roots, err := g.findRoots(listed)
	if err != nil {
		return err
	}
	live, err := g.mark(ctx, reader, listed, ahead, only, roots)
	closeCache()
	if err != nil {
		return err
	}
	plan, err := g.plan(ctx, now, listed, live, only)
	if err != nil {
		return err
	}
	proof = g.withRoots(proof, listed, roots)
	if err := g.review.compare(plan, g.report); err != nil {
		return err
	}
	versions, err := g.findVersions(ctx, plan)
	if err != nil {
		return err
	}
	if err := g.accept(ctx, plan, listed); err != nil {
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
	pushes, err := g.newPushCheck(watched, listed, plan)
	if err == nil {
		err = g.listAgain(watched, admitted.survey, listed, plan)
	}
	var remover storage.Remover
	var taker *quarantine.Taker
	if err == nil {
		remover, taker, err = g.remover(watched, plan, versions)
	}
	if err == nil {
		err = g.execute(watched, plan, remover, pushes)
	}
	err = withCause(watched, g.explainFull(err))
	if lost := stop(); err == nil {
		err = lost
	}
	return g.endQuarantine(ctx, taker, err)
}
