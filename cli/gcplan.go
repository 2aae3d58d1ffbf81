package cli

import (
	"context"
	"fmt"
	"io"
	"time"

	"regsweep/audit"
	"regsweep/internal/human"
	"regsweep/inventory"
	"regsweep/mark"
	"regsweep/policy"
	"regsweep/quarantine"
	"regsweep/storage"
	"regsweep/sweep"
)

// list takes the inventory. Meanwhile it reads manifests ahead.
func (g *gcRun) list(ctx context.Context, reader storage.Store, now time.Time) (*inventory.Inventory, *mark.Ahead, error) {
	defer stopwatch(g.env.Now, &g.report.Seconds.Inventory)()
	phase := g.progress.Begin("listing", "name", 0)
	ahead := mark.NewAhead(reader)
	options := inventory.Options{Concurrency: g.store.Concurrency(), OnBlobs: phase.Add, OnLinks: phase.Add, OnRevision: ahead.Read}
	options.TagTimes = g.policy != nil || g.review.removesTags()
	if g.options.minAge > 0 {
		options.Since = now.Add(-g.options.minAge)
	}
	// Without Sizes the plan stats candidates alone. That is too late for --free, and does not show which blobs of
	// other tags are recent.
	options.Sizes = g.policy != nil && (g.policy.free > 0 || g.options.minAge > 0)
	inv, err := inventory.Take(ctx, reader, options)
	phase.EndWith("listed", err)
	return inv, ahead, err
}

// mark reads the manifests and finds what is alive. Without a policy decision is nil.
func (g *gcRun) mark(ctx context.Context, reader storage.Store, now time.Time, inv *inventory.Inventory, ahead *mark.Ahead, only *sweep.Selection, lists, held []*mark.ListRoots) (live *mark.Live, decision *policy.Decision, err error) {
	defer stopwatch(g.env.Now, &g.report.Seconds.Mark)()
	phase := g.progress.Begin("marking", "manifest", 0)
	defer func() { phase.EndWith("marked", err) }()
	for _, list := range held { // protected digests are roots
		if list != nil {
			lists = append(lists, list)
		}
	}
	graph, err := mark.Read(ctx, inv, reader, mark.ReadOptions{
		Concurrency: g.store.Concurrency(), Lists: lists, Ahead: ahead, OnManifests: phase.Expect, OnRead: phase.Add,
	})
	if err != nil {
		return nil, nil, err
	}
	var roots mark.Roots
	switch {
	case g.policy != nil:
		if decision, err = g.decide(ctx, reader, inv, graph, held, lists, now); err == nil {
			roots = decision.Roots()
		}
	case g.review.removesTags():
		roots, err = g.reviewedRoots(ctx, inv, graph, only, lists)
	default:
		roots = only.Roots(g.options.deleteUntagged, g.lists.roots != nil)
	}
	if err != nil {
		return nil, nil, err
	}
	roots.Lists, roots.DeleteUnlinkedChildren = lists, g.options.deleteUnlinkedChildren
	live, err = graph.Live(ctx, roots)
	if err == nil {
		live, err = live.CheckLinks(ctx, reader, g.store.Concurrency())
	}
	if err == nil && decision != nil {
		decision.Conclude(inv, live)
		g.warnOfHeld(inv, live)
		if len(decision.Tags) > 0 {
			roots.Followers = decision.Followers // a signature whose subject is gone counts like any other tag
			g.policy.alone, err = audit.Alone(ctx, audit.Facts{Inventory: inv, Graph: graph}, roots)
		}
	}
	return live, decision, err
}

// plan finds the garbage and makes the plan.
func (g *gcRun) plan(ctx context.Context, now time.Time, inv *inventory.Inventory, live *mark.Live, decision *policy.Decision, only *sweep.Selection) (*sweep.Plan, error) {
	defer stopwatch(g.env.Now, &g.report.Seconds.Plan)()
	phase := g.progress.Begin("planning", "", 0)
	rootsSum, keepSum := g.lists.checksums()
	options := sweep.Options{
		Now: now, MinAge: g.options.minAge, UploadAge: g.options.uploadAge, DeleteUntagged: g.options.deleteUntagged,
		PruneEmpty: g.options.pruneEmpty, PruneOnly: g.options.pruneOnly, AllowEmpty: g.options.allowEmpty, Quarantine: g.options.quarantine, Concurrency: g.store.Concurrency(), Only: only,
		MaxBytes:               g.options.budget.maxBytes,
		DeleteUnlinkedChildren: g.options.deleteUnlinkedChildren, Roots: rootsSum, KeepDigests: keepSum,
	}
	if options.RemovesTags = g.review.removesTags(); decision != nil {
		options.RemovesTags, options.TagReason, options.Protected = true, decision.Reason, decision.Protects
	}
	plan, err := sweep.NewPlan(ctx, inv, live, g.store, options)
	phase.End("")
	if err != nil {
		return nil, err
	}
	g.report.planned(plan)
	if decision != nil {
		g.reportTags(inv, decision, plan)
	}
	return plan, nil
}

// accept returns an error for a plan that --max-delete or --strict forbids. It saves the plan, and checks
// that a quarantine can move the objects of the plan.
func (g *gcRun) accept(ctx context.Context, plan *sweep.Plan, inv *inventory.Inventory) error {
	if err := g.options.maxDelete.check(plan); err != nil {
		return err
	}
	if n := len(withoutNotes(plan.Problems)); g.options.strict && n > 0 {
		return fmt.Errorf("--strict: there is %s: nothing was removed", human.Plural(n, "problem"))
	}
	if err := g.savePlan(plan, inv); err != nil {
		return err
	}
	if !g.options.quarantine || plan.Len() == 0 {
		return nil
	}
	return quarantine.Check(ctx, g.store, plan)
}

// savePlan saves the plan if --plan was given. An older plan that a restore could need gets another name.
func (g *gcRun) savePlan(plan *sweep.Plan, inv *inventory.Inventory) error {
	older, err := g.planFile.keepOlder(inv)
	if err != nil {
		return err
	}
	g.report.OlderPlan = older
	if older != "" && !g.options.quiet {
		g.say("the older plan names links that were removed since: it is kept as " + older)
	}
	return g.planFile.save(func(w io.Writer) error {
		_, err := plan.WriteTo(w)
		return err
	})
}
