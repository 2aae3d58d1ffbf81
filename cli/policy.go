package cli

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"regsweep/audit"
	"regsweep/internal/human"
	"regsweep/inventory"
	"regsweep/mark"
	"regsweep/policy"
	"regsweep/storage"
	"regsweep/sweep"

	urfave "github.com/urfave/cli/v2"
)

const (
	policyName     = "policy"
	trustTimesName = "trust-times"
	freeName       = "free"
	orphansName    = "orphaned-signatures"
)

func policyFlags() []urfave.Flag {
	return []urfave.Flag{
		&urfave.StringFlag{Name: policyName, Usage: "remove also the tags that the rules in `FILE` select, and what only they keep"},
		toggle(trustTimesName, "let rules use push times that look like those of a copy"),
		&urfave.GenericFlag{Name: freeName, Value: new(byteSize), Usage: "of the tags that would be removed, take the oldest first, and only until the run frees `SIZE`, such as 200GB"},
		toggle(orphansName, "with a policy, remove also the tags of signatures whose subject is gone"),
	}
}

// policyLimit is the size of the largest policy in bytes.
const policyLimit = 1 << 20

// policyRun is the policy of a run. It is nil without one.
type policyRun struct {
	*policy.Policy
	file                string
	trustTimes, orphans bool
	free                int64            // bytes, 0 for no bound
	lists               []*mark.RootList // of each protection; nil without digests

	alone *audit.Freed // what the removal of each tag would free, for the report; nil without a verdict

	isUntag bool          // it was made by untag
	holding string        // the digest of untag --holding
	among   []policy.Rule // the rules that holding narrows; none for all tags
	held    inventory.ID  // of holding
}

// readPolicy reads the policy and the lists that it names, before the listing.
func (r *runner) readPolicy(c *urfave.Context) (*policyRun, error) {
	if !c.IsSet(policyName) {
		for _, name := range []string{trustTimesName, orphansName, freeName} {
			if c.IsSet(name) {
				return nil, storage.Usagef("--%s is only for a run with --%s", name, policyName)
			}
		}
		return nil, nil
	}
	p, err := r.loadPolicy(c, c.String(policyName))
	if err == nil {
		p.trustTimes, p.orphans, p.free = c.Bool(trustTimesName), c.Bool(orphansName), c.Generic(freeName).(*byteSize).bytes
	}
	return p, err
}

// loadPolicy reads a policy and the lists that it names.
func (r *runner) loadPolicy(c *urfave.Context, path string) (*policyRun, error) {
	var content []byte
	err := r.readInput(c.Context, path, func(from io.Reader) (err error) {
		content, err = io.ReadAll(io.LimitReader(from, policyLimit+1))
		return err
	})
	switch {
	case c.Context.Err() != nil:
		return nil, context.Cause(c.Context)
	case err != nil:
		return nil, storage.Usagef("policy: %w", err)
	case len(content) > policyLimit:
		return nil, storage.Usagef("policy: %s has more than 1 MiB, which no policy needs", path)
	}
	p := &policyRun{file: path}
	if p.Policy, err = policy.Parse(path, content); err != nil {
		return nil, storage.Usagef("policy: %w", err)
	}
	for _, protection := range p.Protect {
		var list *mark.RootList
		if name := protection.Digests; name != "" {
			if !filepath.IsAbs(name) {
				name = filepath.Dir(path) + string(filepath.Separator) + name // - is a file here
			}
			err := r.readInput(c.Context, name, func(from io.Reader) (err error) {
				list, err = mark.ReadRoots(name, from)
				return err
			})
			if err != nil {
				return nil, storage.Usagef("policy: %s: line %d: %w", path, protection.Line, err)
			}
		}
		p.lists = append(p.lists, list)
	}
	return p, nil
}

// protect adds protections for the lists of --roots and --keep-digests.
func (p *policyRun) protect(lists rootLists) {
	for _, list := range []*mark.RootList{lists.roots, lists.keepDigests} {
		if list != nil {
			p.Protect, p.lists = append(p.Protect, policy.Protection{Digests: list.Name}), append(p.lists, list)
		}
	}
}

// findProtected finds the digests of each protection in the inventory. It refuses a list that protects nothing,
// unless --allow-empty is given, and warns about names in the policy that match nothing.
func (g *gcRun) findProtected(inv *inventory.Inventory) (held []*mark.ListRoots, err error) {
	if g.policy == nil {
		return nil, nil
	}
	for _, list := range g.policy.lists {
		var found *mark.ListRoots
		if list != nil {
			found = list.Find(inv)
			if list != g.lists.roots && list != g.lists.keepDigests { // they have a report of their own
				g.report.Protect = append(g.report.Protect, newRootsReport(list, found))
			}
			if found.Found == 0 && inv.Blobs() > 0 && !g.options.allowEmpty {
				return nil, fmt.Errorf("%s: protect: %s has %s: %w; if it is right, say so with --allow-empty",
					g.policy.file, list.Name, human.Plural(len(list.Entries), "entry"), errNoRoots)
			}
		}
		held = append(held, found)
	}
	if !g.policy.isUntag && !g.options.quiet {
		for _, text := range g.policy.Unused(inv) {
			g.say("warning: " + g.policy.file + ": " + text)
		}
	}
	return held, nil
}

// decide applies the policy.
func (g *gcRun) decide(ctx context.Context, reader storage.Store, inv *inventory.Inventory, graph *mark.Graph, held, lists []*mark.ListRoots, now time.Time) (*policy.Decision, error) {
	if err := g.selectTags(inv, graph); err != nil {
		return nil, err
	}
	d, err := g.policy.Decide(ctx, policy.Facts{
		Inventory: inv, Graph: graph, Lists: lists, Reader: reader, Concurrency: g.store.Concurrency(), Now: now,
	}, policy.Options{
		MinAge: g.options.minAge, TrustTimes: g.policy.trustTimes, OrphanedSignatures: g.policy.orphans, Held: held,
		DeleteUntagged: g.options.deleteUntagged, OnlyLists: g.lists.roots != nil, DeleteUnlinkedChildren: g.options.deleteUnlinkedChildren,
	})
	if err != nil {
		return nil, err
	}
	facts := audit.Facts{Inventory: inv, Graph: graph, Now: now, UploadAge: g.options.uploadAge}
	if g.policy.free > 0 {
		err := d.Spare(func() (bool, error) {
			live, err := graph.Live(ctx, d.Roots())
			return err == nil && facts.Freed(live) >= g.policy.free, err
		})
		if err != nil {
			return nil, err
		}
	}
	return d, nil
}

// reportTags reports the verdict about each tag. The plan knows the sizes of what is removed.
func (g *gcRun) reportTags(inv *inventory.Inventory, d *policy.Decision, plan *sweep.Plan) {
	g.report.Policy = &policy.Report{File: g.policy.file, Skipped: append([]policy.Skipped{}, d.Skipped...), Untagged: d.Untagged}
	g.report.Tags = []policy.TagReport{}
	if len(d.Tags) > 0 {
		g.report.Tags = d.Report(inv, g.policy.alone.Bytes(plan.Frees))
	}
}
