package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"

	"regsweep/guard"
	"regsweep/internal/human"
	"regsweep/storage"
	"regsweep/sweep"
)

// confirm shows the summary of the plan on the terminal and asks whether to go on. It fails before the
// question if the removal would fail anyway: the storage can't be written, or somebody has just pushed.
func (g *gcRun) confirm(ctx context.Context, proof guard.Options, plan *sweep.Plan) (err error) {
	if err := storage.RequireWrite(g.store, plan.Refs()); err != nil || !plan.HasGarbage() {
		return err
	}
	if err := g.proveIfPushed(ctx, proof); err != nil || g.options.yes {
		return err
	}
	g.report.asked, err = g.ask(ctx, g.question(), func(w *bytes.Buffer, width int) {
		writeSummary(w, g.report, width)
		if g.report.Versions != nil {
			fmt.Fprintln(w)
			writeVersions(w, g.report)
		}
		if n := g.report.Unlinked; n.Count > 0 {
			text := fmt.Sprintf("No repository has a link to %s of %s of the garbage. That is normal after images were deleted; a repository that is missing looks the same.", human.Plural(n.Count, "blob"), human.Size(n.Bytes))
			fmt.Fprintf(w, "\n%s\n", strings.Join(human.Wrap(text, width), "\n"))
		}
	})
	return err
}

// question returns the question with the amounts of the plan, such as "Remove 40,000 blobs, 40.6 MiB?".
func (g *gcRun) question() string {
	verb, where := g.report.verb("Remove ", "Move ", "Hide "), g.report.verb("", " to a quarantine", " behind delete markers")
	amount := countsAndSizes(g.report.plan.Garbage)
	if v := g.report.Versions; v != nil && v.Garbage.Count > 0 {
		amount += "; " + human.Plural(v.Garbage.Count, "noncurrent version") + ", " + human.Size(v.Garbage.Bytes)
	}
	return verb + amount + where + "?"
}

// canAsk returns a usage error if there is a terminal and nobody can answer a question on it.
func (r *runner) canAsk() error {
	if r.env.NoAnswer != "" {
		return storage.Usagef("%s: say --yes if nothing needs to be asked", r.env.NoAnswer)
	}
	return nil
}

// ask shows a text and a question on the terminal. It returns errDeclined unless the answer is yes. It
// first drops what was typed before the question. Without a terminal it asks nothing, and asked is
// false: then the command line is the answer.
func (r *runner) ask(ctx context.Context, question string, show func(w *bytes.Buffer, width int)) (asked bool, err error) {
	if err := r.canAsk(); err != nil {
		return false, err
	}
	tty := r.env.Terminal
	if tty == nil {
		return false, nil
	}
	width := r.env.Width(tty.Writer)
	buffer := new(bytes.Buffer)
	human.Folded(show)(buffer, width)
	fmt.Fprintf(tty, "\n%s\n", buffer)
	if err := tty.Flush(); err != nil {
		return true, fmt.Errorf("ask on the terminal: %w: nothing was removed", err)
	}
	r.progress.Enter(stepAnswer)
	answer, err := awaitLine(ctx, tty, func() {
		fmt.Fprintf(tty, "%s ", strings.Join(human.Wrap(question+" [y/N]", width), "\n"))
	})
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, syscall.EIO): // Ctrl-D, or the terminal is gone
		fmt.Fprintln(tty)
		return true, errDeclined
	case err != nil:
		fmt.Fprintln(tty)
		return true, fmt.Errorf("ask on the terminal: %w", err)
	}
	if answer = strings.ToLower(strings.TrimSpace(answer)); answer != "y" && answer != "yes" {
		return true, errDeclined
	}
	return true, nil
}
