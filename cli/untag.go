package cli

import (
	"fmt"
	"maps"
	"slices"

	"regsweep/audit"
	"regsweep/internal/human"
	"regsweep/inventory"
	"regsweep/mark"
	"regsweep/policy"
	"regsweep/storage"

	urfave "github.com/urfave/cli/v2"
)

const holdingName = "holding"

func untagCommand(r *runner) *urfave.Command {
	gc := gcCommand(r)
	isPolicy := func(f urfave.Flag) bool { return slices.Contains([]string{policyName, trustTimesName}, f.Names()[0]) }
	return &urfave.Command{
		Name:      "untag",
		Usage:     "remove tags, and what only they keep, in one run",
		ArgsUsage: "REPO:TAG-GLOB… TARGET",
		Flags: append(slices.DeleteFunc(gc.Flags, isPolicy),
			&urfave.StringFlag{Name: holdingName, Usage: "only tags whose image has the `DIGEST`, such as a leaked layer"}),
		CustomHelpTemplate: commandHelp,
		OnUsageError:       usageError,
		Action:             r.untag,
		Description: `REPO:TAG-GLOB:
   tags of the repositories that match, as in 'team/*:pr-*'; ** crosses slashes. Without a tag
   everything in these repositories goes, as in 'team/old/**'. With --holding only the tags go that
   also hold the digest: of those that match, or of all if no REPO:TAG-GLOB is given.

` + targetHelp + `
   It is a gc with a policy of one line, without a floor: see docs/policies.md. The target comes
   last and can't be left out.

EXAMPLES:
   regsweep untag -d 'team/app:pr-*' config.yml           each tag, and what its removal frees
   regsweep untag --quarantine 'team/app:pr-*' config.yml can be undone
   regsweep untag -d --holding sha256:4cfe74a07d12 config.yml
`,
	}
}

func (r *runner) untag(c *urfave.Context) error {
	g := &gcRun{options: readGCOptions(c), report: newReport("untag")}
	patterns, target := c.Args().Slice(), []string{}
	if n := len(patterns); n > 0 {
		patterns, target = patterns[:n-1], patterns[n-1:]
	}
	holding := c.String(holdingName)
	if len(target) == 0 || len(patterns) == 0 && holding == "" {
		return r.collect(c, g, nil, storage.Usagef("untag: name the tags and then the target, as in regsweep untag 'team/app:pr-*' config.yml"))
	}
	p, whole, err := policy.Untag(patterns)
	if err == nil && holding != "" {
		err = audit.IsObject(holding)
	}
	if err != nil {
		return r.collect(c, g, nil, storage.Usagef("untag: %w", err))
	}
	g.policy = &policyRun{Policy: p, file: "untag", orphans: c.Bool(orphansName), free: c.Generic(freeName).(*byteSize).bytes, holding: holding, isUntag: true}
	if holding != "" { // selectTags adds the rules when the tags are known that hold it
		g.policy.among, p.Rules, whole = p.Rules, nil, nil
	}
	if len(whole) > 0 && !g.options.pruneEmpty {
		g.options.pruneEmpty, g.options.pruneOnly = true, whole.Match
	}
	return r.collect(c, g, target, nil)
}

// warnOfHeld warns if the digest of --holding stays.
func (g *gcRun) warnOfHeld(inv *inventory.Inventory, live *mark.Live) {
	if id := g.policy.held; g.policy.holding != "" && inv.Stored(id) && (live.Blob(id).Alive() || inv.Recent(id)) {
		g.say(fmt.Sprintf("warning: %s stays: not only these tags keep it. An untagged manifest may: see regsweep why, and -m", g.policy.holding))
	}
}

// holders returns the tags that hold the digest of --holding, by repository and name, without those that follow a
// subject.
func (p *policyRun) holders(inv *inventory.Inventory, graph *mark.Graph) (tags map[[2]string]bool, err error) {
	facts := audit.Facts{Inventory: inv, Graph: graph}
	if p.held, err = facts.Find(p.holding); err != nil {
		return nil, err
	}
	tags = map[[2]string]bool{}
	for i, r := range inv.Repositories {
		view := graph.View(i)
		for _, tag := range r.Tags {
			_, follows := policy.Subject(tag.Name)
			if follows || !tag.HasTarget {
				continue
			}
			if _, holds := slices.BinarySearch(view.Pulled(tag.Target), p.held); holds {
				tags[[2]string{r.Name, tag.Name}] = true
			}
		}
	}
	if len(tags) == 0 {
		return nil, storage.Usagef("untag: the image of no tag has %s: regsweep why %[1]s says whether anything keeps it", p.holding)
	}
	return tags, nil
}

// selectTags completes the rules of untag. It returns an error if they select nothing, and warns of each pattern that
// selects nothing: nothing else would show a typing error. After an interruption some patterns may be done.
func (g *gcRun) selectTags(inv *inventory.Inventory, graph *mark.Graph) error {
	p := g.policy
	if !p.isUntag {
		return nil
	}
	if p.holding != "" {
		holders, err := p.holders(inv, graph)
		if err != nil {
			return err
		}
		p.Rules = policy.Holding(p.holding, p.among, func(repository, tag string) bool { return holders[[2]string{repository, tag}] })
	}
	selected, all := map[string]int{}, 0
	for _, count := range p.Count(inv) {
		selected[count.Rule] += count.Tags + count.Untagged
		all += count.Tags + count.Untagged
	}
	for _, pattern := range slices.Sorted(maps.Keys(selected)) {
		switch {
		case all == 0:
			return storage.Usagef("untag: nothing matches %s (what an interrupted untag leaves, gc removes)", pattern)
		case selected[pattern] == 0:
			g.say("warning: nothing matches " + human.Printable(pattern))
		}
	}
	return nil
}
