package cli

import (
	"bytes"
	"strings"
	"testing"

	"regsweep/sweep"
)

// The list of what was left out is in a file only if --left-out names one.
func TestTheTextSaysWhereTheRestOfTheLeftOutLinesIs(t *testing.T) {
	rows := []*leftOut{{Kind: sweep.Blob, Reason: sweep.LeftGone, Count: 6, Examples: make([]sweep.Removal, 6)}}
	for inFile, want := range map[bool]string{true: "and 3 more: see --left-out\n", false: "and 3 more: name a file with --left-out\n"} {
		w := new(bytes.Buffer)
		if writeLeftOut(w, rows, inFile); !strings.HasSuffix(w.String(), want) {
			t.Errorf("it ends with %q, want %q", w, want)
		}
	}
}
