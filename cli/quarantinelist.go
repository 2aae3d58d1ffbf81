package cli

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"regsweep/internal/human"
	"regsweep/quarantine"
	"regsweep/sweep"

	urfave "github.com/urfave/cli/v2"
)

// quarantineRun is a run in the quarantine, as a report has it.
type quarantineRun struct {
	Run string `json:"run"`
	// Taken is left out where the run's plan is damaged.
	Taken time.Time `json:"taken,omitzero"`
	// Plan is what the run was to take, and Contents what of it is in the quarantine now. With
	// LinksGuessed the links of Contents are those of Plan: show asks for each.
	// Objects is what was moved and is there, and Hidden what a bucket that keeps versions was
	// to hide instead. StillHidden is what of that has not come back.
	Plan     tallies     `json:"plan"`
	Contents tallies     `json:"contents"`
	Objects  sweep.Tally `json:"objects"`
	Hidden   sweep.Tally `json:"hidden"`
	Damage   string      `json:"damage,omitempty"`

	LinksGuessed bool        `json:"links_guessed,omitzero"`
	StillHidden  sweep.Tally `json:"still_hidden"`
	// DataBytes are the bytes of Objects and StillHidden without links, and FreeableBytes those
	// of them that a purge frees.
	DataBytes     int64 `json:"data_bytes"`
	FreeableBytes int64 `json:"freeable_bytes"`
	// HardLinkedBytes are those of Objects that a purge does not free: the files have other hard links.
	HardLinkedBytes int64 `json:"hard_linked_bytes,omitzero"`
	// Freed counts what a purge has removed of it, and the bytes that this has freed.
	Freed *sweep.Tally `json:"freed,omitempty"`
	// UnreadableVersions are lines of a damaged record. Their versions stay in the bucket.
	UnreadableVersions int `json:"unreadable_versions,omitzero"`

	// UnrecordedVersions are hidden in the bucket, and the run's record lacks them. They stay there.
	UnrecordedVersions int `json:"unrecorded_versions,omitzero"`

	freedData int64 // bytes of Freed without links
}

func newQuarantineRun(run quarantine.Run) quarantineRun {
	return quarantineRun{
		Run: run.Name, Taken: run.Taken, Plan: run.Plan, Contents: run.Contents, Objects: run.Objects, Hidden: run.Hidden,
		Damage: run.Damage, HardLinkedBytes: run.HardLinkedBytes,
		UnrecordedVersions: run.Unrecorded,
		LinksGuessed:       run.LinksGuessed, StillHidden: run.StillHidden, DataBytes: run.DataBytes, FreeableBytes: run.FreeableBytes,
	}
}

// held is all that a purge removes. Links have no bytes worth a number.
func (r quarantineRun) held() sweep.Tally {
	return sweep.Tally{Count: r.Objects.Count + r.StillHidden.Count, Bytes: r.DataBytes}
}

// isPart reports whether the run was interrupted, or something of it was restored.
func (r quarantineRun) isPart() bool {
	for kind, planned := range r.Plan {
		if kind.Form() != sweep.Directories && r.Contents[kind].Count < planned.Count {
			return true
		}
	}
	return false
}

func (r *runner) quarantineList(c *urfave.Context) error {
	return r.onQuarantine(c, "list", c.Args().Slice(), func(ctx context.Context, q *quarantineStep) error {
		runs, err := q.runs(ctx)
		if err != nil {
			return err
		}
		q.report.Runs = []quarantineRun{}
		for _, run := range runs {
			q.report.Runs = append(q.report.Runs, newQuarantineRun(run))
		}
		return nil
	}, writeQuarantineList)
}

func (q *quarantineStep) runs(ctx context.Context) ([]quarantine.Run, error) {
	phase := q.progress.begin("looking into the quarantine", "", 0)
	defer phase.end("")
	return quarantine.Runs(ctx, q.store)
}

func writeQuarantineList(w *bytes.Buffer, r *quarantineReport, width int) {
	if r.Error != "" {
		return
	}
	fmt.Fprintf(w, "%s %s\n\n", r.Storage.Driver, human.Printable(r.Storage.Root))
	if len(r.Runs) == 0 {
		fmt.Fprintln(w, "There is nothing in the quarantine.")
		return
	}
	writeRuns(w, r.Runs, width)
}

func writeRuns(w *bytes.Buffer, runs []quarantineRun, width int) {
	t := &human.Table{Columns: []human.Column{human.Left, human.Left, human.Right, human.Right, human.Prose}}
	t.Row("RUN", "MADE", "OBJECTS", "SIZE", "CONTENTS")
	for _, run := range runs {
		taken, about := run.Taken.UTC().Format("2006-01-02 15:04"), countsByKind(run.Contents)
		switch {
		case run.Damage != "":
			taken, about = "", run.Damage
		case run.isPart() && about == "nothing":
			about += ": what its plan lists was restored, or never moved"
		case run.isPart():
			about += "; the rest of its plan was restored, or never moved"
		}
		if run.LinksGuessed {
			about += "; the links are in its plan, and restore writes them again"
		}
		t.Row(human.Printable(run.Run), taken, human.Count(run.held().Count), human.Size(run.held().Bytes), human.Printable(about))
	}
	t.Write(w, width)
}
