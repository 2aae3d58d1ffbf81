package cli

import (
	"context"
	"errors"
	"slices"
	"unicode/utf8"

	"regsweep/descriptors"
	"regsweep/guard"
	"regsweep/storage"
	"regsweep/storage/config"

	urfave "github.com/urfave/cli/v2"
)

// prepare reads the flags and the files that they name, and opens the target. It returns the options of
// the proof.
func (g *gcRun) prepare(c *urfave.Context, target []string) (proof guard.Options, err error) {
	if g.lists, err = g.readRootLists(c, g.review.planPath()); err != nil {
		return proof, err
	}
	if g.policy == nil {
		if g.policy, err = g.readPolicy(c); err != nil {
			return proof, err
		}
	}
	if g.policy != nil {
		switch {
		case g.lists.roots != nil && g.policy.isUntag:
			return proof, storage.Usagef("--%s: it would also remove every other tag that the list does not name: use --%s, or gc --%s", rootsName, keepDigestsName, rootsName)
		case g.options.unsafe:
			return proof, storage.Usagef("--unsafe-online: a tag that is pushed again meanwhile would be lost: a policy needs the proof")
		}
		g.policy.protect(g.lists)
	}
	if err := g.openReview(c.Context); err != nil {
		return proof, err
	}
	if g.lists.roots != nil {
		g.options.deleteUntagged = true // only the images of the list are roots
	}
	if err := g.options.check(); err != nil {
		return proof, err
	}
	if g.options.planGiven {
		if g.planFile, err = g.output("--"+planName, g.options.plan, planKind); err != nil {
			return proof, explainForgottenValue(err, len(target) > 0, "gc --"+planName+" plan.jsonl", g.options.plan)
		}
	}
	if g.config, g.store, err = g.target(c, target, g.options.allowEmpty); err != nil {
		g.store = nil
		return proof, g.explainAbsent(err)
	}
	g.report.Storage, g.report.Config, g.report.notRead = g.store.Identity(), g.config.File, g.config.NotRead
	g.report.Descriptors = descriptors.NewReport(g.config.Registry)
	if g.options.quarantine {
		g.report.Quarantine = &moveReport{}
	}
	if err := g.review.checkStorage(g.store); err != nil {
		return proof, err
	}
	if proof, err = g.guardOptions(c, g.config, g.store); err != nil {
		return proof, err
	}
	proof.DeleteUntagged = g.options.deleteUntagged || g.policy != nil || g.review.removesTags()
	proof.RootsGiven, proof.KeepDigestsGiven = g.lists.roots != nil, g.lists.keepDigests != nil
	if g.options.planGiven {
		if root := g.report.Storage.Root; !utf8.ValidString(root) {
			return proof, storage.Usagef("--plan: a plan can't hold the name of its storage, which is no text: %q", root)
		}
	}
	if !g.options.dryRun && !g.options.yes {
		return proof, g.canAsk() // before the listing, which may take an hour
	}
	return proof, nil
}

// discardFiles closes the files of the run, and removes temporary files that were not saved.
func (g *gcRun) discardFiles() {
	g.planFile.discard()
	g.review.discard()
}

// requireLayout returns an error if the root has no registry, unless --allow-empty was given.
func (g *gcRun) requireLayout(ctx context.Context) error {
	if g.options.allowEmpty {
		return nil
	}
	return g.explainAbsent(config.RequireLayout(ctx, g.store, g.config))
}

// explainAbsent adds --allow-empty to an error about a root without a registry. It does not for apply,
// which takes that option from the plan.
func (g *gcRun) explainAbsent(err error) error {
	if g.review == nil && errors.As(err, new(*config.AbsentError)) {
		return storage.Usagef("%w. For a registry that nobody has pushed to, pass --allow-empty", err)
	}
	return err
}

// explainForgottenValue adds a hint to the error about a value of a flag. If there is no target, the
// value may be the target, and the user forgot the value.
func explainForgottenValue(err error, targetGiven bool, example, value string) error {
	if targetGiven || value == "" || slices.Contains(standardOutput, value) {
		return err
	}
	return storage.Usagef("%w; if it is the target, name both: regsweep %s %s", err, example, value)
}
