package cli

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"regsweep/storage"
)

// confirm shows the plan's summary on a terminal, and asks.
func (g *gcRun) confirm(ctx context.Context) (err error) {
	if g.options.yes {
		return nil
	}
	question := "Remove this now?"
	if g.options.quarantine {
		question = "Move this to a quarantine now?"
	}
	g.asked, err = g.ask(ctx, question, func(w *bytes.Buffer, width int) { writeSummary(w, g.report, width) })
	return err
}

// ask shows something on a terminal and asks whether to go on; errDeclined is a no. It
// does not ask whom it can't: where standard input is no terminal, the command line is
// the answer.
func (r *runner) ask(ctx context.Context, question string, show func(w *bytes.Buffer, width int)) (asked bool, err error) {
	switch {
	case !r.env.InTerminal:
		return false, nil
	case r.env.Ask == nil:
		return false, storage.Usagef("there is no terminal to ask on before removing: say --yes, or let standard error be one")
	}
	buffer := new(bytes.Buffer)
	show(buffer, r.env.Width(r.env.Ask))
	fmt.Fprintf(r.env.Ask, "\n%s\n%s [y/N] ", buffer, question)
	answer, err := r.answer(ctx)
	if err != nil {
		fmt.Fprintln(r.env.Ask)
		return true, fmt.Errorf("ask: %w", err)
	}
	if answer = strings.ToLower(strings.TrimSpace(answer)); answer != "y" && answer != "yes" {
		return true, errDeclined
	}
	return true, nil
}
