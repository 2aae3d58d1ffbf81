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

// quarantineReturn is what a restoration has come to.
type quarantineReturn struct {
	// From is the run's name, or the plan's.
	From string `json:"from"`
	// Back was put back, and There was there already.
	Back      tallies           `json:"back"`
	There     tallies           `json:"there"`
	LeftCount int               `json:"left_count"`
	Left      []quarantine.Left `json:"left"`
	// Linked are manifests whose links a deletion through the API had removed. Unlinked is the
	// digest that was asked for, if no repository links it.
	Linked   []quarantine.Linked `json:"linked,omitempty"`
	Unlinked digest.Digest       `json:"unlinked,omitempty"`
	// NotRestored are the runs that --all left, since their plans are damaged.
	NotRestored []quarantine.Damaged `json:"not_restored,omitempty"`
	// NotLinked are manifests that no repository links, and that --digest links again.
	NotLinked        []digest.Digest `json:"not_linked,omitempty"`
	NotLinkedCount   int             `json:"not_linked_count,omitzero"`
	NotLinkedUnknown string          `json:"not_linked_unknown,omitempty"` // why NotLinked is not known

	options quarantine.RestoreOptions
	byPlan  bool // From is a plan's name
}

// allRuns is what a report says that --all was restored from.
const allRuns = "all runs"

func (r *runner) quarantineRestore(c *urfave.Context) error {
	from, target := c.String(planName), c.Args().Slice()
	byPlan, all := c.IsSet(planName), c.Bool(allName)
	switch {
	case byPlan && all:
		return storage.Usagef("--%s restores runs, and --%s a plan: give one of them", allName, planName)
	case all:
		from = allRuns
		if err := checkNoRun(target, "restore latest, without --"+allName); err != nil {
			return err
		}
	case byPlan && from == "":
		return storage.Usagef("--%s: name the file", planName)
	case !byPlan:
		from, target = c.Args().First(), c.Args().Tail()
		if err := checkRun("restore", from, target); err != nil {
			return err
		}
	}
	for _, name := range []string{repositoryName, digestName} { // "" would restore everything
		if c.IsSet(name) && c.String(name) == "" {
			return storage.Usagef("--%s is empty: give it a value, or leave it out to restore everything", name)
		}
	}
	options := quarantine.RestoreOptions{
		Repository: c.String(repositoryName), Digest: digest.Digest(c.String(digestName)), DryRun: c.Bool("dry-run"),
	}
	return r.onQuarantine(c, "restore", target, func(ctx context.Context, q *quarantineStep) error {
		if options.Digest != "" && options.Digest.Validate() != nil {
			return storage.Usagef("--%s: %q is not a complete digest, such as sha256: and 64 lower-case hex digits", digestName, string(options.Digest))
		}
		// What can be restored is found before the lock is made: where there is nothing, nothing
		// is written.
		var restore func(context.Context) error
		isThere := true
		switch {
		case byPlan:
			empty, err := inventory.IsEmpty(ctx, q.store)
			if err != nil {
				return err
			}
			isThere = !empty
			restore = func(ctx context.Context) error { return q.restoreLinks(ctx, from, options) }
		case all:
			names, err := q.store.Names(ctx, quarantine.Dir)
			if err != nil {
				return err
			}
			isThere = len(names) > 0
			if !isThere && options.Digest != "" { // what is stored can be linked again
				empty, err := inventory.IsEmpty(ctx, q.store)
				if err != nil {
					return err
				}
				isThere = !empty
			}
			restore = func(ctx context.Context) error {
				return q.returned(from, options, func(options quarantine.RestoreOptions) (quarantine.Restored, error) {
					return quarantine.RestoreAll(ctx, q.store, options)
				})
			}
		default:
			run, err := quarantine.Find(ctx, q.store, from)
			if err != nil {
				return notInQuarantine(err)
			}
			restore = func(ctx context.Context) error {
				return q.returned(run, options, func(options quarantine.RestoreOptions) (quarantine.Restored, error) {
					return quarantine.Restore(ctx, q.store, run, options)
				})
			}
		}
		if options.DryRun || !isThere {
			return restore(ctx)
		}
		return q.locked(ctx, q.store, q.report.Command, restore)
	}, writeQuarantineRestore)
}

// restoreLinks puts back what a plan has removed of links.
func (q *quarantineStep) restoreLinks(ctx context.Context, path string, options quarantine.RestoreOptions) (err error) {
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
	err = q.returned(path, options, func(options quarantine.RestoreOptions) (quarantine.Restored, error) {
		return quarantine.RestoreLinks(ctx, q.store, plan, options)
	})
	if restored := q.report.Restored; restored != nil {
		restored.byPlan = true
	}
	return err
}

// returned restores, shows how it goes on, and notes what came of it.
func (q *quarantineStep) returned(from string, options quarantine.RestoreOptions, restore func(quarantine.RestoreOptions) (quarantine.Restored, error)) error {
	doing, done := "restoring", "restored"
	if options.DryRun {
		doing, done = "checking", "checked"
	}
	phase := q.progress.begin(doing, "", 0)
	options.OnRestored = func(_ sweep.Kind, tally sweep.Tally) { phase.addBytes(tally.Count, tally.Bytes) }
	result, err := restore(options)
	phase.endWith(done, err)
	if result.Back == nil {
		return notInQuarantine(err)
	}
	q.report.Restored = &quarantineReturn{
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
	return notInQuarantine(err)
}

// whyLeft says why something could not be put back.
var whyLeft = map[quarantine.Why]string{
	quarantine.WhyGone:       "neither in this quarantine nor in the registry",
	quarantine.WhyDamaged:    "what is in the quarantine has another digest, or is no file",
	quarantine.WhyUnrecorded: "it is hidden in the bucket, and the run's record of versions lacks it: its versions stay in the bucket",
	quarantine.WhyOccupied:   "there is something else in its place, which is not written over",
	quarantine.WhyCovered:    "a later version of it is hidden as well: restore the run that hid that first",
	quarantine.WhyNoBlob:     "the blob that it leads to is not there",
	quarantine.WhyUnnamed:    "its line in the plan names nothing that a registry could hold",
}

// listsNothing reports whether it was restored with a plan that has no links.
func (q *quarantineReturn) listsNothing() bool {
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
		if told := countsByKind(restored.There); told != "nothing" {
			fmt.Fprintf(w, "There already: %s.\n", told)
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

// writeNotRestored says what could not be put back.
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
		lines = append(lines, "not put back: "+human.Printable(left.Path+": "+whyLeft[left.Why]))
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

// writeNotLinked names the manifests that can't be pulled, and says how to link them again.
func writeNotLinked(w *bytes.Buffer, restored *quarantineReturn) {
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

// writeFew writes the first lines.
func writeFew(w *bytes.Buffer, lines []string) {
	for i, line := range lines {
		if i == shownFailures {
			fmt.Fprintln(w, "  and more: see --json")
			return
		}
		fmt.Fprintf(w, "  %s\n", line)
	}
}
