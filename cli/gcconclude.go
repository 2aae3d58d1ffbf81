package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"regsweep/guard"
	"regsweep/internal/human"
	"regsweep/window"
)

// hintStopping prints that the run is about to stop, and why.
func (g *gcRun) hintStopping(cause error) {
	if errors.Is(cause, guard.ErrTimeUp) {
		g.progress.Hint(cause.Error() + ": stopping at a safe boundary")
		return
	}
	if g.window == nil { // see holdSignals
		g.progress.Hint("interrupted: stopping at a safe boundary; once more ends it at once")
	}
}

// finish completes the report of a run that ends with err, and returns the error with its explanation. A
// window finishes the run before it is closed.
func (g *gcRun) finish(ctx context.Context, err error) error {
	if g.finished {
		return err
	}
	g.finished = true
	if g.store != nil {
		g.report.Requests = g.store.Requests()
	}
	err = g.withStale(g.explainEnd(withCause(ctx, err)))
	g.report.countLeft()
	g.report.conclude(err)
	return err
}

// conclude prints the report and returns the error of the run.
func (g *gcRun) conclude(err error) error {
	if warning := g.report.Descriptors.Warning(); warning != "" && g.stale == nil && (g.options.quiet || g.options.json) {
		g.say("warning: " + warning)
	}
	if g.options.json {
		return g.writeJSON(g.report, err)
	}
	g.report.conclude(err)
	if verdict := refusal(err); verdict != nil {
		headline := verdicts[verdict.State]
		if g.isHalfDone(err) {
			headline = stoppedVerdict
		}
		verdict.Reason = "" // the last line of the run has it
		g.printErr(func(w *bytes.Buffer, width int) { writeVerdict(w, headline, *verdict, width) })
	}
	if g.options.quiet {
		for _, problem := range withoutNotes(g.report.Problems) {
			g.say(describe(problem))
		}
		if g.report.Policy != nil {
			for _, skipped := range g.report.Policy.Skipped {
				g.say(fmt.Sprintf("%s is left alone: %s", human.Printable(skipped.Repository), skipped.Reason))
			}
		}
		for _, failed := range g.report.Failed[:min(len(g.report.Failed), shownFailures)] {
			g.say("not removed: " + failed.Path + ": " + failed.Error)
		}
		return err
	}
	stopped := errors.Is(err, ErrInterrupted) || errors.Is(err, guard.ErrTimeUp)
	unanswered := errors.Is(err, errDeclined) || stopped && g.report.result == nil
	if g.report.plan == nil || g.report.asked && g.env.OutTerminal && unanswered { // the error says everything
		return err
	}
	return g.writeText(human.Folded(func(w *bytes.Buffer, width int) {
		if !g.report.asked || !g.env.OutTerminal {
			writeSummary(w, g.report, width)
		}
		writeOutcome(w, g.report)
		writeWindow(w, g.report.Window)
	}), err)
}

// explainEnd adds to an error how much was removed. It returns errProblems if a run without an error had
// problems that kept something.
func (g *gcRun) explainEnd(err error) error {
	switch {
	case err == nil && g.report.countKeeping() > 0:
		return reportedError{errProblems}
	case errors.Is(err, guard.ErrTimeUp):
		return g.explainTimeUp()
	case errors.Is(err, ErrInterrupted) && g.report.result == nil:
		return fmt.Errorf("%w: nothing was removed", ErrInterrupted)
	case errors.Is(err, ErrInterrupted):
		return fmt.Errorf("%w: run it again to remove the rest", ErrInterrupted)
	case g.isHalfDone(err):
		done, all := g.report.result.Len(), human.Plural(g.report.plan.Len(), g.report.verb("removal", "move", "removal"))
		if done == g.report.plan.Len() {
			return fmt.Errorf("%w; all of %s were made", err, all)
		}
		return fmt.Errorf("%w; stopped after %s of %s", err, human.Count(done), all)
	}
	return err
}

// isHalfDone reports whether err has stopped a sweep that has removed something.
func (g *gcRun) isHalfDone(err error) bool {
	if g.report.result == nil || g.report.result.Len() == 0 {
		return false
	}
	return g.report.stopped || errors.As(err, new(*guard.LostError)) || errors.Is(err, guard.ErrLockLost)
}

// refusal returns the verdict of an error of the proof, or nil for another error.
func refusal(err error) *guard.Verdict {
	var refused *guard.RefusedError
	var lost *guard.LostError
	if after := (*window.AfterError)(nil); errors.As(err, &after) {
		err = after.Ended
	}
	switch {
	case errors.As(err, &refused):
		verdict := refused.Verdict
		return &verdict
	case errors.As(err, &lost) && len(lost.Verdict.Evidence) > 0:
		verdict := lost.Verdict
		return &verdict
	}
	return nil
}
