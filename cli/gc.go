package cli

import (
	"context"
	"errors"
	"slices"
	"unicode/utf8"

	"regsweep/guard"
	"regsweep/inventory"
	"regsweep/mark"
	"regsweep/quarantine"
	"regsweep/storage"
	"regsweep/storage/cache"
	"regsweep/storage/config"
	"regsweep/sweep"

	urfave "github.com/urfave/cli/v2"
)

// gcRun is one run of gc or apply, and what it has come to so far. They differ in what
// the plan may have in it: everything, or what a file has.
type gcRun struct {
	*runner
	options  gcOptions
	review   *review // nil for gc
	config   config.Config
	store    storage.Store
	remover  storage.Remover   // the store, what removes all versions in it, or a quarantine's taker
	taker    *quarantine.Taker // nil unless what goes is moved
	ahead    *mark.Ahead       // what was read of manifests during the listing
	cache    *cache.Cache      // nil where there is none
	guard    guard.Options
	planFile *planFile
	lists    rootLists // what the user says is in use
	progress *progress
	report   *report
	survey   inventory.Survey     // what was seen before the listing
	listed   *inventory.Inventory // what the listing has
	asked    bool                 // the summary was shown, and what it says confirmed
}

func (r *runner) gc(c *urfave.Context) error {
	return r.collect(c, &gcRun{options: readGCOptions(c), report: newReport("gc")}, c.Args().Slice())
}

// collect carries a run of gc or apply through to its report.
func (r *runner) collect(c *urfave.Context, g *gcRun, target []string) error {
	g.runner = r
	g.report.DryRun = g.options.dryRun
	g.progress = r.newProgress(g.options.quiet)
	quiet := context.AfterFunc(c.Context, g.interrupted)
	err := g.run(c, target)
	if g.store != nil {
		err = storage.ExplainPermission(g.store, err)
	}
	quiet()
	return g.conclude(because(c.Context, err))
}

// run is the run: prove, list, mark, plan, and remove.
//
// The proof comes before the listing. A push after a repository was listed could
// make a blob alive again that the listing has as unreferenced, so it must be known
// from the start that nobody can push.
func (g *gcRun) run(c *urfave.Context, target []string) error {
	defer g.discardFiles()
	if err := g.prepare(c, target); err != nil {
		return err
	}
	if !g.options.dryRun && !g.options.yes {
		if err := g.canAsk(); err != nil { // rather than after an hour of listing
			return err
		}
	}
	defer g.closeCache(c.Context)
	if g.options.dryRun {
		refused, err := g.foresee(c.Context)
		if err != nil {
			return err
		}
		if _, err := g.plan(c.Context); err != nil {
			return err
		}
		return refused
	}
	// Where nobody has pushed there is nothing to prove, nor to prove it by.
	if empty, err := inventory.IsEmpty(c.Context, g.store); err != nil {
		return err
	} else if empty {
		if err := g.requireLayout(c.Context); err != nil {
			return err
		}
		if err := g.proveEmpty(c.Context); err != nil {
			return err
		}
		_, err := g.plan(c.Context)
		return err
	}
	if err := g.sample(c.Context); err != nil {
		return err
	}
	if err := g.prove(c.Context); err != nil {
		return g.withLastPush(c.Context, err)
	}
	g.warnOfSkipped()
	return g.locked(c.Context, g.store, g.report.Command, g.progress, func(ctx context.Context) error {
		plan, err := g.plan(ctx)
		if err != nil || plan.Idle() {
			return err
		}
		if err := storage.RequireWrite(g.store, plan.Refs()); err != nil {
			return err
		}
		if plan.HasGarbage() {
			if err := g.proveRecent(ctx); err != nil {
				return err
			}
			if err := g.confirm(ctx); err != nil {
				return err
			}
		}
		return g.sweep(ctx, plan)
	})
}

// discardFiles takes away what was begun and not saved.
func (g *gcRun) discardFiles() {
	g.planFile.discard()
	g.review.discard()
}

// prepare finds out what is to be collected, and whether the flags make sense.
func (g *gcRun) prepare(c *urfave.Context, target []string) error {
	lists, err := g.readRootLists(c, g.review.planPath())
	if err != nil {
		return err
	}
	g.lists = lists
	if err := g.openReview(c.Context); err != nil {
		return err
	}
	if g.lists.roots != nil {
		g.options.deleteUntagged = true // nothing is a root but what the list has
	}
	if err := g.options.check(); err != nil {
		return err
	}
	if g.options.planGiven {
		var err error
		if g.planFile, err = g.output("--"+planName, g.options.plan, aPlan); err != nil {
			return orTarget(err, len(target) > 0, "gc --"+planName+" plan.jsonl", g.options.plan)
		}
	}
	config, store, err := g.target(c, target, g.options.allowEmpty)
	if err != nil {
		return g.orAllowEmpty(err)
	}
	g.store, g.config = store, config
	g.report.Storage, g.report.Config, g.report.notRead = store.Identity(), config.File, config.NotRead
	if !g.options.quiet { // which warns only once something was removed
		g.warnOfDescriptors()
	}
	if g.options.quarantine {
		g.report.Quarantine = &quarantined{}
	}
	if err := g.review.isOf(store); err != nil {
		return err
	}
	if g.guard, err = g.guardOptions(c, config, store); err != nil {
		return err
	}
	g.guard.DeleteUntagged = g.options.deleteUntagged
	g.guard.RootsGiven, g.guard.KeepDigestsGiven = g.lists.roots != nil, g.lists.keepDigests != nil
	if g.options.planGiven {
		if root := g.report.Storage.Root; !utf8.ValidString(root) {
			return storage.Usagef("--plan: a plan can't hold the name of its storage, which is no text: %q", root)
		}
	}
	return g.openCache()
}

// requireLayout refuses a root without a registry in it, unless that is meant.
func (g *gcRun) requireLayout(ctx context.Context) error {
	if g.options.allowEmpty {
		return nil
	}
	return g.orAllowEmpty(config.RequireLayout(ctx, g.store, g.config))
}

// orAllowEmpty names the flag that accepts a root without a registry. apply has none: there
// the plan says it.
func (g *gcRun) orAllowEmpty(err error) error {
	if g.review == nil && errors.As(err, new(*config.AbsentError)) {
		return storage.Usagef("%w. For a registry that nobody has pushed to, pass --allow-empty", err)
	}
	return err
}

// orTarget explains a flag's value that can't be used and that may be the target: then the
// flag's own value was forgotten.
func orTarget(err error, targetGiven bool, example, value string) error {
	if targetGiven || value == "" || slices.Contains(standardOutput, value) {
		return err
	}
	return storage.Usagef("%w; if it is the target, name both: regsweep %s %s", err, example, value)
}

// sample picks what the registry is asked for, to know that it serves this storage.
func (g *gcRun) sample(ctx context.Context) error {
	phase := g.progress.begin("looking for tagged manifests", "", 0)
	survey, err := inventory.TakeSurvey(ctx, g.store, guard.MaxSamples, true)
	phase.end("")
	g.survey, g.guard.Samples = survey, samples(survey, g.options.deleteUntagged)
	return err
}

// prove asks whether something may be removed now, and notes the verdict.
func (g *gcRun) prove(ctx context.Context) error {
	phase := g.progress.begin("asking the registry", "", 0)
	verdict, err := guard.Prove(ctx, g.guard)
	phase.end("")
	if err != nil {
		return err
	}
	if verdict.State == guard.Skipped {
		verdict.Reason = g.withoutProof()
	}
	g.report.Guard = &verdict
	if !verdict.MayRemove() {
		return &guard.RefusedError{Verdict: verdict}
	}
	return nil
}

// withLastPush adds a recent push to a refusal, as check does, so that a run says all reasons at
// once. A push is known only when all repositories are listed. A listing that fails changes nothing.
func (g *gcRun) withLastPush(ctx context.Context, err error) error {
	var refused *guard.RefusedError
	if !errors.As(err, &refused) || g.guard.Stopped || g.guard.Unsafe {
		return err
	}
	survey, failed := g.runner.survey(ctx, g.store, g.progress)
	if failed != nil {
		return err
	}
	options := g.guard
	if g.readPushes(ctx, &options, g.store, survey) != nil {
		return err
	}
	verdict := refused.Verdict.WithLastUpload(options.LastUpload)
	g.report.Guard = &verdict
	return &guard.RefusedError{Verdict: verdict}
}

// withoutProof says what --unsafe-online means for a push.
func (g *gcRun) withoutProof() string {
	text := "the proof that nobody writes is skipped"
	if g.options.dryRun {
		text = "a run that removes would skip the proof that nobody writes"
	}
	return text + " (--unsafe-online): only --min-age " + (&age{g.options.minAge}).String() + " protects a push"
}

func (g *gcRun) warnOfSkipped() {
	if g.report.Guard.State == guard.Skipped {
		g.say("warning: " + g.report.Guard.Reason)
	}
}

// foresee says, in a dry run, how a removal would be refused whatever the registry answers.
// An empty storage has nothing to refuse.
func (g *gcRun) foresee(ctx context.Context) (refused, err error) {
	verdict, isRefused := guard.Signs(ctx, g.guard)
	if !isRefused && g.options.unsafe { // then nobody is asked
		if err := g.prove(ctx); err != nil {
			return nil, err
		}
		g.warnOfSkipped()
	}
	if !isRefused {
		return nil, nil
	}
	if empty, err := inventory.IsEmpty(ctx, g.store); err != nil || empty {
		return nil, err
	}
	g.report.Guard = &verdict
	return &guard.RefusedError{Verdict: verdict}, nil
}

// proveEmpty refuses if the storage is empty and a registry that can be asked has
// repositories: the target is not what that registry serves.
func (g *gcRun) proveEmpty(ctx context.Context) error {
	if g.options.unsafe {
		return nil
	}
	g.guard.HasRepository = func(string) bool { return false }
	err := g.prove(ctx)
	var refused *guard.RefusedError
	if errors.As(err, &refused) && refused.Verdict.By != guard.ByOtherStorage {
		g.report.Guard = nil // there is nothing to remove
		return nil
	}
	return err
}

// proveRecent proves before a question is asked if the listing has seen a recent push:
// otherwise the answer could be in vain.
func (g *gcRun) proveRecent(ctx context.Context) error {
	last := g.guard.LastUpload
	if g.options.yes || g.env.Terminal == nil || last == nil || g.env.Now().Sub(last.Touched) >= guard.RecentUpload {
		return nil
	}
	return g.prove(ctx)
}

// sweep proves once more, now knowing the uploads, and does the rest while the proof is
// repeated.
func (g *gcRun) sweep(ctx context.Context, plan *sweep.Plan) error {
	defer stopwatch(g.env.Now, &g.report.Seconds.Sweep)()
	if err := g.prove(ctx); err != nil {
		return err
	}
	watched, stop := guard.Watch(ctx, g.guard, g.env.ProbeInterval, nil)
	err := because(watched, g.remove(watched, plan))
	if lost := stop(); err == nil {
		err = lost
	}
	ended := g.endQuarantine(ctx)
	if err == nil {
		return ended
	}
	if ended != nil { // err decides how the run ends
		g.progress.note(ended.Error())
	}
	return err
}

// remove lists once more, and removes what the plan lists.
func (g *gcRun) remove(ctx context.Context, plan *sweep.Plan) error {
	pushes, err := g.newPushCheck(ctx, plan)
	if err != nil {
		return err
	}
	if err := g.listAgain(ctx, plan); err != nil {
		return err
	}
	if err := g.beginQuarantine(ctx, plan); err != nil {
		return g.explainFull(err)
	}
	phase := g.progress.begin(g.verb("removing", "moving", "hiding"), "", plan.Len())
	if !g.report.moves() { // which frees nothing
		phase.expectBytes(plan.Garbage[sweep.Blob].Bytes + plan.Garbage[sweep.Upload].Bytes - plan.HardLinked.Bytes)
	}
	result, err := plan.Execute(ctx, g.remover, sweep.ExecuteOptions{
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
	return g.explainFull(err)
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
