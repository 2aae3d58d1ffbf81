package guard

import (
	"maps"
	"slices"
)

// State is what a verdict comes to.
type State string

const (
	Proven  State = "proven"  // nobody can write: remove
	Refused State = "refused" // somebody can, or it is not known
	Skipped State = "skipped" // the user wants to go on without proof
)

// By is the ground of a verdict.
type By string

const (
	// Grounds of Proven.
	ByReadOnly By = "read_only" // every endpoint answers, and is read-only
	ByOperator By = "operator"  // --registry-stopped

	// Grounds of Refused. The first one that holds is reported.
	ByOtherTruth   By = "other_truth"   // a database says what is alive, and not the storage
	ByWritable     By = "writable"      // a registry takes pushes to this storage
	ByOtherStorage By = "other_storage" // an endpoint serves another storage, or more than this one
	ByProxy        By = "proxy"         // a pull-through cache writes whenever somebody pulls
	ByUnknown      By = "unknown"       // nothing known, no answer, an answer not understood
	ByRecentUpload By = "recent_upload" // somebody pushed just now

	// The ground of Skipped.
	ByUnsafe By = "unsafe_online"
)

// Verdict is what Prove found. It marshals to JSON for scripts, and its words stay
// the same from release to release where they are of a type of this package.
type Verdict struct {
	State State `json:"verdict"`
	By    By    `json:"by"`
	// Reason is the verdict in one sentence, without a full stop.
	Reason string `json:"reason"`
	// Evidence is in the order in which a reader follows it; never nil.
	Evidence []Evidence `json:"evidence"`
	// Remedy has one item for each way out of a refusal, which may be of several
	// lines: the configuration or the flag, as it is to be written. Never nil.
	// In each, prose and lines to be copied alternate, with an empty line between.
	Remedy []string `json:"remedy"`
	// Steps are the same for a reader: one of each is to be done.
	Steps [][]string `json:"-"`

	proof *proof // of a refusal
}

// WithLastUpload is the refusal with what was pushed last, where that became known later. Nothing
// is asked again.
func (v Verdict) WithLastUpload(last *Upload) Verdict {
	if v.proof == nil || last == nil || v.proof.options.LastUpload != nil {
		return v
	}
	p := *v.proof
	p.evidence, p.steps, p.grounds = slices.Clone(p.evidence), slices.Clone(p.steps), maps.Clone(p.grounds)
	p.options.LastUpload = last
	p.readUploads()
	return p.verdict()
}

// MayRemove reports whether the verdict lets a sweep begin, or go on.
func (v Verdict) MayRemove() bool { return v.State == Proven || v.State == Skipped }

// Result is what one piece of evidence says about removing.
type Result string

const (
	OK      Result = "ok"      // for it
	Against Result = "against" // against it
	Unknown Result = "unknown" // says nothing, where an answer was needed: against it
	Note    Result = "note"    // good to know, and without weight
)

// Evidence is one thing that was looked at. Each is readable on its own.
type Evidence struct {
	Subject string `json:"subject"` // whom: an endpoint, config.yml, the uploads, the user
	Check   string `json:"check"`   // what was asked
	Seen    string `json:"seen"`    // the answer as it came
	Meaning string `json:"meaning"` // what it says about removing
	Result  Result `json:"result"`
}

// RefusedError is a verdict of Refused for callers that want an error.
type RefusedError struct{ Verdict Verdict }

func (e *RefusedError) Error() string { return "refused: " + e.Verdict.Reason }
