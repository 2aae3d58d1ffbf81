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

// quarantineRun is the part of a report about one run in the quarantine.
type quarantineRun struct {
	Run string `json:"run"`
	// Taken is the time of the run. It is left out if the run's plan is damaged.
	Taken time.Time `json:"taken,omitzero"`
	// Plan counts what the run was to move, and Contents what of it is in the quarantine now. If
	// LinksGuessed is true, the links of Contents are those of Plan: only show checks each link.
	// Objects counts what was moved and is still in the quarantine. Hidden counts what a bucket that
	// keeps versions was to hide, and StillHidden what of that was not restored.
	Plan     tallies     `json:"plan"`
	Contents tallies     `json:"contents"`
	Objects  sweep.Tally `json:"objects"`
	Hidden   sweep.Tally `json:"hidden"`
	Damage   string      `json:"damage,omitempty"`

	LinksGuessed bool        `json:"links_guessed,omitzero"`
	StillHidden  sweep.Tally `json:"still_hidden"`
	// DataBytes counts the bytes of Objects and StillHidden without links. FreeableBytes counts
	// those that a purge frees.
	DataBytes     int64 `json:"data_bytes"`
	FreeableBytes int64 `json:"freeable_bytes"`
	// HardLinkedBytes counts the bytes of Objects that a purge does not free, because the files have
	// other hard links.
	HardLinkedBytes int64 `json:"hard_linked_bytes,omitzero"`
	// Freed counts the objects that a purge has removed, and the bytes that it has freed.
	Freed *sweep.Tally `json:"freed,omitempty"`
	// UnreadableVersions counts the damaged lines in the run's record of versions. The versions of
	// these lines stay in the bucket.
	UnreadableVersions int `json:"unreadable_versions,omitzero"`

	// UnrecordedVersions counts the objects that are hidden in the bucket and are not in the run's
	// record. Their versions stay in the bucket.
	UnrecordedVersions int `json:"unrecorded_versions,omitzero"`

	freedData int64 // the bytes of Freed without links
}

func newQuarantineRun(run quarantine.Run) quarantineRun {
	return quarantineRun{
		Run: run.Name, Taken: run.Taken, Plan: run.Plan, Contents: run.Contents, Objects: run.Objects, Hidden: run.Hidden,
		Damage: run.Damage, HardLinkedBytes: run.HardLinkedBytes,
		UnrecordedVersions: run.Unrecorded,
		LinksGuessed:       run.LinksGuessed, StillHidden: run.StillHidden, DataBytes: run.DataBytes, FreeableBytes: run.FreeableBytes,
	}
}

// held counts the objects that a purge removes. The bytes are those without links.
func (r quarantineRun) held() sweep.Tally {
	return sweep.Tally{Count: r.Objects.Count + r.StillHidden.Count, Bytes: r.DataBytes}
}

// isPartial reports whether the quarantine has less than the run's plan: the run was interrupted, or
// something was restored.
func (r quarantineRun) isPartial() bool {
	for kind, planned := range r.Plan {
		if kind.Form() != sweep.Directories && r.Contents[kind].Count < planned.Count {
			return true
		}
	}
	return false
}

func (r *runner) quarantineList(c *urfave.Context) error {
	return r.runQuarantine(c, "list", c.Args().Slice(), func(ctx context.Context, q *quarantineTask) error {
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

// runs returns the runs in the quarantine.
func (q *quarantineTask) runs(ctx context.Context) ([]quarantine.Run, error) {
	phase := q.progress.Begin("looking into the quarantine", "", 0)
	defer phase.End("")
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

// writeRuns prints the table of runs.
func writeRuns(w *bytes.Buffer, runs []quarantineRun, width int) {
	t := &human.Table{Columns: []human.Column{human.Left, human.Left, human.Right, human.Right, human.Prose}}
	t.Row("RUN", "MADE", "OBJECTS", "SIZE", "CONTENTS")
	for _, run := range runs {
		taken, about := run.Taken.UTC().Format("2006-01-02 15:04"), countsByKind(run.Contents)
		switch {
		case run.Damage != "":
			taken, about = "", run.Damage
		case run.isPartial() && about == "nothing":
			about += ": what its plan lists was restored, or never moved"
		case run.isPartial():
			about += "; the rest of its plan was restored, or never moved"
		}
		if run.LinksGuessed {
			about += "; the links are in its plan, and restore writes them again"
		}
		t.Row(human.Printable(run.Run), taken, human.Count(run.held().Count), human.Size(run.held().Bytes), human.Printable(about))
	}
	t.Write(w, width)
}
