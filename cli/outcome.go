package cli

import (
	"bytes"
	"fmt"
	"strings"

	"regsweep/sweep"
)

// shownFailures is how many failed removals are told; the JSON report has more.
const shownFailures = 20

// writeOutcome says what was done, or would be.
func writeOutcome(w *bytes.Buffer, r *report) {
	fmt.Fprintln(w)
	eligible := size(r.plan.Garbage[sweep.Blob].Bytes + r.plan.Garbage[sweep.Upload].Bytes)
	switch {
	case r.plan.Len() == 0:
		fmt.Fprintln(w, "There is nothing to remove.")
	case r.DryRun && r.Error != "":
		fmt.Fprintln(w, "Dry run: nothing was removed, and nothing would be.")
	case r.DryRun:
		fmt.Fprintf(w, "Dry run: nothing was removed; %s would be freed.\n", eligible)
	case r.result == nil:
		fmt.Fprintf(w, "Nothing was removed; %s could be freed.\n", eligible)
	default:
		writeRemoved(w, r)
	}
	if n := r.keepers(); r.ExitCode == exitProblems {
		fmt.Fprintf(w, "%s kept something that might have gone: exit code %d.\n", plural(n, "problem"), exitProblems)
	}
}

func writeRemoved(w *bytes.Buffer, r *report) {
	var parts []string
	for _, k := range kinds {
		if tally := r.result.Removed[k.kind]; tally.Count > 0 {
			parts = append(parts, plural(tally.Count, k.noun))
		}
	}
	if len(parts) == 0 {
		parts = []string{"nothing"}
	}
	verb := "Removed "
	if r.Error != "" {
		verb = "Stopped before the end. Removed "
	}
	freed := r.result.Removed[sweep.Blob].Bytes + r.result.Removed[sweep.Upload].Bytes
	fmt.Fprintf(w, "%s%s; %s freed, as the storage confirmed.\n", verb, strings.Join(parts, ", "), size(freed))
	if r.HiddenBytes > 0 {
		fmt.Fprintf(w, "The bucket keeps versions: %s are only hidden behind delete markers, and still paid for.\n", size(r.HiddenBytes))
	}
	for i, failed := range r.Failed {
		if i == shownFailures {
			fmt.Fprintf(w, "  and more that failed: see --json\n")
			break
		}
		fmt.Fprintf(w, "  not removed: %s\n", printable(failed.Path+": "+failed.Error))
	}
}
