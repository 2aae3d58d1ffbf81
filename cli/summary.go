package cli

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"

	"regsweep/guard"
	"regsweep/internal/human"
	"regsweep/inventory"
	"regsweep/policy"
	"regsweep/sweep"
)

// shownRepositories is the number of repositories that the summary names for one reason. The JSON report
// has all of them.
const shownRepositories = 5

// writeSummary prints the totals of the plan: what is kept, the garbage, what is kept although no tag
// reaches it, and the problems.
func writeSummary(w *bytes.Buffer, r *report, width int) {
	fmt.Fprintf(w, "%s %s\n", r.Storage.Driver, human.Printable(r.Storage.Root))
	writeConfig(w, r.Config, r.notRead, width)
	fmt.Fprintln(w)
	verdict := ""
	switch {
	case r.Guard == nil:
	case r.Guard.State == guard.Skipped:
		verdict = "SKIPPED: "
	case r.DryRun:
		verdict = "REFUSED: a run that removes would be refused: "
	}
	if verdict != "" {
		for _, line := range human.Wrap(verdict+human.Printable(r.Guard.Reason)+".", width) {
			fmt.Fprintln(w, line)
		}
		fmt.Fprintln(w)
	}
	t := &human.Table{Columns: []human.Column{human.Left, human.Right, human.Right, human.Prose}}
	t.Row("", "COUNT", "SIZE", "")
	t.Row("Kept", "", "", "")
	t.Row("  repositories", human.Count(r.Mark.Repositories), "", "")
	t.Row("  tags", human.Count(r.Mark.Tags), "", "")
	t.Row("  manifests", human.Count(r.Mark.Manifests), "", "")
	t.Row("  blobs", human.Count(r.Mark.Blobs), human.Size(r.Mark.Bytes), claimed(r.Mark.ClaimedBytes))
	addGarbage(t, r.plan)
	addGarbageByRepository(t, r.ByRepository)
	addKept(t, r)
	t.Write(w, width)
	if from := r.reachedFrom(); len(r.Kept) == 0 && from != "" {
		fmt.Fprintf(w, "\nAll that is kept is reached from %s.\n", from)
	}
	if r.Policy != nil {
		policy.WriteVerdicts(w, r.Policy, r.Tags, width)
	}
	writeNotStored(w, append(r.Protect, r.Roots, r.KeepDigests)...)
	writeLeftOut(w, r.LeftOut, r.leftOutSaved)
	writeProblems(w, r.Problems)
}

// writeConfig prints which config.yml was read. It prints nothing if none was.
func writeConfig(w *bytes.Buffer, path string, notRead []string, width int) {
	if path == "" {
		return
	}
	text := "config " + human.Printable(path)
	if len(notRead) > 0 {
		text += " (and not " + human.Printable(strings.Join(notRead, " or ")) + ")"
	}
	for _, line := range human.Wrap(text, width) {
		fmt.Fprintln(w, line)
	}
}

// claimed returns the remark for a size that comes from manifests, and not from the storage.
func claimed(bytes int64) string {
	if bytes == 0 {
		return ""
	}
	return "sizes as manifests claim"
}

// addGarbage adds the rows about the garbage of each kind.
func addGarbage(t *human.Table, plan *sweep.Plan) {
	t.Row("")
	if !plan.HasGarbage() {
		t.Row("Garbage", "0", human.Size(0), "")
		return
	}
	t.Row("Garbage", "", "", "")
	for _, kind := range sweep.Shown() {
		tally := plan.Garbage[kind]
		bytes := ""
		if kind.Form().HasBytes() {
			bytes = human.Size(tally.Bytes)
		}
		if tally.Count > 0 {
			t.Row("  "+human.Noun(0, kind.Noun()), human.Count(tally.Count), bytes, "")
		}
		if kind == sweep.Blob && plan.Unlinked.Count > 0 {
			t.Row("    linked by no repository", human.Count(plan.Unlinked.Count), human.Size(plan.Unlinked.Bytes), "normal after a deletion; a missing repository looks the same")
		}
	}
	if n := plan.HardLinked; n.Count > 0 {
		t.Row("  with other hard links", human.Count(n.Count), human.Size(n.Bytes), "a copy (cp -al) has them too: freed once that is removed as well")
	}
}

// addGarbageByRepository adds the rows of the repositories with the most garbage.
func addGarbageByRepository(t *human.Table, rows []sweep.RepositoryGarbage) {
	if len(rows) == 0 {
		return
	}
	t.Row("  of repositories", "", "", "")
	shares := make([]sweep.Kept, len(rows))
	for i, row := range rows {
		shares[i] = sweep.Kept{Repository: row.Repository, Blobs: row.Blobs, Bytes: row.Bytes + row.Uploads.Bytes, Links: row.Links}
	}
	addRepositories(t, shares)
}

// keptReasons explains why something is kept that no tag reaches.
var keptReasons = []struct {
	reason      sweep.Reason
	name, about string
}{
	{sweep.KeptUntagged, "blobs of untagged manifests", "go with -m (--delete-untagged)"},
	{sweep.KeptProtected, "blobs of untagged manifests", "kept by protect"},
	{sweep.KeptUnlinkedChild, "blobs of deleted platforms", "an index has them: go with --delete-unlinked-children"},
	{sweep.KeptDamage, "blobs of damaged repositories", "see the problems below"},
	{sweep.KeptAge, "young blobs", "younger than --min-age, or named by such a link"},
	{sweep.KeptUpload, "uploads under way", "younger than --upload-age"},
	{sweep.KeptMultipart, "uploads in parts", "can't be moved: go without --quarantine"},
	{sweep.KeptLimit, "garbage above the limit", "--max-bytes leaves it to the next run"},
	{sweep.KeptUnselected, "other garbage", "not in the plan"},
	{sweep.KeptLinked, "blobs that are still linked", "not all links to them are in the plan"},
	{sweep.KeptStray, "files outside the layout", "never removed"},
}

// addKept adds the rows about everything that is kept without a tag, by reason. They answer the question
// why so little is garbage.
func addKept(t *human.Table, r *report) {
	if len(r.Kept) == 0 {
		return
	}
	t.Row("")
	t.Row("Kept without a tag", "", "", "")
	for _, reason := range keptReasons {
		var rows []sweep.Kept
		total := sweep.Kept{}
		for _, row := range r.Kept {
			if row.Reason == reason.reason {
				rows = append(rows, row)
				bytes := sweep.Tally{Bytes: total.Bytes}
				bytes.Add(0, row.Bytes)
				total.Blobs, total.Bytes, total.Links = total.Blobs+row.Blobs, bytes.Bytes, total.Links+row.Links
			}
		}
		if len(rows) == 0 {
			continue
		}
		about := reason.about
		if reason.reason == sweep.KeptUntagged && r.Command == "apply" {
			about = "their manifests are not in the plan"
		}
		t.Row("  "+reason.name, human.Count(total.Blobs), human.Size(total.Bytes), withLinks(total, about))
		addRepositories(t, rows)
	}
}

// reachedFrom returns the kinds of roots that reach everything that is kept. It returns "" if that is not
// known: damage keeps objects that no root reaches.
func (r *report) reachedFrom() string {
	damaged := slices.ContainsFunc(r.Problems, func(p inventory.Problem) bool { return p.Effect.Keeps() })
	switch {
	case damaged:
		return ""
	case r.Roots != nil:
		return "the list"
	case r.KeepDigests != nil:
		return "a tag or from the list"
	case r.Mark.Tags == 0:
		return ""
	}
	return "a tag"
}

// addRepositories adds the rows of the repositories with the most bytes.
func addRepositories(t *human.Table, rows []sweep.Kept) {
	rows = slices.DeleteFunc(rows, func(row sweep.Kept) bool { return row.Repository == "" })
	slices.SortStableFunc(rows, func(a, b sweep.Kept) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(b.Links, a.Links), cmp.Compare(a.Repository, b.Repository))
	})
	for i, row := range rows {
		if i == shownRepositories {
			t.Row("    and "+human.Plural(len(rows)-i, "more repository"), "", "", "")
			return
		}
		t.Row("    "+human.Printable(row.Repository), human.Count(row.Blobs), human.Size(row.Bytes), withLinks(row, ""))
	}
}

// withLinks returns the remark of a row: the number of links, and about.
func withLinks(row sweep.Kept, about string) string {
	switch {
	case row.Links == 0:
		return about
	case about == "":
		return "and " + human.Plural(row.Links, "link")
	}
	return "and " + human.Plural(row.Links, "link") + "; " + about
}
