package quarantine

import (
	"hash/maphash"
	"slices"
	"strings"

	"regsweep/sweep"

	"github.com/opencontainers/go-digest"
)

// Restored is the result of a restore.
type Restored struct {
	// Back counts the removals of the plan that were undone, with the bytes of blobs and uploads.
	// There counts the removals for which nothing had to be done, because the objects exist.
	Back, There map[sweep.Kind]sweep.Tally
	// Left has the first 1,000 removals by path that were not undone. LeftCount is their number.
	Left      []Left
	LeftCount int
	// Damaged are the runs that RestoreAll skipped because their plans can't be read.
	Damaged []Damaged
	// NotLinked has the first 1,000 manifests, sorted, that no repository links. NotLinkedCount is
	// their number. Nobody can pull them. The registry's API had deleted their links before the
	// run, so the quarantine has only their blobs. With RestoreOptions.Repository they are the
	// manifests that this repository can serve again, and their blobs are still in the
	// quarantine. A restore with RestoreOptions.Digest links them.
	NotLinked      []digest.Digest
	NotLinkedCount int
	// NotLinkedUnknown is the error that left NotLinked unknown, "" if there is none.
	// The restore itself is complete.
	NotLinkedUnknown string
	// Linked are the revision links that were written although no plan lists them. A deletion
	// through the registry's API had removed them before the run. They are only written with
	// RestoreOptions.Digest.
	Linked []Linked
	// Unlinked is RestoreOptions.Digest if it is a manifest that no repository links: it is stored
	// and can't be pulled.
	Unlinked digest.Digest
}

// Damaged is a run that can't be restored.
type Damaged struct {
	Run     string `json:"run"`
	Problem string `json:"problem"`
}

// Linked is a manifest that a repository links again.
type Linked struct {
	Repository string        `json:"repository"`
	Digest     digest.Digest `json:"digest"`
}

// Left is a removal that was not undone, with the reason.
type Left struct {
	sweep.Removal
	Why Why `json:"why"`
}

// Why is the reason why a removal was not undone.
type Why string

// The reasons.
const (
	WhyGone     Why = "gone"     // it is neither in the registry nor in the quarantine
	WhyDamaged  Why = "damaged"  // its copy in the quarantine is damaged
	WhyOccupied Why = "occupied" // another object is at its path, and is not overwritten
	WhyCovered  Why = "covered"  // a later version of it is hidden too, by another run or by hand
	// WhyUnrecorded is the reason for an object with a hidden version that no record has.
	WhyUnrecorded Why = "unrecorded"
	WhyNoBlob     Why = "no_blob" // the blob that the link points to does not exist
	WhyUnnamed    Why = "unnamed" // the line of the plan has names that are not valid in the layout
)

const maxLeft = 1000

func (s *restoration) note(removal sweep.Removal, v verdict) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.noted != nil {
		hash := maphash.String(s.seed, string(removal.Kind)+" "+removal.Path+" "+string(removal.Digest))
		wasLeft, again := s.noted[hash]
		// In a dry run, the version that a newer run would restore still covers an older version.
		wouldBeThere := again && !wasLeft && s.options.DryRun && v.why == WhyCovered
		if wouldBeThere || again && wasLeft == (v.why != "") {
			return
		}
		if again && wasLeft {
			s.result.LeftCount--
			s.result.Left = slices.DeleteFunc(s.result.Left, func(l Left) bool {
				return l.Kind == removal.Kind && l.Path == removal.Path && l.Digest == removal.Digest
			})
		}
		s.noted[hash] = v.why != ""
	}
	if isContent := removal.Kind.Form() == sweep.Content; isContent && v.why == "" {
		delete(s.lost, removal.Digest)
	} else if isContent {
		s.lost[removal.Digest] = true
	}
	to := s.result.There
	switch {
	case v.why != "":
		s.result.LeftCount++
		s.result.Left = append(s.result.Left, Left{removal, v.why})
		if len(s.result.Left) > 2*maxLeft {
			s.result.truncateLeft()
		}
		return
	case v.back:
		to = s.result.Back
		if s.options.OnRestored != nil {
			s.options.OnRestored(removal.Kind, sweep.Tally{Count: 1, Bytes: removal.Bytes})
		}
	}
	tally := to[removal.Kind]
	tally.Add(1, removal.Bytes)
	to[removal.Kind] = tally
}

// truncateLeft sorts Left by path and truncates it to maxLeft.
func (r *Restored) truncateLeft() {
	slices.SortFunc(r.Left, func(a, b Left) int { return strings.Compare(a.Path, b.Path) })
	r.Left = r.Left[:min(len(r.Left), maxLeft)]
}

func (s *restoration) finished() Restored {
	s.result.truncateLeft()
	return s.result
}
