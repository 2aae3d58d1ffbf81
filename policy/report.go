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
	// Untagged has the rules with untagged.
	Untagged []UntaggedCount `json:"untagged"`
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
	// shownVerdicts is the number of tags that the text names of one repository. JSON has all.
	shownVerdicts = 20
	// shownRepositories is the number of repositories whose tags the text names.
	shownRepositories = 20
	// shortList is the number of selected tags up to which the text names those that are kept too.
	shortList = 100
)

// WriteVerdicts prints how many tags are removed, and then the tags of each repository. If they are many, it names
// only those that are removed, and not all of them. Tags that follow a subject are only counted.
func WriteVerdicts(w *bytes.Buffer, r *Report, tags []TagReport, width int) {
	var groups, unchanged []*verdicts // repositories with and without removed tags
	removed, kept := 0, 0
	for _, of := range groupByRepository(tags) {
		removed, kept = removed+len(of.removed)+of.followers, kept+of.kept
		if len(of.removed)+of.followers > 0 {
			groups = append(groups, of)
		} else {
			unchanged = append(unchanged, of)
		}
	}
	write := func(format string, args ...any) {
		for _, line := range human.Wrap(fmt.Sprintf(format, args...), width) {
			fmt.Fprintln(w, line)
		}
	}
	fmt.Fprintln(w)
	file, others := human.Printable(r.File), human.Plural(kept, "tag")
	switch {
	case removed == 0 && kept == 0:
		write("%s selects no tag.", file)
	case removed == 0:
		write("%s removes no tag. It keeps the %s that its rules select.", file, others)
	default:
		write("%s removes %s of %s. It keeps %s that its rules select.", file, human.Plural(removed, "tag"), human.Plural(len(groups), "repository"), others)
	}
	for _, of := range r.Untagged {
		write("The rule %s removes %s of %s.", human.Printable(of.Rule), human.Plural(of.Manifests, "untagged manifest"), human.Plural(of.Repositories, "repository"))
	}
	isShort := len(tags) <= shortList
	if isShort {
		groups, unchanged = append(groups, unchanged...), nil
	}
	if len(groups) > 0 {
		fmt.Fprintln(w)
		writeGroups(w, groups[:min(shownRepositories, len(groups))], isShort, width)
	}
	if more := len(groups) - shownRepositories; more > 0 {
		n := 0
		for _, of := range groups[shownRepositories:] {
			n += len(of.removed) + of.followers
		}
		write("And %s of %s: see --json.", human.Plural(n, "removed tag"), human.Plural(more, "other repository"))
	}
	if len(unchanged) > 0 && len(groups) > 0 {
		verb := "lose"
		if len(unchanged) == 1 {
			verb = "loses"
		}
		write("%s %s no tag.", human.Plural(len(unchanged), "other repository"), verb)
	}
	for _, skipped := range r.Skipped {
		write("%s is left alone: %s.", human.Printable(skipped.Repository), skipped.Reason)
	}
}

// writeGroups prints the tags of repositories as a table: all tags, or those that are removed.
func writeGroups(w *bytes.Buffer, groups []*verdicts, all bool, width int) {
	t := &human.Table{Columns: []human.Column{human.Left, human.Left, human.Prose, human.Left, human.Right}}
	t.Row("Tag", "", "RULE", "TIME (UTC)", "FREES ALONE")
	for _, of := range groups {
		t.Row("  " + human.Printable(of.repository))
		named := of.removed
		if all && len(of.all) <= shownVerdicts {
			named = of.all
		}
		for _, tag := range named[:min(shownVerdicts, len(named))] {
			at, rule, bytes := "not known", human.Printable(tag.Rule), ""
			if !tag.Pushed.IsZero() {
				at = tag.Pushed.Format("2006-01-02 15:04")
			}
			if tag.Reason != "" {
				rule += ": " + tag.Reason
			}
			if tag.Verdict == "remove" {
				bytes = human.Size(tag.Bytes)
			}
			t.Row("    "+human.Printable(tag.Tag), tag.Verdict, rule, at, bytes)
		}
		if more := len(named) - shownVerdicts; more > 0 {
			t.Row(fmt.Sprintf("    and %s more: see --json", human.Count(more)))
		}
		if of.followers > 0 {
			t.Row(fmt.Sprintf("    and %s for their signatures and other referrers", human.Plural(of.followers, "tag")))
		}
		if hidden := of.kept + len(of.removed) - len(named); hidden > 0 {
			verb := "are"
			if hidden == 1 {
				verb = "is"
			}
			t.Row(fmt.Sprintf("    and %s %s kept", human.Plural(hidden, "tag"), verb))
		}
	}
	t.Write(w, width)
}

// verdicts are the tags of one repository.
type verdicts struct {
	repository   string
	all, removed []TagReport // without those that follow a subject
	followers    int         // removed tags that follow a subject
	kept         int
}

// groupByRepository divides tags, which are in the order of their repositories.
func groupByRepository(tags []TagReport) (groups []*verdicts) {
	for i, tag := range tags {
		if i == 0 || tags[i-1].Repository != tag.Repository {
			groups = append(groups, &verdicts{repository: tag.Repository})
		}
		of := groups[len(groups)-1]
		if tag.Rule == BySubject {
			of.followers++
			continue
		}
		of.all = append(of.all, tag)
		if tag.Verdict == "remove" {
			of.removed = append(of.removed, tag)
		} else {
			of.kept++
		}
	}
	return groups
}
