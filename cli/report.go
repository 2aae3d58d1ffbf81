package cli

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"regsweep/descriptors"
	"regsweep/guard"
	"regsweep/internal/human"
	"regsweep/inventory"
	"regsweep/policy"
	"regsweep/storage"
	"regsweep/sweep"
	"regsweep/window"
)

// report is the report of a run of gc or apply, as JSON and as text. The JSON fields and their order do
// not change after the first release. New fields may be added.
type report struct {
	Report  int              `json:"report"`
	Command string           `json:"command"`
	DryRun  bool             `json:"dry_run"`
	Storage storage.Identity `json:"storage"`
	Config  string           `json:"config,omitempty"` // the config.yml that was read
	Mark    sweep.Totals     `json:"mark"`
	Garbage tallies          `json:"garbage"`
	Removed tallies          `json:"removed"`
	// Unlinked counts the garbage blobs that no repository links.
	Unlinked sweep.Tally `json:"unlinked"`
	// HardLinked counts the garbage files that have other hard links, and their bytes, which a
	// removal does not free. After a removal it counts those that were removed.
	HardLinked sweep.Tally  `json:"hard_linked"`
	Kept       []sweep.Kept `json:"kept"`
	// ByRepository has the garbage of each repository.
	ByRepository []sweep.RepositoryGarbage `json:"garbage_by_repository"`
	Problems     []inventory.Problem       `json:"problems"`
	Requests     storage.Requests          `json:"requests"`
	Seconds      seconds                   `json:"seconds"`

	// HiddenBytes counts the bytes that were moved to a quarantine, or hidden by a bucket that keeps
	// versions. They are not freed.
	HiddenBytes int64       `json:"hidden_bytes"`
	Quarantine  *moveReport `json:"quarantine,omitempty"`
	LeftOut     []*leftOut  `json:"left_out,omitzero"` // only of apply
	// Budget is nil without --until, --for and --max-bytes.
	Budget *budgetReport `json:"budget,omitempty"`
	// OlderPlan is the new name of an older plan at the path of --plan, which a restore could need.
	OlderPlan   string         `json:"older_plan,omitempty"`
	Roots       *rootsReport   `json:"roots,omitempty"`
	KeepDigests *rootsReport   `json:"keep_digests,omitempty"`
	Protect     []*rootsReport `json:"protect,omitzero"` // of the lists that the policy names
	// Policy and Tags are about --policy. Tags has every tag that a rule selects.
	Policy *policy.Report     `json:"policy,omitempty"`
	Tags   []policy.TagReport `json:"tags,omitzero"`
	Window *window.Report     `json:"window,omitempty"` // only of the command window
	cacheReport
	// Versions is nil if the storage cannot keep versions.
	Versions *versionsReport `json:"versions,omitempty"`
	Failed   []failure       `json:"failed"`
	// Descriptors is nil if config.yml names no cache of descriptors.
	Descriptors *descriptors.Report `json:"descriptors,omitempty"`
	Guard       *guard.Verdict      `json:"guard,omitempty"`
	ending

	plan   *sweep.Plan   // nil until the plan is made
	result *sweep.Result // nil until the sweep has ended

	notRead      []string // other default config.yml files that exist
	leftOutSaved bool     // a file has all removals that were left out
	unsaved      string   // "plan" or "list" if the run ends because that could not be saved
	stopped      bool     // an error stopped the sweep
	asked        bool     // the summary was shown on the terminal, with the question
}

// tallies counts objects by kind.
type tallies map[sweep.Kind]sweep.Tally

// MarshalJSON writes an object with a field for each kind, in the order of the report.
func (t tallies) MarshalJSON() ([]byte, error) {
	out := []byte{'{'}
	for i, kind := range sweep.Reported() {
		if i > 0 {
			out = append(out, ',')
		}
		out = fmt.Appendf(out, `"%s":{"count":%d`, kind.ReportName(), t[kind].Count)
		if kind.Form().HasBytes() {
			out = fmt.Appendf(out, `,"bytes":%d`, t[kind].Bytes)
		}
		out = append(out, '}')
	}
	return append(out, '}'), nil
}

// bytes returns the sum over all kinds.
func (t tallies) bytes() int64 {
	var sum sweep.Tally
	for _, tally := range t {
		sum.Add(0, tally.Bytes)
	}
	return sum.Bytes
}

// countsByKind returns the count of each kind, such as "2 blobs, 1 layer link", or "nothing".
func countsByKind(of map[sweep.Kind]sweep.Tally) string {
	var parts []string
	for _, kind := range sweep.Shown() {
		if n := of[kind].Count; n > 0 {
			parts = append(parts, human.Plural(n, kind.Noun()))
		}
	}
	if len(parts) == 0 {
		return "nothing"
	}
	return strings.Join(parts, ", ")
}

// countsAndSizes returns the count and the size of each kind, such as "2 blobs, 1.0 MiB; 1 layer link".
func countsAndSizes(garbage map[sweep.Kind]sweep.Tally) string {
	var parts []string
	for _, kind := range sweep.Shown() {
		tally := garbage[kind]
		if tally.Count == 0 {
			continue
		}
		part := human.Plural(tally.Count, kind.Noun())
		if kind.Form().HasBytes() {
			part += ", " + human.Size(tally.Bytes)
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, "; ")
}

// seconds has the time of each part of a run.
type seconds struct {
	Inventory float64 `json:"inventory"`
	Mark      float64 `json:"mark"`
	Plan      float64 `json:"plan"`
	Sweep     float64 `json:"sweep"`
}

// failure is a removal that failed.
type failure struct {
	sweep.Removal
	Error string `json:"error"`
}

func newReport(command string) *report {
	return &report{
		Report: 1, Command: command,
		Kept: []sweep.Kept{}, ByRepository: []sweep.RepositoryGarbage{}, Problems: []inventory.Problem{}, Failed: []failure{},
	}
}

// stopwatch starts a stopwatch. stop adds the time since then to *seconds.
func stopwatch(now func() time.Time, seconds *float64) (stop func()) {
	start := now()
	return func() { *seconds += now().Sub(start).Seconds() }
}

// planned adds the plan to the report.
func (r *report) planned(plan *sweep.Plan) {
	r.plan = plan
	r.Mark, r.Garbage = plan.Live, plan.Garbage
	r.Unlinked, r.HardLinked = plan.Unlinked, plan.HardLinked
	r.ByRepository = append(r.ByRepository, plan.ByRepository...)
	r.Kept = append(r.Kept, plan.Kept...)
	r.Problems = append(append(r.Problems, plan.Problems...), r.cacheReport.problems...)
}

// executed adds the result of the sweep to the report. err is the error that stopped the sweep, or nil.
func (r *report) executed(result sweep.Result, err error) {
	r.result, r.stopped = &result, err != nil
	r.Removed, r.HiddenBytes = result.Removed, result.Hidden
	if r.Quarantine == nil {
		r.HardLinked = result.HardLinked
	}
	if r.Versions != nil {
		r.Versions.Removed = result.Versions
	}
	for _, failed := range result.Failed {
		r.Failed = append(r.Failed, failure{failed.Removal, failed.Err.Error()})
	}
}

// conclude also sets unsaved.
func (r *report) conclude(err error) {
	r.ending.conclude(err)
	var unsaved *unsavedError
	if errors.As(err, &unsaved) {
		r.unsaved = unsaved.noun
	}
}

// moves reports whether the run moves or hides garbage instead of removing it. If the garbage is only
// empty directories, they are removed: there is nothing to restore.
func (r *report) moves() bool { return r.Quarantine != nil && r.plan.Len() > 0 }

// verb returns one of three words: garbage is removed, moved to a quarantine, or hidden by a bucket that
// keeps versions.
func (r *report) verb(remove, move, hide string) string {
	switch {
	case !r.moves():
		return remove
	case r.Quarantine.Hidden:
		return hide
	}
	return move
}

// countKeeping counts the problems that kept something that might be garbage, and the removals that
// failed. A failed removal does not stop a run if a repository could not be pruned, or if
// a file of an upload remains.
func (r *report) countKeeping() int {
	n := 0
	for _, p := range r.Problems {
		if p.Effect.Keeps() {
			n++
		}
	}
	return n + len(r.Failed)
}

// withoutNotes returns the problems that are not notes.
func withoutNotes(problems []inventory.Problem) []inventory.Problem {
	var out []inventory.Problem
	for _, p := range problems {
		if p.Effect != inventory.Note {
			out = append(out, p)
		}
	}
	return out
}

// usageReport is the JSON document for a command line without a command that has a report.
type usageReport struct {
	Report  int    `json:"report"`
	Command string `json:"command"`
	ending
}

// emptyReport returns the JSON document for a command line that is not valid.
func emptyReport(args []string) document {
	command := args[1]
	switch command {
	case "gc", "garbage-collect":
		return newReport("gc")
	case "apply":
		return newApplyReport()
	case "check":
		return newCheckReport()
	case "audit":
		return newAuditReport()
	case "why":
		return newWhyReport()
	case "verify":
		return newVerifyReport()
	case "graph":
		return newGraphReport()
	case quarantineName:
		return newQuarantineReport(strings.Join(args[2:min(3, len(args))], " "), false)
	}
	return &usageReport{Report: 1, Command: command}
}
