package cli

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"regsweep/storage"
)

// confirm shows the plan's summary on a terminal, and asks. It does not ask whom it
// can't: where standard input is no terminal, the command line is the answer.
func (g *gcRun) confirm(ctx context.Context) error {
	switch {
	case g.options.yes || !g.env.InTerminal:
		return nil
	case g.env.Ask == nil:
		return storage.Usagef("there is no terminal to ask on before removing: say --yes, or let standard error be one")
	}
	buffer := new(bytes.Buffer)
	writeSummary(buffer, g.report, g.env.Width(g.env.Ask))
	fmt.Fprintf(g.env.Ask, "\n%s\nRemove this now? [y/N] ", buffer)
	g.asked = true
	answer, err := g.answer(ctx)
	if err != nil {
		fmt.Fprintln(g.env.Ask)
		return fmt.Errorf("ask: %w", err)
	}
	if answer = strings.ToLower(strings.TrimSpace(answer)); answer != "y" && answer != "yes" {
		return errDeclined
	}
	return nil
}
