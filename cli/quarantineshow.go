package cli

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"regsweep/quarantine"
	"regsweep/sweep"

	urfave "github.com/urfave/cli/v2"
)

func (r *runner) quarantineShow(c *urfave.Context) error {
	run, target := c.Args().First(), c.Args().Tail()
	if err := checkRun("show", run, target); err != nil {
		return err
	}
	return r.onQuarantine(c, "show", target, func(ctx context.Context, q *quarantineStep) error {
		name, err := quarantine.Find(ctx, q.store, run)
		if err != nil {
			return notInQuarantine(err)
		}
		phase := q.progress.begin("reading the quarantine", "", 0)
		q.report.Contents = []sweep.Removal{}
		shown, err := quarantine.Show(ctx, q.store, name, func(removal sweep.Removal) error {
			q.report.Contents = append(q.report.Contents, removal)
			return nil
		})
		phase.end("")
		if err != nil {
			return notInQuarantine(err)
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
	t := &table{right: []bool{false, true}, wraps: []bool{false, false, false, true}}
	t.row("KIND", "SIZE", "REPOSITORY", "WHAT")
	for _, removal := range r.Contents {
		bytes := ""
		if removal.Bytes > 0 {
			bytes = size(removal.Bytes)
		}
		t.row(removal.Kind.Noun(), bytes, printable(removal.Repository), printable(removal.Label()))
	}
	if widths := t.fit(0); width == 0 || t.total(widths[:3]) <= width {
		t.write(w, width)
		return
	}
	for _, row := range t.rows[1:] { // the columns do not fit: a line for each cell
		fmt.Fprintln(w, strings.TrimSpace(row[0]+"  "+row[1]))
		for _, cell := range row[2:] {
			if cell != "" {
				fmt.Fprintln(w, "  "+cell)
			}
		}
	}
}
