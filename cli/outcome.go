package cli

import (
	"bytes"
	"fmt"
	"time"

	"regsweep/guard"
	"regsweep/internal/human"
	"regsweep/storage"
	"regsweep/sweep"
)

// shownFailures is the number of failed removals in the text. The JSON report has more.
const shownFailures = 20

// writeOutcome prints what the run has removed, or what a run would remove.
func writeOutcome(w *bytes.Buffer, r *report) {
	fmt.Fprintln(w)
	if r.Budget != nil && r.Budget.Ended == endedByTime && r.result != nil {
		fmt.Fprintf(w, "THE TIME IS USED UP (until %s): the run stopped before the end, at a safe boundary.\n", r.Budget.Until.Format(time.RFC3339))
	}
	garbage, eligible := countsByKind(r.plan.Garbage), human.Size(r.eligible())
	switch {
	case !r.plan.HasGarbage() && r.plan.Left != (sweep.Left{}):
		fmt.Fprintln(w, "Nothing fits in --max-bytes.")
	case !r.plan.HasGarbage():
		fmt.Fprintln(w, "There is nothing to remove.")
	case r.DryRun && r.unsaved != "":
		fmt.Fprintf(w, "Dry run: nothing was removed. The %s was not saved.\n", r.unsaved)
	case r.DryRun && r.Guard != nil && r.Guard.State != guard.Skipped:
		fmt.Fprintln(w, "Dry run: nothing was removed, and nothing would be: a run that removes would be refused.")
	case r.DryRun && r.Error != "":
		fmt.Fprintln(w, "Dry run: nothing was removed, and nothing would be.")
	case r.DryRun && r.moves() && r.Quarantine.Hidden:
		fmt.Fprintf(w, "Dry run: nothing was hidden. A run would hide %s behind delete markers; %s would be freed when the quarantine is purged.\n", garbage, eligible)
	case r.DryRun && r.moves():
		freed := human.Size(r.eligible() - r.plan.HardLinked.Bytes)
		fmt.Fprintf(w, "Dry run: nothing was moved. A run would move %s to a quarantine; %s would be freed when that is purged.\n", garbage, freed)
	case r.DryRun:
		fmt.Fprintf(w, "Dry run: nothing was removed. A run would remove %s; %s would be freed.\n", garbage, eligible)
	case r.result == nil && r.moves():
		fmt.Fprintf(w, "Nothing was moved. A run could move %s of %s to a quarantine.\n", garbage, eligible)
	case r.result == nil:
		fmt.Fprintf(w, "Nothing was removed. A run could remove %s; %s could be freed.\n", garbage, eligible)
	default:
		writeRemoved(w, r)
	}
	writeVersions(w, r)
	if text := r.Descriptors.Text(); text != "" {
		fmt.Fprintln(w, text)
	}
	writeLeft(w, r)
	if r.DryRun && r.Guard == nil && r.Error == "" && r.plan.HasGarbage() {
		fmt.Fprintln(w, "The registry was not asked: regsweep check says whether a run may remove something now.")
	}
	if n := r.countKeeping(); r.ExitCode == exitProblems {
		fmt.Fprintf(w, "%s kept something that might have gone: exit code %d.\n", human.Plural(n, "problem"), exitProblems)
	}
}

// writeRemoved prints what a sweep has removed, moved or hidden.
func writeRemoved(w *bytes.Buffer, r *report) {
	counts := countsByKind(r.result.Removed)
	verb, to := r.verb("Removed ", "Moved ", "Hid "), r.verb("", "to the quarantine", "behind delete markers, in the quarantine")
	if r.stopped {
		verb = "Stopped before the end. " + verb
	}
	freed := r.Removed.bytes() + r.result.Versions.Bytes
	switch {
	case r.moves() && r.Quarantine.Run == "":
		fmt.Fprintf(w, "%snothing. No quarantine was kept.\n", verb)
	case r.moves():
		fmt.Fprintf(w, "%s%s %s %s.\n", verb, counts, to, r.Quarantine.Run)
		fmt.Fprintln(w, afterMove(r.HiddenBytes))
		if n := r.plan.HardLinked; n.Bytes > 0 {
			fmt.Fprintf(w, "A purge does not free %s of the plan, which have other hard links.\n", human.Size(n.Bytes))
		}
		if n := r.Quarantine.Absent; n > 0 {
			fmt.Fprintf(w, "%s of the plan were gone already, and are not in the quarantine.\n", human.Plural(int(n), "object"))
		}
	default:
		fmt.Fprintf(w, "%s%s; %s freed, as the storage confirmed.\n", verb, counts, human.Size(freed))
	}
	if r.HiddenBytes > 0 && r.Quarantine == nil {
		fmt.Fprintf(w, "The bucket keeps versions: %s are only hidden behind delete markers, and still paid for; --purge-versions would have removed them.\n", human.Size(r.HiddenBytes))
	}
	for i, failed := range r.Failed {
		if i == shownFailures {
			fmt.Fprintf(w, "  and more that failed: see --json\n")
			break
		}
		fmt.Fprintf(w, "  not removed: %s\n", human.Printable(failed.Path+": "+failed.Error))
	}
}

// afterMove returns the line that says how to purge or restore what was moved.
func afterMove(bytes int64) string {
	if bytes == 0 { // only links were moved
		return "regsweep quarantine restore puts that back, and regsweep quarantine purge removes it for good."
	}
	return human.Size(bytes) + " are not freed yet: regsweep quarantine purge frees them, and regsweep quarantine restore puts them back."
}

// eligible returns the number of bytes that the plan would free, or move.
func (r *report) eligible() int64 {
	bytes := r.Garbage.bytes()
	switch {
	case r.Versions.hides() && r.Versions.Bucket != storage.VersionsUnknown:
		return r.Versions.DestroyedBytes
	case r.Versions != nil:
		return bytes + r.Versions.Garbage.Bytes
	case r.Quarantine == nil:
		return bytes - r.plan.HardLinked.Bytes
	}
	return bytes
}

// writeVersions prints the lines about a bucket with versions, if a removal there frees less or more than
// the sizes of the blobs.
func writeVersions(w *bytes.Buffer, r *report) {
	if r.Versions == nil {
		return
	}
	objects, bytes := 0, r.plan.Garbage[sweep.Blob].Bytes
	for _, kind := range sweep.Kinds {
		if kind.Form() != sweep.Directories {
			objects += r.plan.Garbage[kind].Count
		}
	}
	switch {
	case r.Versions.Purge && (r.result != nil && r.Versions.Removed.Count == 0 || r.result == nil && r.Versions.Garbage.Count == 0):
	case r.Versions.Purge && r.result != nil:
		fmt.Fprintf(w, "With that went %s of %s.\n", human.Plural(r.Versions.Removed.Count, "noncurrent version"), human.Size(r.Versions.Removed.Bytes))
	case r.Versions.Purge:
		fmt.Fprintf(w, "That includes %s of %s.\n", human.Plural(r.Versions.Garbage.Count, "noncurrent version"), human.Size(r.Versions.Garbage.Bytes))
	case r.Versions.Bucket == storage.VersionsUnknown:
		fmt.Fprintln(w, "Whether the bucket keeps versions is not known: it takes the permission s3:GetBucketVersioning to ask.")
	case r.Versions.Bucket == storage.VersionsSuspended && r.Versions.DestroyedBytes > 0 && r.result == nil:
		fmt.Fprintf(w, "Versioning of the bucket is suspended: a removal destroys versions without an id, which are %s, and hides others; --purge-versions removes all.\n", human.Size(r.Versions.DestroyedBytes))
	case r.Versions.Bucket == storage.VersionsSuspended && r.Versions.DestroyedBytes > 0:
		fmt.Fprintln(w, "Versioning of the bucket is suspended: versions without an id were destroyed.")
	case r.Versions.hides() && r.result == nil:
		fmt.Fprintf(w, "The bucket keeps versions: a removal would leave %s of %s as noncurrent versions, still paid for; --purge-versions removes them.\n", human.Plural(objects, "object"), human.Size(bytes))
	}
}
