package cli

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"regsweep/guard"
)

var writable = guard.Verdict{
	State: guard.Refused, By: guard.ByWritable, Reason: "http://registry.example.com:5000 takes pushes",
	Evidence: []guard.Evidence{
		{Subject: "http://registry.example.com:5000", Check: "GET /v2/", Seen: "200 OK", Meaning: "a registry answers", Result: guard.OK},
		{Subject: "http://registry.example.com:5000", Check: "OPTIONS /v2/team/app/blobs/uploads/", Seen: "Allow: DELETE, GET, HEAD, PATCH, POST, PUT", Meaning: "takes uploads: writable", Result: guard.Against},
		{Subject: "config.yml", Check: "storage.maintenance.readonly.enabled", Seen: "not set", Meaning: "config.yml does not make the registry read-only", Result: guard.Note},
	},
	Steps: [][]string{{
		"make the registry read-only: set this in config.yml and restart every replica\n\nstorage:\n  maintenance:\n    readonly:\n      enabled: true",
		"stop the registry, every replica of it, and say so: --registry-stopped",
	}},
}

func verdictText(v guard.Verdict, width int) string {
	w := new(bytes.Buffer)
	writeVerdict(w, verdicts[v.State], v, width)
	return w.String()
}

func TestTheEvidenceIsATableOnAWideTerminal(t *testing.T) {
	if got := verdictText(writable, 0); !strings.Contains(got, "OPTIONS /v2/team/app/blobs/uploads/   Allow: DELETE, GET, HEAD, PATCH, POST, PUT  takes uploads: writable\n") {
		t.Errorf("in a pipe, each piece of evidence has a line:\n%s", got)
	}
	for _, width := range []int{120, 140, 200} {
		got := verdictText(writable, width)
		if !strings.Contains(got, "WHO") || strings.Contains(got, "asked: ") {
			t.Errorf("in %d columns there is no table:\n%s", width, got)
		}
		fits(t, got, width)
	}
}

func TestTheEvidenceIsStackedOnANarrowTerminal(t *testing.T) {
	want := `REFUSED: nothing may be removed now (http://registry.example.com:5000 takes
pushes).

  http://registry.example.com:5000
    ok  a registry answers
        asked: GET /v2/
        seen: 200 OK
    NO  takes uploads: writable
        asked: OPTIONS /v2/team/app/blobs/uploads/
        seen: Allow: DELETE, GET, HEAD, PATCH, POST, PUT
  config.yml
    --  config.yml does not make the registry read-only
        asked: storage.maintenance.readonly.enabled
        seen: not set

  ok = for removing, NO = against it, -- = without weight

To go on, do one of these:
 1. make the registry read-only: set this in config.yml and restart every
    replica

storage:
  maintenance:
    readonly:
      enabled: true

 2. stop the registry, every replica of it, and say so: --registry-stopped
`
	if got := verdictText(writable, 80); got != want {
		t.Errorf("in 80 columns:\n%s\nwant:\n%s", got, want)
	}
	for width := 60; width <= 120; width++ {
		fits(t, verdictText(writable, width), width)
	}
}

func fits(t *testing.T, text string, width int) {
	t.Helper()
	for line := range strings.Lines(text) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > width {
			t.Errorf("in %d columns a line has %d: %q", width, n, line)
		}
	}
}

// The evidence contains answers of a registry, which is not trusted.
func TestTheEvidenceCannotSteerTheTerminal(t *testing.T) {
	hostile := writable
	hostile.Reason = "\x1b]0;owned\a"
	hostile.Evidence = []guard.Evidence{{Subject: "\x1b[2J", Check: "a\nb", Seen: "\r", Meaning: "\u202e", Result: guard.Against}}
	hostile.Steps = [][]string{{"do\x1b[1m this\n\nand \x9b31m that"}}
	for _, width := range []int{0, 80, 200} {
		if got := verdictText(hostile, width); strings.ContainsAny(got, "\x1b\a\r\u202e\u009b") || !strings.Contains(got, `\x1b[2J`) {
			t.Errorf("in %d columns: %q", width, got)
		}
	}
}

func TestRemediesSayWhetherAllAreNeeded(t *testing.T) {
	for _, c := range []struct {
		steps [][]string
		want  string
	}{
		{[][]string{{"a"}}, "\nTo go on:\n 1. a\n"},
		{[][]string{{"a", "b"}}, "\nTo go on, do one of these:\n 1. a\n 2. b\n"},
		{[][]string{{"a"}, {"b"}}, "\nTo go on, do all of these:\n 1. a\n 2. b\n"},
		{[][]string{{"a"}, {"b", "c"}}, "\nTo go on, do this:\n 1. a\n\nand one of these:\n 2. b\n 3. c\n"},
		{[][]string{{"a", "b"}, {"c", "d"}}, "\nTo go on, do one of these:\n 1. a\n 2. b\n\nand one of these:\n 3. c\n 4. d\n"},
		{[][]string{{"a", "b"}, {"c", "b"}}, "\nTo go on, do one of these:\n 1. a\n 2. b\n\nand, unless you do 2, this:\n 3. c\n"},
		{[][]string{{"a", "b"}, {"c", "d", "b"}}, "\nTo go on, do one of these:\n 1. a\n 2. b\n\nand, unless you do 2, one of these:\n 3. c\n 4. d\n"},
		{[][]string{{"a", "b"}, {"c", "a", "b"}}, "\nTo go on, do one of these:\n 1. a\n 2. b\n\nand, unless you do 1 or 2, this:\n 3. c\n"},
		{[][]string{{"a", "b"}, {"c", "d"}, {"b", "c"}}, "\nTo go on, do one of these:\n 1. a\n 2. b\n\nand one of these:\n 3. c\n 4. d\n\nand one of these:\n 5. b\n 6. c\n"},
	} {
		w := new(bytes.Buffer)
		if writeRemedies(w, c.steps, 80); w.String() != c.want {
			t.Errorf("%q: %q, want %q", c.steps, w, c.want)
		}
	}
}

func TestLinesToBeCopiedAreNotBroken(t *testing.T) {
	w := new(bytes.Buffer)
	writeRemedies(w, [][]string{{"start it with this variable\n\nNAME='{enabled: true}'\n\nor merge these lines into storage\n\na:\n  b: c", "stop"}}, 20)
	const want = `
To go on, do one of these:
 1. start it with
    this variable

NAME='{enabled: true}'

    or merge these
    lines into
    storage

a:
  b: c

 2. stop
`
	if w.String() != want {
		t.Errorf("%s\nwant%s", w, want)
	}
}
