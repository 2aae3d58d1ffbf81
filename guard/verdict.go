package guard

import (
	"maps"
	"slices"
)

// State is the result of a verdict.
type State string

const (
	Proven  State = "proven"  // nobody can write: the run may remove
	Refused State = "refused" // somebody can write, or it is unknown
	Skipped State = "skipped" // the user wants to go on without a proof
)

// By is the reason of a verdict.
type By string

const (
	// Reasons of Proven.
	ByReadOnly By = "read_only" // every endpoint answers, and is read-only
	ByOperator By = "operator"  // --registry-stopped

	// Reasons of Refused. The first one that applies is reported.
	ByOtherTruth   By = "other_truth"   // a database says what is alive, and not the storage
	ByWritable     By = "writable"      // a registry accepts pushes to this storage
	ByOtherStorage By = "other_storage" // an endpoint serves another storage, or more than this one
	ByProxy        By = "proxy"         // a pull-through cache writes whenever somebody pulls
	ByUnknown      By = "unknown"       // nothing known, no answer, an answer not understood
	ByRecentUpload By = "recent_upload" // somebody pushed just now

	// The reason of Skipped.
	ByUnsafe By = "unsafe_online"
)

// Verdict is the result of Prove. It marshals to JSON for scripts. The values of State, By and
// Result do not change from release to release.
type Verdict struct {
	State State `json:"verdict"`
	By    By    `json:"by"`
	// Reason is the verdict in one sentence, without a full stop.
	Reason string `json:"reason"`
	// Evidence is in the order in which a reader follows it; never nil.
	Evidence []Evidence `json:"evidence"`
	// Remedy has one item for each thing that the user can do after a refusal; never nil. An
	// item may have several lines: prose and lines to copy (a configuration, a flag)
	// alternate, with an empty line between.
	Remedy []string `json:"remedy"`
	// Steps are the remedies as steps. The user has to do one remedy of each step.
	Steps [][]string `json:"-"`

	proof *proof // nil unless the verdict is a refusal
}

// WithLastUpload returns the refusal with the last upload as further evidence. It is for an upload
// that becomes known after the verdict. Nothing is probed again.
func (v Verdict) WithLastUpload(last *Upload) Verdict {
	if v.proof == nil || last == nil || v.proof.options.LastUpload != nil {
		return v
	}
	p := *v.proof
	p.evidence, p.steps, p.reasons = slices.Clone(p.evidence), slices.Clone(p.steps), maps.Clone(p.reasons)
	p.options.LastUpload = last
	p.readUploads()
	return p.verdict()
}

// MayRemove reports whether the verdict allows a sweep to begin, or to go on.
func (v Verdict) MayRemove() bool { return v.State == Proven || v.State == Skipped }

// Result is the effect of one piece of evidence on the verdict.
type Result string

const (
	OK      Result = "ok"      // for a removal
	Against Result = "against" // against a removal
	Unknown Result = "unknown" // no answer where one is needed; counts against a removal
	Note    Result = "note"    // information that does not count
)

// Evidence is the result of one check. It can be read on its own.
type Evidence struct {
	Subject string `json:"subject"` // an endpoint, config.yml, the uploads or the user
	Check   string `json:"check"`   // the check that was made
	Seen    string `json:"seen"`    // the unchanged answer
	Meaning string `json:"meaning"` // what the answer means for a removal
	Result  Result `json:"result"`
}

// RefusedError is a Refused verdict as an error.
type RefusedError struct{ Verdict Verdict }

func (e *RefusedError) Error() string { return "refused: " + e.Verdict.Reason }
