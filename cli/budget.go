package cli

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"

	"regsweep/guard"
	"regsweep/internal/human"
	"regsweep/storage"
	"regsweep/sweep"

	urfave "github.com/urfave/cli/v2"
)

const (
	untilName    = "until"
	forName      = "for"
	maxBytesName = "max-bytes"
)

// budgetFlags returns the flags that limit a run.
func budgetFlags() []urfave.Flag {
	return []urfave.Flag{
		&urfave.GenericFlag{Name: untilName, Value: new(moment), Usage: "stop at `TIME`: the next 06:00 in local time, or 2026-12-24T06:00:00Z. The next run continues"},
		&urfave.GenericFlag{Name: forName, Value: new(span), Usage: "stop after `TIME`, such as 2h or 90m"},
		&urfave.GenericFlag{Name: maxBytesName, Value: new(byteSize), Usage: "remove blobs and uploads of at most `SIZE`, such as 200GB, the largest first"},
	}
}

// budget limits what a run may use.
type budget struct {
	until    moment
	limit    time.Duration // of --for; 0 without it
	maxBytes int64         // 0 for no limit
}

func readBudget(c *urfave.Context) budget {
	return budget{
		until: *c.Generic(untilName).(*moment), limit: c.Generic(forName).(*span).Duration,
		maxBytes: c.Generic(maxBytesName).(*byteSize).bytes,
	}
}

// span is the value of a flag: an age that is not 0.
type span struct{ age }

// Set implements urfave.Generic.
func (s *span) Set(text string) error {
	if err := s.age.Set(text); err != nil || s.Duration == 0 {
		return errors.New("want a time such as 90m or 2h")
	}
	return nil
}

// String implements urfave.Generic.
func (s *span) String() string {
	if s == nil || s.Duration == 0 {
		return ""
	}
	return s.age.String()
}

// moment is the value of a flag.
type moment struct{ human.Moment }

// Set implements urfave.Generic.
func (m *moment) Set(text string) (err error) {
	m.Moment, err = human.ParseMoment(text)
	return err
}

// setBudget sets the deadline of the run, unless the command has set it, and begins the report of the
// budget. start is when the command began: all its steps count.
func (g *gcRun) setBudget(start time.Time) error {
	b := g.options.budget
	if g.deadline.IsZero() {
		if b.limit > 0 {
			g.deadline = start.Add(b.limit)
		}
		if b.until != (moment{}) {
			until := b.until.After(start)
			if !until.After(start) {
				return storage.Usagef("--%s: %s is in the past", untilName, b.until)
			}
			if g.deadline.IsZero() || until.Before(g.deadline) {
				g.deadline = until
			}
		}
	}
	if !g.deadline.IsZero() || b.maxBytes > 0 {
		g.report.Budget = &budgetReport{Until: g.deadline.Truncate(time.Second), MaxBytes: b.maxBytes}
	}
	return nil
}

// stepAnswer is the step in which the run waits for a person.
const stepAnswer = "waiting for the answer"

// explainTimeUp returns the error of a run whose time was used up before it removed anything. It is a
// failure: the next run would end in the same way.
func (g *gcRun) explainTimeUp() error {
	g.report.Budget.Ended = endedByTime
	var took []string
	for _, step := range []struct {
		name    string
		seconds float64
	}{{"listing", g.report.Seconds.Inventory}, {"marking", g.report.Seconds.Mark}, {"planning", g.report.Seconds.Plan}} {
		if d := time.Duration(step.seconds * float64(time.Second)).Round(100 * time.Millisecond); d > 0 {
			took = append(took, step.name+" took "+d.String())
		}
	}
	text, advice := "before the listing", ", and the next run would end in the same way. Give it more time"
	if step := g.progress.Step(); step != "" {
		text = "while " + step
	}
	if g.progress.Step() == stepAnswer {
		advice = ""
	}
	if len(took) > 0 {
		text += " (" + strings.Join(took, ", ") + ")"
	}
	return fmt.Errorf("%w %s: nothing was removed%s", guard.ErrTimeUp, text, advice)
}

// budgetReport is the part of the report about the limits of the run.
type budgetReport struct {
	Until    time.Time `json:"until,omitzero"`
	MaxBytes int64     `json:"max_bytes,omitzero"`
	// Ended is the limit that kept the run from removing all garbage, "" if none did.
	Ended string      `json:"ended"`
	Left  *sweep.Rest `json:"left,omitempty"` // nil until the plan is made
}

const (
	endedByTime  = "time"
	endedByBytes = "bytes"
)

// countLeft completes the report of the budget.
func (r *report) countLeft() {
	if r.Budget == nil || r.plan == nil {
		return
	}
	left := r.plan.Rest(r.result)
	if r.DryRun { // of the garbage in the plan nothing would be left
		left = r.plan.Rest(&sweep.Result{Removed: r.Garbage})
	}
	if r.Budget.Left = &left; r.Budget.Ended == "" && r.plan.Left != (sweep.Left{}) {
		r.Budget.Ended = endedByBytes
	}
}

// writeLeft prints what a limit has left to the next run.
func writeLeft(w *bytes.Buffer, r *report) {
	if r.Budget == nil || r.Budget.Ended == "" || r.result == nil && !r.DryRun && !r.plan.Idle() {
		return
	}
	left := r.Budget.Left
	counts := countsByKind(map[sweep.Kind]sweep.Tally{sweep.Blob: {Count: left.Blobs}, sweep.Upload: {Count: left.Uploads}})
	if left.Links > 0 {
		counts += ", " + human.Plural(left.Links, "link")
	}
	switch {
	case left.Blobs+left.Uploads+left.Links == 0:
		fmt.Fprintln(w, "Only empty directories are left. The next run continues.")
	case r.DryRun:
		fmt.Fprintf(w, "It would leave %s; %s. The run after it continues.\n", counts, human.Size(left.Bytes))
	default:
		fmt.Fprintf(w, "Left: %s; %s. The next run continues.\n", counts, human.Size(left.Bytes))
	}
	if n := left.TooLarge; n.Count > 0 {
		fmt.Fprintf(w, "Larger than --%s: %s of %s. No run with this limit removes them.\n", maxBytesName, human.Plural(n.Count, "object"), human.Size(n.Bytes))
	}
}
