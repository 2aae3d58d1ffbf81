package cli

import (
	"bytes"
	"strings"
	"testing"

	"regsweep/quarantine"
	"regsweep/sweep"
)

// The list says why a run has less than its plan lists.
func TestAPartialRunIsExplained(t *testing.T) {
	planned := map[sweep.Kind]sweep.Tally{sweep.Blob: {Count: 2, Bytes: 20}}
	for want, contents := range map[string]map[sweep.Kind]sweep.Tally{
		"  nothing: what its plan lists was restored, or never moved\n": {},
		"  1 blob; the rest of its plan was restored, or never moved\n": {sweep.Blob: {Count: 1, Bytes: 10}},
		"  2 blobs\n": planned,
	} {
		var w bytes.Buffer
		writeRuns(&w, []quarantineRun{newQuarantineRun(quarantine.Run{Name: "20260131T020000Z-5f3a9c1e", Plan: planned, Contents: contents})}, 0)
		if !strings.HasSuffix(w.String(), want) {
			t.Errorf("the list is %q, want %q at its end", w.String(), want)
		}
	}
}

// If only links were moved, there are no bytes to be freed.
func TestMovedLinksHaveNoBytes(t *testing.T) {
	if got := afterMove(0); strings.Contains(got, "0 B") {
		t.Error(got)
	}
	if got := afterMove(10); !strings.HasPrefix(got, "10 B are not freed yet: ") {
		t.Error(got)
	}
}

func TestManifestsThatCannotBePulled(t *testing.T) {
	for n, want := range map[int]string{
		1: "1 manifest can't be pulled, since no repository links it. The registry's API had deleted its link before the run. To link it again: ",
		2: "2 manifests can't be pulled, since no repository links them. The registry's API had deleted their links before the run. To link one again: ",
	} {
		var w bytes.Buffer
		if writeNotLinked(&w, &restoreReport{NotLinkedCount: n}); !strings.HasPrefix(w.String(), want) {
			t.Errorf("%d: %q", n, w.String())
		}
	}
}
