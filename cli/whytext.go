package cli

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"regsweep/audit"
	"regsweep/internal/human"
	"regsweep/inventory"
)

// writeWhy prints the answer of why: what the object is, the chains, who holds it, and what would free it.
func writeWhy(w *bytes.Buffer, r *whyReport, width int) {
	fmt.Fprintf(w, "%s\n%s.\n", human.Printable(string(r.Digest)), aboutObject(r.Why))
	writeChains(w, r)
	writeHolders(w, r.Why, width)
	writeToFree(w, r.Why)
	isHolder := map[string]bool{}
	for _, h := range r.Repositories {
		isHolder[h.Name] = true
	}
	writeProblems(w, slices.DeleteFunc(withoutNotes(r.Problems), func(p inventory.Problem) bool {
		return !isHolder[p.Repository] && !strings.Contains(p.Path, r.Digest.Encoded())
	}))
}

// aboutObject says what the object is, and whether it is kept.
func aboutObject(why audit.Why) string {
	about := fmt.Sprintf("%s, %s: ", why.Kind.One(), human.Size(why.Bytes))
	if why.NeverRemoved && why.Bytes == 0 {
		about = "A blob: "
	}
	switch {
	case !why.Stored && len(why.Repositories) == 0:
		return "Not stored. A link or a manifest names it, but nothing that is kept needs it"
	case !why.Stored:
		return "Not stored, but needed: a pull that asks for it fails"
	case why.NeverRemoved:
		return about + "kept. gc never removes a blob that is stored under " + why.Digest.Algorithm().String()
	case !why.KeptUntil.IsZero():
		return about + "kept only because it is young, until " + fullSecond(why.KeptUntil)
	case !why.Kept:
		return about + "nothing keeps it, and gc removes it"
	case why.RemovedBy != "":
		return about + "kept by a gc without flags, and removed by " + why.RemovedBy
	}
	return about + "kept"
}

// fullSecond writes a time, rounded up.
func fullSecond(at time.Time) string { return at.Add(time.Second - 1).Format(time.RFC3339) }

// writeChains prints the chains, each on a line. There are fewer than the limit and others besides if the search
// has reached its bound.
func writeChains(w *bytes.Buffer, r *whyReport) {
	if len(r.Chains) == 0 && r.More == 0 {
		return
	}
	fmt.Fprintf(w, "\nWhat leads to it\n")
	for _, chain := range r.Chains {
		fmt.Fprintf(w, "  %s\n", chainText(chain))
	}
	if r.More == 0 {
		return
	}
	others, hint := human.Plural(r.More, "other chain"), "--limit 0 shows more"
	if r.More >= audit.Most {
		others = "too many other chains to count"
	}
	if len(r.Chains) < r.limit {
		hint = "to find more would take too long"
	}
	fmt.Fprintf(w, "  and %s: %s\n", others, hint)
}

// chainText writes a chain on one line.
func chainText(chain []audit.Link) string {
	var parts []string
	for _, link := range chain {
		switch link.Kind {
		case audit.TagLink:
			parts = append(parts, link.Repository+":"+link.Name)
		case audit.DamageLink:
			parts = append(parts, fmt.Sprintf("damage in %s (%s)", link.Repository, link.Name))
		case audit.RevisionLink:
			parts = append(parts, link.Repository+" (untagged)")
		case audit.AgeLink:
			of := "its age"
			if link.Repository != "" {
				of = "a young link of " + link.Repository
			}
			parts = append(parts, of)
		default:
			parts = append(parts, fmt.Sprintf("%s %s", link.Kind, audit.Short(link.Digest)))
		}
	}
	return human.Printable(strings.Join(parts, " → "))
}

// shownHolders is the number of repositories that the text names, and of the tags in each. JSON has all.
const shownHolders = 20

// writeHolders prints the repositories that hold the object, with their tags.
func writeHolders(w *bytes.Buffer, why audit.Why, width int) {
	if len(why.Repositories) == 0 {
		return
	}
	t := &human.Table{Columns: []human.Column{human.Left, human.Left, human.Prose}}
	t.Row("Who holds it", "SINCE", "BY")
	for _, h := range why.Repositories[:min(shownHolders, len(why.Repositories))] {
		since := ""
		if !h.Since.IsZero() {
			since = h.Since.Format(time.DateOnly)
		}
		t.Row("  "+human.Printable(h.Name), since, human.Printable(heldBy(h)))
	}
	fmt.Fprintln(w)
	t.Write(w, width)
	if more := len(why.Repositories) - shownHolders; more > 0 {
		fmt.Fprintf(w, "  and %s more: see --json\n", human.Plural(more, "repository"))
	}
}

// heldBy names the tags, the untagged manifests and the damage by which a repository holds the object.
func heldBy(h audit.Holder) string {
	var parts []string
	if n := len(h.Tags); n > 0 {
		names := strings.Join(h.Tags[:min(shownTags, n)], ", ")
		if n > shownTags {
			names += fmt.Sprintf(" and %s more", human.Count(n-shownTags))
		}
		parts = append(parts, names)
	}
	if n := len(h.Revisions); n > 0 {
		parts = append(parts, human.Plural(n, "untagged manifest"))
	}
	if h.Damage != "" {
		parts = append(parts, fmt.Sprintf("damage (%s)", h.Damage))
	}
	if !h.YoungUntil.IsZero() {
		parts = append(parts, "young links, until "+fullSecond(h.YoungUntil))
	}
	return strings.Join(parts, "; ")
}

// writeToFree says what would have to be removed to free the object, and what would go with it.
func writeToFree(w *bytes.Buffer, why audit.Why) {
	with := "nothing else"
	if n := why.RemovedWith.Blobs; n > 0 {
		with = fmt.Sprintf("%s, %s", human.Plural(n, "other blob"), human.Size(why.RemovedWith.Bytes))
	}
	how, unless := "run "+why.RemovedBy, ""
	switch {
	case !why.Kept || why.NeverRemoved:
		return
	case !why.KeptUntil.IsZero():
		how = fmt.Sprintf("run gc after %s, or without --min-age", fullSecond(why.KeptUntil))
	case why.RemovedBy == "":
		how, unless = stepsToFree(why), ", and what gc -m frees besides"
	}
	fmt.Fprintf(w, "\nTo free it: %s\n", how)
	fmt.Fprintf(w, "Removed with it: %s\n", with)
	fmt.Fprintf(w, "Freed in all: %s%s\n", human.Size(why.FreedIfGone), unless)
}

// stepsToFree says how to remove all that holds the object.
func stepsToFree(why audit.Why) string {
	var steps []string
	tags, revisions, damaged := 0, 0, 0
	for _, h := range why.Repositories {
		tags, revisions = tags+len(h.Tags), revisions+len(h.Revisions)
		if h.Damage != "" {
			damaged++
		}
	}
	if damaged > 0 {
		steps = append(steps, "repair the damage of "+human.Plural(damaged, "repository")+" (see below) and ask again: their tags may need it")
	}
	if tags > 0 {
		steps = append(steps, "delete "+human.Plural(tags, "tag"))
	}
	if tags+revisions > 0 {
		steps = append(steps, "run gc -m (without -m their manifests stay, and keep it)")
	}
	return strings.Join(steps, "; ")
}
