package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"regsweep/internal/human"
	"regsweep/inventory"
	"regsweep/mark"
	"regsweep/policy"
	"regsweep/storage"
	"regsweep/sweep"

	urfave "github.com/urfave/cli/v2"
)

// review is the plan of apply: a run removes an object if it is in this plan and is garbage now. gc has
// a nil *review, which allows all garbage.
type review struct {
	path         string
	partial      bool
	leftOutPath  string
	leftOutGiven bool
	targetGiven  bool

	file    *os.File // nil until opened
	copied  bool     // file is a temporary copy without a name
	plan    *sweep.File
	leftOut *outputFile // nil without --left-out
}

// newReview reads the arguments and flags of apply.
func newReview(c *urfave.Context) *review {
	return &review{
		path: c.Args().First(), partial: c.Bool(partialName),
		leftOutPath: c.String(leftOutName), leftOutGiven: c.IsSet(leftOutName),
		targetGiven: c.NArg() > 1,
	}
}

// openReview reads and checks the whole plan before the listing, which may take an hour. It sets the
// options of the run to those of the plan.
func (g *gcRun) openReview(ctx context.Context) error {
	v := g.review
	if v == nil {
		return nil
	}
	if v.path == "" {
		return storage.Usagef("apply: name the plan first, as in regsweep apply plan.jsonl config.yml")
	}
	var err error
	if v.file, v.copied, err = g.openPlan(ctx, v.path); err != nil {
		return err
	}
	v.plan, err = sweep.OpenFile(v.file)
	var broken *sweep.FileError
	if errors.As(err, &broken) && broken.Changed && v.partial {
		if err = v.remake(); err == nil && !g.options.quiet {
			g.say(fmt.Sprintf("%s: its last line was made anew, for %s", v.path, human.Plural(v.plan.Removals, "removal")))
		}
	}
	if errors.As(err, &broken) {
		hint := ""
		if broken.Changed {
			hint = " (if that is meant: --partial)"
		}
		if broken.Line == 1 && isYAML(v.path) && !v.copied {
			hint = " (apply takes the plan first, and then the target)"
		}
		return storage.Usagef("%s: %w%s", v.path, broken, hint)
	}
	if err != nil {
		return err
	}
	o := v.plan.Options
	g.options.deleteUntagged, g.options.pruneEmpty, g.options.allowEmpty = o.DeleteUntagged, o.PruneEmpty, o.AllowEmpty
	g.options.deleteUnlinkedChildren = o.DeleteUnlinkedChildren
	if o.RemovesTags { // a plan does not say whether its run was for some repositories only
		g.options.pruneOnly = func(string) bool { return true }
	}
	g.options.minAge, g.options.uploadAge = o.MinAge, o.UploadAge
	if err := g.lists.checkPlan(v.path, o.Roots, o.KeepDigests); err != nil {
		return err
	}
	if g.options.unsafe && o.RemovesTags {
		return storage.Usagef("--unsafe-online: %s removes tags: a tag that is pushed again meanwhile would be lost", v.path)
	}
	if g.options.unsafe && o.MinAge < unsafeAge {
		return storage.Usagef("--unsafe-online: %s was made with less than --min-age 24h: make it with gc -d --unsafe-online", v.path)
	}
	if !v.leftOutGiven {
		return nil
	}
	if v.isPlan(v.leftOutPath) {
		return storage.Usagef("--%s: %s is the plan itself", leftOutName, v.leftOutPath)
	}
	if v.leftOut, err = g.output("--"+leftOutName, v.leftOutPath, leftOutKind); err != nil {
		return explainForgottenValue(err, v.targetGiven, "apply PLAN --"+leftOutName+" left-out.jsonl", v.leftOutPath)
	}
	return nil
}

// removesTags reports whether the plan was made with a policy.
func (v *review) removesTags() bool { return v != nil && v.plan.Options.RemovesTags }

// reviewedRoots returns the roots of the run for a plan that was made with a policy. Tags that reach a digest of the
// lists stay: the lists may have changed since the plan was made.
func (g *gcRun) reviewedRoots(ctx context.Context, inv *inventory.Inventory, graph *mark.Graph, only *sweep.Selection, lists []*mark.ListRoots) (mark.Roots, error) {
	facts := policy.Facts{Inventory: inv, Graph: graph}
	followers := facts.Followers(true)
	for i := range followers {
		if !g.options.deleteUntagged {
			facts.AddEarlier(i, followers[i])
		}
	}
	roots := only.RootsWithoutTags(func(repository int) []mark.Follower { return followers[repository] })
	selected, followersOf := roots.Removed, roots.Followers
	listed, err := facts.Listed(ctx, lists, followers, selected)
	if err != nil {
		return roots, err
	}
	roots.Removed = func(repository, tag int) bool { return selected(repository, tag) && !listed[repository][tag] }
	roots.Followers = func(repository int) []mark.Follower {
		return slices.DeleteFunc(followersOf(repository), func(f mark.Follower) bool { return listed[repository][f.Tag] })
	}
	if g.lists.roots != nil {
		roots.Tag = func(repository, tag int) bool { return !roots.Removed(repository, tag) }
	}
	return roots, nil
}

// planPath returns the path of the plan, or "" for gc.
func (v *review) planPath() string {
	if v == nil {
		return ""
	}
	return v.path
}

// isPlan reports whether path names the file of the plan.
func (v *review) isPlan(path string) bool {
	there, err := os.Stat(path)
	if err != nil {
		return false
	}
	plan, err := v.file.Stat()
	return err == nil && os.SameFile(there, plan)
}

// remake replaces the file of the plan, or its copy, by a file with a new last line, which fits the
// other lines. It opens and checks the new file.
func (v *review) remake() (err error) {
	was := v.file
	if v.copied {
		v.file, err = temporaryFile(func(w io.Writer) error { return sweep.Remake(w, was) })
	} else {
		var remade *outputFile
		if remade, err = newOutputFile("--"+partialName, v.path, planKind); err != nil {
			return err
		}
		defer remade.discard()
		if err = remade.save(func(w io.Writer) error { return sweep.Remake(w, was) }); err == nil {
			v.file, err = os.Open(v.path)
		}
	}
	if err != nil {
		v.file = was
		return err
	}
	if err := was.Close(); err != nil {
		return err
	}
	v.plan, err = sweep.OpenFile(v.file)
	return err
}

// discard closes the plan and discards an unsaved --left-out file. The plan was only read, so it ignores
// errors.
func (v *review) discard() {
	if v == nil {
		return
	}
	v.leftOut.discard()
	if v.file != nil {
		_ = v.file.Close()
	}
}

// checkStorage returns an error if the plan is of another storage.
func (v *review) checkStorage(store storage.Store) error {
	if v == nil {
		return nil
	}
	if is, made := store.Identity(), v.plan.Storage; made != is {
		return otherStorage(v.path, made, is)
	}
	return nil
}

// otherStorage is the usage error for a plan of another storage.
func otherStorage(path string, made, is storage.Identity) error {
	return storage.Usagef("%s is a plan of another storage, %s %s: this is %s %s", path, made.Driver, human.Printable(made.Root), is.Driver, human.Printable(is.Root))
}

// selection returns the objects of the inventory that are in the plan. For gc it returns nil, which
// means everything.
func (v *review) selection(ctx context.Context, inventory *inventory.Inventory, store storage.Store) (*sweep.Selection, error) {
	if v == nil {
		return nil, nil
	}
	return sweep.Select(ctx, v.plan, inventory, store)
}

// compare reports each removal of the reviewed plan that is not in the new plan, with the reason. It
// also saves the list if --left-out was given.
func (v *review) compare(plan *sweep.Plan, report *report) error {
	switch {
	case v == nil:
		return nil
	case v.leftOut == nil:
		return plan.LeftOut(v.plan, report.addLeftOut)
	}
	report.leftOutSaved = true
	return v.leftOut.save(func(w io.Writer) error {
		buffered := bufio.NewWriter(w)
		encoder, failed := json.NewEncoder(buffered), error(nil)
		encoder.SetEscapeHTML(false)
		err := plan.LeftOut(v.plan, func(removal sweep.Removal, reason sweep.Reason) {
			report.addLeftOut(removal, reason)
			if failed == nil {
				failed = encoder.Encode(struct {
					sweep.Removal
					LeftOut sweep.Reason `json:"left_out"`
				}{removal, reason})
			}
		})
		return errors.Join(err, failed, buffered.Flush())
	})
}
