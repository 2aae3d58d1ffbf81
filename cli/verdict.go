package cli

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"regsweep/guard"
	"regsweep/internal/human"
)

// tableWidth is the least width in columns of a terminal on which the evidence is a table.
const tableWidth = 120

// verdicts has the headline of each verdict.
var verdicts = map[guard.State]string{
	guard.Proven:  "PROVEN: something may be removed now",
	guard.Refused: "REFUSED: nothing may be removed now",
	guard.Skipped: "SKIPPED: nothing is known of who writes",
}

// marks has the mark of each result in front of a line of evidence.
var marks = map[guard.Result]string{guard.OK: "ok", guard.Against: "NO", guard.Unknown: "??", guard.Note: "--"}

// legends explains the marks, in the order of their weight.
var legends = []struct {
	result guard.Result
	means  string
}{
	{guard.OK, "for removing"}, {guard.Against, "against it"}, {guard.Unknown, "not known, so against it"}, {guard.Note, "without weight"},
}

// legend returns the explanation of the marks that the evidence has.
func legend(evidence []guard.Evidence) string {
	var parts []string
	for _, l := range legends {
		if slices.ContainsFunc(evidence, func(e guard.Evidence) bool { return e.Result == l.result }) {
			parts = append(parts, marks[l.result]+" = "+l.means)
		}
	}
	return strings.Join(parts, ", ")
}

// stoppedVerdict is the headline of a refusal that stops a removal that has begun.
const stoppedVerdict = "STOPPED: nothing more may be removed"

// writeVerdict prints the headline, then the evidence, then the remedies. With a width of 0, which means
// no terminal, each piece of evidence is one line of any length.
func writeVerdict(w *bytes.Buffer, headline string, v guard.Verdict, width int) {
	if v.Reason != "" {
		headline += " (" + human.Printable(v.Reason) + ")"
	}
	for _, line := range human.Wrap(headline+".", width) {
		fmt.Fprintln(w, line)
	}
	fmt.Fprintln(w)
	if t := evidenceTable(v.Evidence); width == 0 || width >= tableWidth && t.Fits(width) {
		t.Write(w, width)
	} else {
		stackEvidence(w, v.Evidence, width)
	}
	fmt.Fprint(w, "\n"+human.Fold("  "+legend(v.Evidence)+"\n", width))
	writeRemedies(w, v.Steps, width)
}

// evidenceTable returns the table of the evidence. Consecutive rows about one subject name it once.
func evidenceTable(evidence []guard.Evidence) *human.Table {
	t := &human.Table{Indent: "  ", Columns: []human.Column{human.Left, human.Prose, human.Prose, human.Prose, human.Prose}}
	t.Row("", "WHO", "ASKED", "SEEN", "MEANS")
	last := ""
	for _, e := range evidence {
		subject := human.Printable(e.Subject)
		if subject == last {
			subject = ""
		} else {
			last = subject
		}
		t.Row(marks[e.Result], subject, human.Printable(e.Check), human.Printable(e.Seen), human.Printable(e.Meaning))
	}
	return t
}

// stackEvidence prints the evidence for a narrow terminal: first what it means, and below that what was
// asked and seen.
func stackEvidence(w *bytes.Buffer, evidence []guard.Evidence, width int) {
	who := ""
	indented := func(indent, text string) {
		for _, line := range human.Wrap(text, width-len(indent)) {
			fmt.Fprintln(w, indent+line)
		}
	}
	for _, e := range evidence {
		if e.Subject != who {
			who = e.Subject
			indented("  ", human.Printable(who))
		}
		for i, line := range human.Wrap(human.Printable(e.Meaning), width-8) {
			mark := "  "
			if i == 0 {
				mark = marks[e.Result]
			}
			fmt.Fprintf(w, "    %s  %s\n", mark, line)
		}
		indented("        ", "asked: "+human.Printable(e.Check))
		indented("        ", "seen: "+human.Printable(e.Seen))
	}
}

// writeRemedies prints the remedies. The reader has to do one remedy of each step. guard sorts the steps
// that have one remedy first. A remedy that is in several steps is printed once. Lines of configuration
// stand at the left margin, so that they can be copied.
func writeRemedies(w *bytes.Buffer, steps [][]string, width int) {
	if len(steps) == 0 {
		return
	}
	musts := 0
	for musts < len(steps) && len(steps[musts]) == 1 {
		musts++
	}
	number := 0
	list := func(title string, remedies ...string) {
		fmt.Fprintf(w, "\n%s\n", title)
		for i, remedy := range remedies {
			number++
			writeRemedy(w, number, remedy, i == len(remedies)-1, width)
		}
	}
	title := "To go on, do one of these:"
	switch {
	case musts == 1 && len(steps) == 1:
		title = "To go on:"
	case musts == 1:
		title = "To go on, do this:"
	case musts > 1:
		title = "To go on, do all of these:"
	}
	if musts > 0 {
		list(title, slices.Concat(steps[:musts]...)...)
		title = "and one of these:"
	}
	numbers := map[string]int{} // of the remedies that were printed
	for _, step := range steps[musts:] {
		fresh := slices.DeleteFunc(slices.Clone(step), func(remedy string) bool { return numbers[remedy] > 0 })
		var done []string
		for _, remedy := range step {
			if n := numbers[remedy]; n > 0 && len(fresh) > 0 {
				done = append(done, strconv.Itoa(n))
			}
		}
		switch {
		case len(fresh) == 0:
			fresh = step
		case len(done) > 0:
			choice := "one of these"
			if len(fresh) == 1 {
				choice = "this"
			}
			title = "and, unless you do " + strings.Join(done, " or ") + ", " + choice + ":"
		}
		for i, remedy := range fresh {
			numbers[remedy] = number + i + 1
		}
		list(title, fresh...)
		title = "and one of these:"
	}
}

// writeRemedy prints one remedy. Its prose is wrapped, and its lines of configuration are not.
func writeRemedy(w *bytes.Buffer, number int, remedy string, last bool, width int) {
	for i, part := range strings.Split(remedy, "\n\n") {
		if i%2 == 1 {
			fmt.Fprintln(w)
			for line := range strings.SplitSeq(part, "\n") {
				fmt.Fprintln(w, human.Printable(line))
			}
			if !last || strings.Count(remedy, "\n\n") > i {
				fmt.Fprintln(w)
			}
			continue
		}
		lead := "    "
		if i == 0 {
			lead = fmt.Sprintf("%2d. ", number)
		}
		for _, line := range human.Wrap(human.Printable(part), max(width-len(lead), 0)) {
			fmt.Fprintln(w, lead+line)
			lead = "    "
		}
	}
}
