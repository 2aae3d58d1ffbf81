package cli

import (
	"context"
	"fmt"
	"time"

	"regsweep/guard"
	"regsweep/inventory"
	"regsweep/mark"
	"regsweep/sweep"
)

// plan lists, marks and decides. It removes nothing from the storage and writes
// nothing to it.
func (g *gcRun) plan(ctx context.Context) (*sweep.Plan, error) {
	now := g.env.Now()
	inv, err := g.list(ctx, now)
	if err != nil {
		return nil, err
	}
	if inv.Blobs() == 0 && len(inv.Repositories) == 0 && len(inv.Uploads) == 0 {
		if err := g.requireLayout(ctx); err != nil {
			return nil, err
		}
	}
	g.listed = inv
	g.guard.LastUpload = lastUpload(inv)
	if last := g.guard.LastUpload; g.guard.Stopped && last != nil && g.env.Now().Sub(last.Touched) < guard.RecentUpload {
		g.progress.note(fmt.Sprintf("warning: an upload %s was touched less than %d minutes ago: is every registry on this storage stopped?",
			last.Where(), int(guard.RecentUpload.Minutes())))
	}
	if !g.options.dryRun {
		pushed := map[string]time.Time{}
		for _, r := range inv.Repositories {
			pushed[r.Name] = r.Pushed
		}
		if err := g.readLastPush(ctx, &g.guard, g.store, pushed); err != nil {
			return nil, err
		}
	}
	g.guard.HasRepository = func(name string) bool { return inv.Repository(name) != nil }
	g.guard.HasTag = func(repository, tag string) bool {
		r := inv.Repository(repository)
		return r != nil && r.HasTag(tag)
	}
	only, err := g.review.selection(ctx, inv, g.store)
	if err != nil {
		return nil, err
	}
	roots, err := g.findRoots(inv)
	if err != nil {
		return nil, err
	}
	live, err := g.mark(ctx, inv, only, roots)
	g.closeCache(ctx)
	if err != nil {
		return nil, err
	}
	plan, err := g.decide(ctx, now, inv, live, only)
	if err != nil {
		return nil, err
	}
	g.report.planned(plan)
	g.sampleRoots(inv, roots)
	if err := g.review.compare(plan, g.report); err != nil {
		return nil, err
	}
	if err := g.lookForVersions(ctx, plan); err != nil {
		return nil, err
	}
	if err := g.options.maxDelete.allows(plan); err != nil {
		return nil, err
	}
	if n := len(failures(plan.Problems)); g.options.strict && n > 0 {
		return nil, fmt.Errorf("--strict: there is %s: nothing was removed", plural(n, "problem"))
	}
	if err := g.savePlan(plan, inv); err != nil {
		return nil, err
	}
	return plan, g.checkQuarantine(ctx, plan)
}

// savePlan saves the plan if that was asked for, and keeps an older one that a restore could
// need.
func (g *gcRun) savePlan(plan *sweep.Plan, inv *inventory.Inventory) error {
	older, err := g.planFile.keepOlder(inv)
	if err != nil {
		return err
	}
	g.report.OlderPlan = older
	if older != "" && !g.options.quiet {
		g.progress.note("the older plan names links that were removed since: it is kept as " + older)
	}
	return g.planFile.save(writesPlan(plan))
}

func (g *gcRun) list(ctx context.Context, now time.Time) (*inventory.Inventory, error) {
	defer stopwatch(g.env.Now, &g.report.Seconds.Inventory)()
	phase := g.progress.begin("listing", "name", 0)
	g.ahead = mark.NewAhead(g.cached())
	options := inventory.Options{Concurrency: g.store.Concurrency(), OnBlobs: phase.add, OnLinks: phase.add, OnRevision: g.ahead.Read}
	if g.options.minAge > 0 {
		options.Since = now.Add(-g.options.minAge)
	}
	inv, err := inventory.Take(ctx, g.cached(), options)
	phase.endWith("listed", err)
	return inv, err
}

func (g *gcRun) mark(ctx context.Context, inv *inventory.Inventory, only *sweep.Selection, roots []*mark.Roots) (*mark.Live, error) {
	defer stopwatch(g.env.Now, &g.report.Seconds.Mark)()
	phase := g.progress.begin("marking", "manifest", 0)
	live, err := mark.Run(ctx, inv, g.cached(), mark.Options{
		Concurrency: g.store.Concurrency(), DeleteUntagged: g.options.deleteUntagged, MayGo: only.MayGo,
		Roots: roots, OnlyRoots: g.lists.roots != nil, TagMayGo: only.TagMayGo, DeleteUnlinked: g.options.deleteUnlinked,
		Ahead: g.ahead, OnManifests: phase.expect, OnRead: phase.add,
	})
	phase.endWith("marked", err)
	return live, err
}

func (g *gcRun) decide(ctx context.Context, now time.Time, inv *inventory.Inventory, live *mark.Live, only *sweep.Selection) (*sweep.Plan, error) {
	defer stopwatch(g.env.Now, &g.report.Seconds.Plan)()
	phase := g.progress.begin("planning", "", 0)
	rootsSum, keepSum := g.lists.checksums()
	plan, err := sweep.NewPlan(ctx, inv, live, g.store, sweep.Options{
		Now: now, MinAge: g.options.minAge, UploadAge: g.options.uploadAge, DeleteUntagged: g.options.deleteUntagged,
		PruneEmpty: g.options.pruneEmpty, AllowEmpty: g.options.allowEmpty, Quarantine: g.options.quarantine, Concurrency: g.store.Concurrency(), Only: only,
		DeleteUnlinked: g.options.deleteUnlinked, Roots: rootsSum, KeepDigests: keepSum,
	})
	phase.end("")
	return plan, err
}

func lastUpload(inv *inventory.Inventory) *guard.Upload {
	var last *guard.Upload
	note := func(repository string, uploads []inventory.Upload) {
		for _, u := range uploads {
			if last == nil || u.Touched.After(last.Touched) {
				last = &guard.Upload{Repository: repository, ID: u.ID, Touched: u.Touched}
			}
		}
	}
	note("", inv.Uploads)
	for _, r := range inv.Repositories {
		note(r.Name, r.Uploads)
	}
	return last
}
