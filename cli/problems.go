package cli

import (
	"bytes"
	"fmt"
	"strings"

	"regsweep/internal/human"
	"regsweep/inventory"
	"regsweep/storage/layout"
)

// shownProblems is the number of problems in the summary. The JSON report has all of them.
const shownProblems = 20

// writeProblems prints first the problems and then the notes.
func writeProblems(w *bytes.Buffer, problems []inventory.Problem) {
	var notes []inventory.Problem
	for _, p := range problems {
		if p.Effect == inventory.Note {
			notes = append(notes, p)
		}
	}
	for _, group := range []struct {
		title    string
		problems []inventory.Problem
	}{{"Problems", withoutNotes(problems)}, {"Notes", notes}} {
		if len(group.problems) == 0 {
			continue
		}
		fmt.Fprintf(w, "\n%s\n", group.title)
		for i, p := range group.problems {
			if i == shownProblems {
				fmt.Fprintf(w, "  and %s more: see --json\n", human.Count(len(group.problems)-i))
				break
			}
			fmt.Fprintf(w, "  %s\n", describe(p))
		}
	}
}

// effects has the text for each effect of a problem. A note has none.
var effects = map[inventory.Effect]string{
	inventory.KeepsRepository: " (all of this repository is kept)",
	inventory.KeepsNamed:      " (what it names is kept)",
}

// describe returns one line about a problem: its place, its details, and what is kept because of it.
func describe(p inventory.Problem) string {
	where := p.Path
	if p.Repository != "" {
		where = p.Repository + ": " + strings.TrimPrefix(p.Path, layout.RepositoryPath(p.Repository)+"/")
	}
	return human.Printable(strings.TrimSuffix(where, ": ") + ": " + p.Detail + effects[p.Effect] + advice(p))
}

// shownTags is the number of tags that the summary names for one problem.
const shownTags = 5

// advice returns the end of the line: the tags that can't be pulled, and what to do about them.
func advice(p inventory.Problem) string {
	switch isManifest := p.Kind == inventory.ManifestDamaged || p.Kind == inventory.ManifestMissing; {
	case len(p.Tags) > 0:
		shown := strings.Join(p.Tags[:min(len(p.Tags), shownTags)], ", ")
		if more := len(p.Tags) - shownTags; more > 0 {
			shown += " and " + human.Count(more) + " more"
		}
		return fmt.Sprintf("; %s can't be pulled: %s: push the image again, or delete the %s", human.Noun(len(p.Tags), "tag"), shown, human.Noun(len(p.Tags), "tag"))
	case isManifest && p.Effect == inventory.KeepsRepository:
		return "; no tag needs it: push it again, or delete it"
	}
	return ""
}
