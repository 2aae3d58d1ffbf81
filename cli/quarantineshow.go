package cli

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"regsweep/internal/human"
	"regsweep/quarantine"
	"regsweep/sweep"

	urfave "github.com/urfave/cli/v2"
)

func (r *runner) quarantineShow(c *urfave.Context) error {
	run, target := c.Args().First(), c.Args().Tail()
	if err := checkRun("show", run, target); err != nil {
		return err
	}
	return r.runQuarantine(c, "show", target, func(ctx context.Context, q *quarantineTask) error {
		name, err := quarantine.Find(ctx, q.store, run)
		if err != nil {
			return explainNotFound(err)
		}
		phase := q.progress.Begin("reading the quarantine", "", 0)
		q.report.Contents = []sweep.Removal{}
		shown, err := quarantine.Show(ctx, q.store, name, func(removal sweep.Removal) error {
			q.report.Contents = append(q.report.Contents, removal)
			return nil
		})
		phase.End("")
		if err != nil {
			return explainNotFound(err)
		}
		q.report.Runs = []quarantineRun{newQuarantineRun(shown)}
		return nil
	}, writeQuarantineShow)
}

func writeQuarantineShow(w *bytes.Buffer, r *quarantineReport, width int) {
	if r.Error != "" {
		return
	}
	writeRuns(w, r.Runs, width)
	if len(r.Contents) == 0 {
		return
	}
	fmt.Fprintln(w)
	t := &human.Table{Columns: []human.Column{human.Left, human.Right, human.Left, human.Prose}}
	t.Row("KIND", "SIZE", "REPOSITORY", "WHAT")
	var lines strings.Builder // for a narrow terminal: the same with a line for each cell
	for _, removal := range r.Contents {
		kind, bytes := removal.Kind.Noun(), ""
		if removal.Bytes > 0 {
			bytes = human.Size(removal.Bytes)
		}
		repository, label := human.Printable(removal.Repository), human.Printable(removal.Label())
		t.Row(kind, bytes, repository, label)
		fmt.Fprintln(&lines, strings.TrimSpace(kind+"  "+bytes))
		for _, cell := range []string{repository, label} {
			if cell != "" {
				fmt.Fprintln(&lines, "  "+cell)
			}
		}
	}
	if width == 0 || t.FitsStacked(width) {
		t.Write(w, width)
		return
	}
	w.WriteString(lines.String())
}
