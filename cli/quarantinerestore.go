package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"regsweep/internal/human"
	"regsweep/inventory"
	"regsweep/quarantine"
	"regsweep/storage"
	"regsweep/sweep"

	"github.com/opencontainers/go-digest"
	urfave "github.com/urfave/cli/v2"
)

// restoreReport is the part of the report about a restoration.
type restoreReport struct {
	// From is the name of the run, or the path of the plan.
	From string `json:"from"`
	// Back counts the removals that were undone. There counts those whose object existed already.
	// Left has those that could not be undone.
	Back      tallies           `json:"back"`
	There     tallies           `json:"there"`
	LeftCount int               `json:"left_count"`
	Left      []quarantine.Left `json:"left"`
	// Linked has the manifests that were linked again after a deletion through the API. Unlinked is
	// the digest of --digest if no repository links it.
	Linked   []quarantine.Linked `json:"linked,omitempty"`
	Unlinked digest.Digest       `json:"unlinked,omitempty"`
	// NotRestored has the runs that --all did not restore, because their plans are damaged.
	NotRestored []quarantine.Damaged `json:"not_restored,omitempty"`
	// NotLinked has manifests that no repository links. --digest would link them again.
	NotLinked        []digest.Digest `json:"not_linked,omitempty"`
	NotLinkedCount   int             `json:"not_linked_count,omitzero"`
	NotLinkedUnknown string          `json:"not_linked_unknown,omitempty"` // says why NotLinked is not known

	options quarantine.RestoreOptions
	byPlan  bool // From is a plan's name
}

// allRuns is the value of From for --all.
const allRuns = "all runs"

// restoreSource is where the removals that are undone come from: a run, all runs, or a plan.
type restoreSource struct {
	name        string // of a run or of a file; allRuns
	byPlan, all bool
}

func (r *runner) quarantineRestore(c *urfave.Context) error {
	from, target, err := parseRestoreSource(c)
	if err != nil {
		return err
	}
	for _, name := range []string{repositoryName, digestName} { // "" would restore everything
		if c.IsSet(name) && c.String(name) == "" {
			return storage.Usagef("--%s is empty: give it a value, or leave it out to restore everything", name)
		}
	}
	options := quarantine.RestoreOptions{
		Repository: c.String(repositoryName), Digest: digest.Digest(c.String(digestName)), DryRun: c.Bool("dry-run"),
	}
	return r.runQuarantine(c, "restore", target, func(ctx context.Context, q *quarantineTask) error {
		return q.restore(ctx, from, options)
	}, writeQuarantineRestore)
}

// parseRestoreSource returns where to restore from, and the other arguments.
func parseRestoreSource(c *urfave.Context) (from restoreSource, target []string, err error) {
	from = restoreSource{name: c.String(planName), byPlan: c.IsSet(planName), all: c.Bool(allName)}
	target = c.Args().Slice()
	switch {
	case from.byPlan && from.all:
		err = storage.Usagef("--%s restores runs, and --%s a plan: give one of them", allName, planName)
	case from.all:
		from.name = allRuns
		err = checkNoRun(target, "restore latest, without --"+allName)
	case from.byPlan && from.name == "":
		err = storage.Usagef("--%s: name the file", planName)
	case !from.byPlan:
		from.name, target = c.Args().First(), c.Args().Tail()
		err = checkRun("restore", from.name, target)
	}
	return from, target, err
}

// restore restores with the lock, unless it writes nothing.
func (q *quarantineTask) restore(ctx context.Context, from restoreSource, options quarantine.RestoreOptions) error {
	if options.Digest != "" && options.Digest.Validate() != nil {
		return storage.Usagef("--%s: %q is not a complete digest, such as sha256: and 64 lower-case hex digits", digestName, string(options.Digest))
	}
	if !from.byPlan && !from.all {
		run, err := quarantine.Find(ctx, q.store, from.name)
		if err != nil {
			return explainNotFound(err)
		}
		from.name = run
	}
	restore := func(ctx context.Context) error {
		if from.byPlan {
			return q.restoreLinks(ctx, from.name, options)
		}
		return q.runRestore(from.name, options, func(options quarantine.RestoreOptions) (quarantine.Restored, error) {
			if from.all {
				return quarantine.RestoreAll(ctx, q.store, options)
			}
			return quarantine.Restore(ctx, q.store, from.name, options)
		})
	}
	// The lock is written only if there is something to restore.
	canRestore, err := q.canRestore(ctx, from, options)
	if err != nil {
		return err
	}
	if options.DryRun || !canRestore {
		return restore(ctx)
	}
	return q.locked(ctx, q.store, q.report.Command, restore)
}

// canRestore reports whether there is something to restore: a run, or a storage in which links can be
// written again. A run that was found by its name is there.
func (q *quarantineTask) canRestore(ctx context.Context, from restoreSource, options quarantine.RestoreOptions) (bool, error) {
	if from.all {
		names, err := q.store.Names(ctx, quarantine.Dir)
		if err != nil || len(names) > 0 || options.Digest == "" {
			return len(names) > 0, err
		}
	} else if !from.byPlan {
		return true, nil
	}
	empty, err := inventory.IsEmpty(ctx, q.store)
	return !empty, err
}

// restoreLinks writes the links again that a plan has removed.
func (q *quarantineTask) restoreLinks(ctx context.Context, path string, options quarantine.RestoreOptions) (err error) {
	file, _, err := q.openPlan(ctx, path)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := file.Close(); err == nil && closeErr != nil {
			err = fmt.Errorf("read the plan: %w", closeErr)
		}
	}()
	plan, err := sweep.OpenFile(file)
	var broken *sweep.FileError
	if errors.As(err, &broken) {
		return storage.Usagef("%s: %w", path, broken)
	}
	if err != nil {
		return err
	}
	if is := q.store.Identity(); plan.Storage != is {
		return otherStorage(path, plan.Storage, is)
	}
	err = q.runRestore(path, options, func(options quarantine.RestoreOptions) (quarantine.Restored, error) {
		return quarantine.RestoreLinks(ctx, q.store, plan, options)
	})
	if restored := q.report.Restored; restored != nil {
		restored.byPlan = true
	}
	return err
}

// runRestore calls restore, shows the progress, and adds the result to the report.
func (q *quarantineTask) runRestore(from string, options quarantine.RestoreOptions, restore func(quarantine.RestoreOptions) (quarantine.Restored, error)) error {
	doing, done := "restoring", "restored"
	if options.DryRun {
		doing, done = "checking", "checked"
	}
	phase := q.progress.Begin(doing, "", 0)
	options.OnRestored = func(_ sweep.Kind, tally sweep.Tally) { phase.AddBytes(tally.Count, tally.Bytes) }
	result, err := restore(options)
	phase.EndWith(done, err)
	if result.Back == nil {
		return explainNotFound(err)
	}
	q.report.Restored = &restoreReport{
		From: from, Back: result.Back, There: result.There, LeftCount: result.LeftCount, Left: append([]quarantine.Left{}, result.Left...),
		Linked: result.Linked, Unlinked: result.Unlinked,
		NotRestored: result.Damaged, NotLinked: result.NotLinked, NotLinkedCount: result.NotLinkedCount, NotLinkedUnknown: result.NotLinkedUnknown,
		options: options,
	}
	if storage.IsFull(err) {
		err = fmt.Errorf("%w: the directories that come back take some space and inodes: free some, and run it again", err)
	}
	if err == nil && (result.LeftCount > 0 || result.Unlinked != "" || len(result.Damaged) > 0 || result.NotLinkedUnknown != "") {
		return reportedError{errProblems}
	}
	return explainNotFound(err)
}

// leftReasons explains why a removal could not be undone.
var leftReasons = map[quarantine.Why]string{
	quarantine.WhyGone:       "neither in this quarantine nor in the registry",
	quarantine.WhyDamaged:    "what is in the quarantine has another digest, or is no file",
	quarantine.WhyUnrecorded: "it is hidden in the bucket, and the run's record of versions lacks it: its versions stay in the bucket",
	quarantine.WhyOccupied:   "there is something else in its place, which is not written over",
	quarantine.WhyCovered:    "a later version of it is hidden as well: restore the run that hid that first",
	quarantine.WhyNoBlob:     "the blob that it leads to is not there",
	quarantine.WhyUnnamed:    "its line in the plan names nothing that a registry could hold",
}

// listsNothing reports whether the restoration was by a plan that has no links.
func (q *restoreReport) listsNothing() bool {
	isWhole := q.byPlan && q.options.Repository == "" && q.options.Digest == ""
	return isWhole && q.LeftCount == 0 && countsByKind(q.Back) == "nothing" && countsByKind(q.There) == "nothing"
}

func writeQuarantineRestore(w *bytes.Buffer, r *quarantineReport, _ int) {
	restored := r.Restored
	if restored == nil {
		return
	}
	begin, linked := "Put back ", "linked again"
	switch {
	case r.DryRun && r.failed:
		begin, linked = "Stopped before the end. Nothing was put back. It would be ", "would be linked again"
	case r.DryRun:
		begin, linked = "Dry run: nothing was put back. It would be ", "would be linked again"
	case r.failed:
		begin = "Stopped before the end. Put back "
	}
	if restored.listsNothing() && !r.quiet && !r.failed {
		fmt.Fprintf(w, "%s lists no links: there is nothing to put back. gc keeps an older plan that a restore could need beside it, with its time in the name.\n", human.Printable(restored.From))
		return
	}
	if !r.quiet {
		fmt.Fprintf(w, "%s%s.\n", begin, countsByKind(restored.Back))
		if there := countsByKind(restored.There); there != "nothing" {
			fmt.Fprintf(w, "There already: %s.\n", there)
		}
	}
	writeNotRestored(w, r)
	if unknown := restored.NotLinkedUnknown; unknown != "" {
		fmt.Fprintf(w, "Which of the manifests can't be pulled is not known: %s: exit code %d.\n", human.Printable(unknown), exitProblems)
	}
	if !r.quiet {
		var lines []string
		for _, link := range restored.Linked {
			lines = append(lines, fmt.Sprintf("%s: %s@%s, which had been deleted through the registry's API", linked, human.Printable(link.Repository), link.Digest))
		}
		writeFew(w, lines)
	}
	switch {
	case restored.Unlinked != "":
		how := "add --repository NAME to link it in a repository that has its layers, or push it again"
		if only := restored.options.Repository; only != "" {
			how = "the repository " + human.Printable(only) + " does not link all its layers: push it again"
		}
		if restored.From != allRuns {
			how = "if another run has some of its links, use --all; otherwise " + how
		}
		fmt.Fprintf(w, "%s can't be pulled yet, since no repository links it: %s. Exit code %d.\n", restored.Unlinked, how, exitProblems)
	case r.quiet:
	case restored.options.Digest != "" && !r.failed && !r.DryRun && len(restored.Back)+len(restored.Linked) > 0:
		fmt.Fprintln(w, "Give it a tag: without one the next gc -m takes it again.")
	case restored.NotLinkedCount > 0:
		writeNotLinked(w, restored)
	}
	isRun := restored.options.Digest == "" && !r.quiet && !r.failed && !r.DryRun
	if n := restored.Back[sweep.Revision].Count; isRun && n > 0 && restored.Back[sweep.Tag].Count == 0 {
		fmt.Fprintf(w, "%s came back without a tag: give a tag to each image that is to stay, or the next gc -m takes it again.\n", human.Plural(n, "manifest"))
	}
}

// writeNotRestored prints the removals and the runs that could not be undone.
func writeNotRestored(w *bytes.Buffer, r *quarantineReport) {
	verb := "could not be put back"
	if r.DryRun {
		verb = "could not be"
	}
	for _, run := range r.Restored.NotRestored {
		fmt.Fprintf(w, "  not restored: %s: %s\n", human.Printable(run.Run), human.Printable(run.Problem))
	}
	var lines []string
	for _, left := range r.Restored.Left {
		lines = append(lines, "not put back: "+human.Printable(left.Path+": "+leftReasons[left.Why]))
	}
	writeFew(w, lines)
	var parts []string
	if n := r.Restored.LeftCount; n > 0 {
		parts = append(parts, human.Plural(n, "removal"))
	}
	if n := len(r.Restored.NotRestored); n > 0 {
		parts = append(parts, human.Plural(n, "run"))
	}
	if len(parts) > 0 {
		fmt.Fprintf(w, "%s %s: exit code %d.\n", strings.Join(parts, " and "), verb, exitProblems)
	}
}

// writeNotLinked prints the manifests that can't be pulled, and how to link them again.
func writeNotLinked(w *bytes.Buffer, restored *restoreReport) {
	only := ""
	if restored.options.Repository != "" {
		only = " --" + repositoryName + " " + human.Printable(restored.options.Repository)
	}
	them, their, links, one := "them", "their", "links", "To link one again"
	if restored.NotLinkedCount == 1 {
		them, their, links, one = "it", "its", "link", "To link it again"
	}
	fmt.Fprintf(w, "%s can't be pulled, since no repository links %s. The registry's API had deleted %s %s before the run. "+
		"%s: regsweep quarantine restore --all --digest DIGEST%s TARGET\n", human.Plural(restored.NotLinkedCount, "manifest"), them, their, links, one, only)
	var lines []string
	for _, d := range restored.NotLinked {
		lines = append(lines, d.String())
	}
	writeFew(w, lines)
}

// writeFew prints the first shownFailures lines.
func writeFew(w *bytes.Buffer, lines []string) {
	for i, line := range lines {
		if i == shownFailures {
			fmt.Fprintln(w, "  and more: see --json")
			return
		}
		fmt.Fprintf(w, "  %s\n", line)
	}
}
