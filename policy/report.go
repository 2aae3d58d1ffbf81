package policy

import (
	"bytes"
	"fmt"
	"time"

	"regsweep/internal/human"
	"regsweep/inventory"

	"github.com/opencontainers/go-digest"
)

// Report is the part of a run's report about the policy.
type Report struct {
	File    string    `json:"file"`
	Skipped []Skipped `json:"skipped"`
}

// TagReport is a tag that a rule selects, or that is removed.
type TagReport struct {
	Repository string        `json:"repository"`
	Tag        string        `json:"tag"`
	Digest     digest.Digest `json:"digest"`
	// Pushed is the time that the rules used, or the push time if no rule selects the tag. It is absent if it is
	// not known.
	Pushed  time.Time `json:"pushed,omitzero"`
	Verdict string    `json:"verdict"` // "keep" or "remove"
	Rule    string    `json:"rule"`
	Reason  string    `json:"reason,omitempty"` // the key of the rule that keeps the tag
	Bytes   int64     `json:"bytes"`            // what the removal of this tag alone would free; 0 if its subject counts it
}

// Report returns the verdicts. bytes returns what the removal of one tag alone would free.
func (d *Decision) Report(inv *inventory.Inventory, bytes func(inventory.TagPlace) int64) []TagReport {
	tags := []TagReport{}
	for _, tag := range d.Tags {
		r := inv.Repositories[tag.Repository]
		of := TagReport{
			Repository: r.Name, Tag: r.Tags[tag.Tag].Name, Digest: inv.Digest(r.Tags[tag.Tag].Target),
			Verdict: "keep", Rule: tag.Rule, Reason: tag.Reason, Bytes: bytes(tag.TagPlace),
		}
		if !tag.Time.IsZero() {
			of.Pushed = tag.Time.UTC()
		}
		if tag.Remove {
			of.Verdict = "remove"
		}
		tags = append(tags, of)
	}
	return tags
}

const (
	// shownVerdicts is the number of removed tags of a repository that the text names. JSON has all.
	shownVerdicts = 20
	// shownPolicyRepositories is the number of repositories with removed tags that the text names.
	shownPolicyRepositories = 20
)

// WriteVerdicts prints for each repository the tags that the policy removes, and how many it keeps.
func WriteVerdicts(w *bytes.Buffer, r *Report, tags []TagReport, width int) {
	t := &human.Table{Columns: []human.Column{human.Left, human.Left, human.Left, human.Right}}
	t.Row("Tags that "+human.Printable(r.File)+" removes", "RULE", "TIME", "ALONE")
	repositories, removed, hidden := 0, 0, 0
	for _, group := range groupByRepository(tags) {
		var remove, keep []TagReport
		for _, tag := range group {
			if tag.Verdict == "remove" {
				remove = append(remove, tag)
			} else {
				keep = append(keep, tag)
			}
		}
		removed += len(remove)
		if len(remove) == 0 {
			continue
		}
		if repositories++; repositories > shownPolicyRepositories {
			hidden += len(remove)
			continue
		}
		t.Row("  "+human.Printable(group[0].Repository), "", "", "")
		for _, tag := range remove[:min(shownVerdicts, len(remove))] {
			at := "not known"
			if !tag.Pushed.IsZero() {
				at = tag.Pushed.Format("2006-01-02 15:04")
			}
			t.Row("    "+human.Printable(tag.Tag), human.Printable(tag.Rule), at, human.Size(tag.Bytes))
		}
		if more := len(remove) - shownVerdicts; more > 0 {
			t.Row(fmt.Sprintf("    and %s more: see --json", human.Count(more)), "", "", "")
		}
		if len(keep) > 0 {
			t.Row(fmt.Sprintf("    keeps %s that rules select", human.Plural(len(keep), "tag")), "", "", "")
		}
	}
	fmt.Fprintln(w)
	if removed == 0 {
		fmt.Fprintf(w, "%s removes no tag: its rules select %s, and keep all of them.\n", human.Printable(r.File), human.Plural(len(tags), "tag"))
	} else {
		t.Write(w, width)
	}
	if hidden > 0 {
		fmt.Fprintf(w, "  and %s of other repositories: see --json\n", human.Plural(hidden, "tag"))
	}
	for _, skipped := range r.Skipped {
		for _, line := range human.Wrap(fmt.Sprintf("%s is left alone: %s", human.Printable(skipped.Repository), skipped.Reason), width) {
			fmt.Fprintln(w, line)
		}
	}
}

// groupByRepository divides tags, which are in the order of their repositories.
func groupByRepository(tags []TagReport) (groups [][]TagReport) {
	for i, tag := range tags {
		if i == 0 || tags[i-1].Repository != tag.Repository {
			groups = append(groups, nil)
		}
		last := len(groups) - 1
		groups[last] = append(groups[last], tag)
	}
	return groups
}
