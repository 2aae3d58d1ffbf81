package cli

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"regsweep/internal/human"
	"regsweep/quarantine"
	"regsweep/storage"
	"regsweep/sweep"

	urfave "github.com/urfave/cli/v2"
)

func (r *runner) quarantinePurge(c *urfave.Context) error {
	chosen := runChoice{names: c.StringSlice(runName), byAge: c.IsSet(olderName)}
	if chosen.byAge {
		chosen.before = r.env.Now().Add(-c.Generic(olderName).(*age).Duration)
	}
	if err := checkNoRun(c.Args().Slice(), "purge --"+runName+" latest"); err != nil {
		return err
	}
	dryRun, yes := c.Bool("dry-run"), c.Bool("yes")
	purge := func(ctx context.Context, q *quarantineTask) error {
		if err := chosen.check(); err != nil {
			return err
		}
		// The lock is written only if there is something to purge.
		if err := q.choose(ctx, &chosen); err != nil || dryRun || len(q.report.Runs) == 0 {
			return err
		}
		if !yes {
			if err := q.canAsk(); err != nil {
				return err
			}
		}
		return q.locked(ctx, q.store, q.report.Command, func(ctx context.Context) error {
			if err := q.choose(ctx, &chosen); err != nil || len(q.report.Runs) == 0 {
				return err
			}
			if !yes {
				_, err := q.ask(ctx, q.purgeQuestion(), func(w *bytes.Buffer, width int) { writeRuns(w, q.report.Runs, width) })
				if err != nil {
					return err
				}
			}
			return q.purge(ctx)
		})
	}
	return r.runQuarantine(c, "purge", c.Args().Slice(), func(ctx context.Context, q *quarantineTask) error {
		err := purge(ctx, q)
		unreadable := slices.ContainsFunc(q.report.Runs, func(run quarantineRun) bool { return run.UnreadableVersions+run.UnrecordedVersions > 0 })
		if err == nil && (unreadable || len(q.report.PassedOver) > 0) {
			return reportedError{errProblems}
		}
		return err
	}, writeQuarantinePurge)
}

// runChoice selects runs by their names or by their age.
type runChoice struct {
	names  []string
	byAge  bool
	before time.Time // the latest time of a run that is selected by its age
}

// check returns a usage error unless the choice is by names or by age.
func (o runChoice) check() error {
	switch {
	case len(o.names) > 0 && o.byAge:
		return storage.Usagef("--%s and --%s: name the runs, or say how old they have to be", runName, olderName)
	case len(o.names) == 0 && !o.byAge:
		return storage.Usagef("say which runs: --%s 7d, or --%s with a name that regsweep quarantine list has", olderName, runName)
	}
	return nil
}

// has reports whether the choice includes a run.
func (o runChoice) has(run quarantine.Run) bool {
	if o.byAge { // a damaged run must be named, unless it is a remnant
		return run.IsRemnant() || run.Damage == "" && !run.Taken.After(o.before)
	}
	return slices.Contains(o.names, run.Name)
}

// passesOver reports whether a damaged run is left out although it is old enough, or although its age is
// not known. Such a run must be named.
func (o runChoice) passesOver(run quarantine.Run) bool {
	return o.byAge && !o.has(run) && run.Damage != "" && !run.Made().After(o.before)
}

// choose adds the chosen runs to the report. It replaces each name of the choice by the complete name.
func (q *quarantineTask) choose(ctx context.Context, chosen *runChoice) error {
	for i, name := range chosen.names {
		found, err := quarantine.Find(ctx, q.store, name)
		if err != nil {
			return explainNotFound(err)
		}
		chosen.names[i] = found
	}
	runs, err := q.runs(ctx)
	if err != nil {
		return err
	}
	for _, name := range chosen.names {
		if !slices.ContainsFunc(runs, func(run quarantine.Run) bool { return run.Name == name }) {
			return explainNotFound(&quarantine.NoRunError{Run: name})
		}
	}
	q.report.Runs, q.report.PassedOver, q.report.total = []quarantineRun{}, nil, len(runs)
	for _, run := range runs {
		switch {
		case chosen.has(run):
			q.report.Runs = append(q.report.Runs, newQuarantineRun(run))
		case chosen.passesOver(run):
			q.report.PassedOver = append(q.report.PassedOver, quarantine.Damaged{Run: run.Name, Problem: run.Damage})
		}
	}
	return nil
}

// purgeQuestion returns the question with the amounts of the chosen runs.
func (q *quarantineTask) purgeQuestion() string {
	var held sweep.Tally
	for _, run := range q.report.Runs {
		held.Add(run.held().Count, run.held().Bytes)
	}
	return fmt.Sprintf("Remove %s with %s, %s, for good?", human.Plural(len(q.report.Runs), "run"), human.Plural(held.Count, "object"), human.Size(held.Bytes))
}

// purge removes the chosen runs.
func (q *quarantineTask) purge(ctx context.Context) error {
	objects := 0
	for _, run := range q.report.Runs {
		objects += run.held().Count
	}
	phase := q.progress.Begin("purging", "", objects)
	for i := range q.report.Runs {
		run := &q.report.Runs[i]
		freed, err := quarantine.Purge(ctx, q.store, run.Run)
		run.Freed, run.freedData, run.UnreadableVersions = &freed.Tally, freed.Bytes-freed.LinkBytes, freed.Unreadable
		phase.AddBytes(freed.Count, freed.Bytes)
		if err != nil {
			phase.EndWith("purged", err)
			return err
		}
	}
	phase.EndWith("purged", nil)
	return nil
}

func writeQuarantinePurge(w *bytes.Buffer, r *quarantineReport, width int) {
	if !r.quiet {
		writePurged(w, r, width)
	}
	for _, run := range r.Runs {
		if n := run.UnreadableVersions; n > 0 {
			fmt.Fprintf(w, "  %s: %s of its record of versions can't be read: their versions stay in the bucket.\n", human.Printable(run.Run), human.Plural(n, "line"))
		}
		if n := run.UnrecordedVersions; n > 0 {
			fmt.Fprintf(w, "  %s: its record of versions lacks %s: their versions stay in the bucket.\n", human.Printable(run.Run), human.Plural(n, "object"))
		}
	}
	for _, run := range r.PassedOver {
		fmt.Fprintf(w, "  not purged: %s: %s: purge it with --%s %s\n", human.Printable(run.Run), human.Printable(run.Problem), runName, human.Printable(run.Run))
	}
}

// writePurged prints what was removed, or what would be removed.
func writePurged(w *bytes.Buffer, r *quarantineReport, width int) {
	runs, objects, freed, toFree := 0, 0, int64(0), int64(0)
	for _, run := range r.Runs {
		toFree += run.FreeableBytes
		if run.Freed != nil {
			runs++
			objects += run.Freed.Count
			freed += run.freedData
		}
	}
	switch {
	case r.failed && runs > 0:
		fmt.Fprintf(w, "Stopped before the end. %s removed, %s freed, as the storage confirmed.\n", human.Plural(objects, "object"), human.Size(freed))
	case r.failed:
	case len(r.Runs) == 0 && r.total > 0:
		fmt.Fprintf(w, "--%s takes none of the %s in the quarantine: nothing was removed.\n", olderName, human.Plural(r.total, "run"))
	case len(r.Runs) == 0:
		fmt.Fprintln(w, "There is no such run in the quarantine: nothing was removed.")
	case r.DryRun:
		writeRuns(w, r.Runs, width)
		fmt.Fprintf(w, "\nDry run: nothing was removed; %s would be freed.\n", human.Size(toFree))
	default:
		which := human.Plural(runs, "run")
		if len(r.Runs) == 1 {
			which = "the run " + human.Printable(r.Runs[0].Run)
		}
		fmt.Fprintf(w, "Purged %s: %s removed, %s freed, as the storage confirmed.\n", which, human.Plural(objects, "object"), human.Size(freed))
	}
}
