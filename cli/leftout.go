package cli

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"regsweep/internal/human"
	"regsweep/sweep"
)

const (
	// maxLeftOut is the number of examples in a row of the JSON report.
	maxLeftOut = 1000
	// shownLeftOut is the number of examples in a row of the text.
	shownLeftOut = 3
)

var leftOutKind = fileKind{"list", "a list that --" + leftOutName + " wrote", 0o600, func(line []byte) bool {
	var first struct {
		LeftOut string `json:"left_out"`
	}
	return json.Unmarshal(line, &first) == nil && first.LeftOut != ""
}}

// leftOut has the removals of the reviewed plan that a run does not make, of one kind and for one
// reason. Count counts all of them.
type leftOut struct {
	Kind     sweep.Kind      `json:"kind"`
	Reason   sweep.Reason    `json:"reason"`
	Count    int             `json:"count"`
	Examples []sweep.Removal `json:"examples"`
}

func newApplyReport() *report {
	r := newReport("apply")
	r.LeftOut = []*leftOut{}
	return r
}

// addLeftOut adds a removal of the reviewed plan that the run does not make.
func (r *report) addLeftOut(removal sweep.Removal, reason sweep.Reason) {
	at := slices.IndexFunc(r.LeftOut, func(row *leftOut) bool { return row.Kind == removal.Kind && row.Reason == reason })
	if at < 0 {
		at = len(r.LeftOut)
		r.LeftOut = append(r.LeftOut, &leftOut{Kind: removal.Kind, Reason: reason})
	}
	row := r.LeftOut[at]
	row.Count++
	if len(row.Examples) < maxLeftOut {
		row.Examples = append(row.Examples, removal)
	}
}

// leftOutReasons explains why a run does not make a removal of the plan.
var leftOutReasons = map[sweep.Reason]string{
	sweep.LeftTagged:        "reached from a tag again",
	sweep.KeptUntagged:      "reached from an untagged manifest that the plan does not take",
	sweep.KeptAge:           "younger than the plan's --min-age, or named by a link that is",
	sweep.KeptUnlinkedChild: "a deleted platform that an index has",
	sweep.KeptDamage:        "kept by damage in a repository",
	sweep.KeptUpload:        "younger than the plan's --upload-age",
	sweep.KeptMultipart:     "uploaded in parts, which can't be moved: apply without --quarantine",
	sweep.KeptLimit:         "above --max-bytes: left to the next run",
	sweep.KeptLinked:        "still linked, by a link that the plan does not take",
	sweep.LeftGone:          "gone already, or a tag that was pushed again",
	sweep.LeftNotEmpty:      "not empty",
}

// writeLeftOut prints the removals of the reviewed plan that are left out, and the reasons. inFile says
// that --left-out has saved all of them.
func writeLeftOut(w *bytes.Buffer, rows []*leftOut, inFile bool) {
	if len(rows) == 0 {
		return
	}
	where := "name a file with --" + leftOutName
	if inFile {
		where = "see --" + leftOutName
	}
	fmt.Fprint(w, "\nLeft out of the plan\n")
	for _, row := range rows {
		fmt.Fprintf(w, "  %s: %s\n", human.Plural(row.Count, row.Kind.Noun()), leftOutReasons[row.Reason])
		for _, example := range row.Examples[:min(len(row.Examples), shownLeftOut)] {
			fmt.Fprintf(w, "    %s\n", human.Printable(nameOf(example)))
		}
		if more := row.Count - shownLeftOut; more > 0 {
			fmt.Fprintf(w, "    and %s more: %s\n", human.Count(more), where)
		}
	}
}

// nameOf returns the repository, tag and digest or upload of a removal.
func nameOf(r sweep.Removal) string {
	where := r.Repository
	if r.Tag != "" {
		where += ":" + r.Tag
	}
	return strings.TrimSpace(where + " " + cmp.Or(string(r.Digest), r.Upload))
}
