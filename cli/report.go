package cli

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"regsweep/guard"
	"regsweep/inventory"
	"regsweep/storage"
	"regsweep/storage/cache"
	"regsweep/sweep"
)

// report is what a run of gc or apply tells, as JSON or as text. Its fields and their order are
// stable from the first release on: new ones may be added.
type report struct {
	Report  int              `json:"report"`
	Command string           `json:"command"`
	DryRun  bool             `json:"dry_run"`
	Storage storage.Identity `json:"storage"`
	Config  string           `json:"config,omitempty"` // the config.yml that was read
	Mark    sweep.Totals     `json:"mark"`
	Garbage tallies          `json:"garbage"`
	Removed tallies          `json:"removed"`
	// Unlinked counts those of the garbage's blobs to which no repository has a link.
	Unlinked sweep.Tally `json:"unlinked"`
	// HardLinked counts the garbage whose files have other hard links, and the bytes that are not
	// freed for that. After a removal it is what was removed of it.
	HardLinked sweep.Tally  `json:"hard_linked"`
	Kept       []sweep.Kept `json:"kept"`
	// ByRepository has what is garbage in each repository.
	ByRepository []sweep.RepositoryGarbage `json:"garbage_by_repository"`
	Problems     []inventory.Problem       `json:"problems"`
	Requests     storage.Requests          `json:"requests"`
	Seconds      seconds                   `json:"seconds"`

	// HiddenBytes are those of what went out of sight only and was not freed: of what a
	// versioned bucket hid, or of what is in the quarantine.
	HiddenBytes int64        `json:"hidden_bytes"`
	Quarantine  *quarantined `json:"quarantine,omitempty"`
	LeftOut     []*leftOut   `json:"left_out,omitzero"` // apply's alone
	// OlderPlan is the new name of a plan that had the name of --plan, and that a restore could need.
	OlderPlan   string       `json:"older_plan,omitempty"`
	Roots       *rootsReport `json:"roots,omitempty"`
	KeepDigests *rootsReport `json:"keep_digests,omitempty"`
	Cache       *cache.Use   `json:"cache,omitempty"`
	// Versions is left out where the storage has none.
	Versions *versionsReport `json:"versions,omitempty"`
	Failed   []failure       `json:"failed"`
	Guard    *guard.Verdict  `json:"guard,omitempty"`
	ExitCode int             `json:"exit_code"`
	Error    string          `json:"error,omitempty"`

	cacheProblems []inventory.Problem // until they are among the others

	plan   *sweep.Plan   // nil until there is one
	result *sweep.Result // nil until something may have been removed

	notRead      []string // the usual config.yml that are there as well
	leftOutSaved bool     // in a file, all of it
	unsaved      string   // "plan" or "list", if the run ends because that could not be saved
	stopped      bool     // the removal ended before its end
	asked        bool     // the summary was shown, and what it says confirmed
}

// tallies count by kind. Each kind is a field, in the order of the report.
type tallies map[sweep.Kind]sweep.Tally

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

// bytes are what the storage gets back.
func (t tallies) bytes() int64 {
	var sum sweep.Tally
	for _, tally := range t {
		sum.Add(0, tally.Bytes)
	}
	return sum.Bytes
}

type seconds struct {
	Inventory float64 `json:"inventory"`
	Mark      float64 `json:"mark"`
	Plan      float64 `json:"plan"`
	Sweep     float64 `json:"sweep"`
}

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

// stopwatch adds the time until stop is called to *seconds.
func stopwatch(now func() time.Time, seconds *float64) (stop func()) {
	start := now()
	return func() { *seconds += now().Sub(start).Seconds() }
}

func (r *report) planned(plan *sweep.Plan) {
	r.plan = plan
	r.Mark, r.Garbage = plan.Live, plan.Garbage
	r.Unlinked, r.HardLinked = plan.Unlinked, plan.HardLinked
	r.ByRepository = append(r.ByRepository, plan.ByRepository...)
	r.Kept = append(r.Kept, plan.Kept...)
	r.Problems = append(append(r.Problems, plan.Problems...), r.cacheProblems...)
}

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

func (r *report) conclude(err error) {
	r.ExitCode, r.Error = exitCode(err), message(err)
	var unsaved *unsavedError
	if errors.As(err, &unsaved) {
		r.unsaved = unsaved.noun
	}
}

// moves reports whether garbage is moved or hidden, and not removed. A quarantine takes no
// directories alone: there is nothing to restore.
func (r *report) moves() bool { return r.Quarantine != nil && r.plan.Len() > 0 }

// message is what a report tells of an error: nothing where there is none, or where
// the exit code says it all.
func message(err error) string {
	if err == nil || exitCode(err) == exitProblems {
		return ""
	}
	return err.Error()
}

// keepers counts the problems that kept something that might have gone, and the removals
// that failed: those that do not stop a run are of repositories that could not be pruned, and of
// uploads of which a file was left.
func (r *report) keepers() int {
	n := 0
	for _, p := range r.Problems {
		if p.Effect.Keeps() {
			n++
		}
	}
	return n + len(r.Failed)
}

// failures are the problems that are more than a note.
func withoutNotes(problems []inventory.Problem) []inventory.Problem {
	var out []inventory.Problem
	for _, p := range problems {
		if p.Effect != inventory.Note {
			out = append(out, p)
		}
	}
	return out
}

// usageReport answers a command line that names no command that reports.
type usageReport struct {
	Report   int    `json:"report"`
	Command  string `json:"command"`
	ExitCode int    `json:"exit_code"`
	Error    string `json:"error"`
}

func (r *usageReport) conclude(err error) { r.ExitCode, r.Error = exitCode(err), message(err) }

// emptyReport is the document of a command line that got no further.
func emptyReport(args []string) document {
	command := args[1]
	switch command {
	case "gc", "garbage-collect":
		return newReport("gc")
	case "apply":
		return newApplyReport()
	case "check":
		return newCheckReport()
	case quarantineName:
		return newQuarantineReport(strings.Join(args[2:min(3, len(args))], " "), false)
	}
	return &usageReport{Report: 1, Command: command}
}
