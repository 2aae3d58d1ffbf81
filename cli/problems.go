package cli

import (
	"bytes"
	"fmt"
	"strings"

	"regsweep/storage"
)

// shownProblems is how many problems the summary tells; the JSON report has them all.
const shownProblems = 20

// writeProblems prints what is wrong, and then what is only to be noted.
func writeProblems(w *bytes.Buffer, problems []storage.Problem) {
	var notes []storage.Problem
	for _, p := range problems {
		if p.Effect == storage.Note {
			notes = append(notes, p)
		}
	}
	for _, group := range []struct {
		title    string
		problems []storage.Problem
	}{{"Problems", failures(problems)}, {"Notes", notes}} {
		if len(group.problems) == 0 {
			continue
		}
		fmt.Fprintf(w, "\n%s\n", group.title)
		for i, p := range group.problems {
			if i == shownProblems {
				fmt.Fprintf(w, "  and %s more: see --json\n", count(len(group.problems)-i))
				break
			}
			fmt.Fprintf(w, "  %s\n", describe(p))
		}
	}
}

var effects = map[storage.Effect]string{
	storage.KeepsRepository: " (all of this repository is kept)",
	storage.KeepsNamed:      " (what it names is kept)",
}

// describe says in one line where a problem is, what it is, and what it keeps.
func describe(p storage.Problem) string {
	where := p.Path
	if p.Repository != "" {
		where = p.Repository + ": " + strings.TrimPrefix(p.Path, storage.RepositoryPath(p.Repository)+"/")
	}
	return printable(strings.TrimSuffix(where, ": ") + ": " + p.Detail + effects[p.Effect])
}
