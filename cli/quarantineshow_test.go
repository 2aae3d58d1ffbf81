package cli

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"regsweep/internal/human"
	"regsweep/sweep"

	"github.com/opencontainers/go-digest"
)

// Each line fits unless it is a single word. The kind and the size of a removal are on one line.
func TestShowOnANarrowTerminal(t *testing.T) {
	d := digest.FromString("a manifest")
	report := &quarantineReport{
		Runs: []quarantineRun{{Run: "20260131T020000Z-5f3a9c1e", Plan: tallies{}}},
		Contents: []sweep.Removal{
			{Kind: sweep.Blob, Digest: d, Bytes: 4000},
			{Kind: sweep.Revision, Repository: "team/with/a/rather/long/name/of/its/own", Digest: d},
			{Kind: sweep.TagIndexEntry, Repository: "app", Tag: "v1", Digest: d},
		},
	}
	for _, width := range []int{40, 50, 80} {
		var w bytes.Buffer
		human.Folded(func(w *bytes.Buffer, width int) { writeQuarantineShow(w, report, width) })(&w, width)
		for line := range strings.Lines(w.String()) {
			line = strings.TrimRight(line, "\n")
			if utf8.RuneCountInString(line) > width && len(strings.Fields(line)) > 1 {
				t.Errorf("at %d columns: %q", width, line)
			}
		}
		if text := w.String(); !regexp.MustCompile(`(?m)^blob +3\.9 KiB`).MatchString(text) {
			t.Errorf("at %d columns the blob and its size are apart:\n%s", width, text)
		}
	}
}
