package policy

import (
	"cmp"
	"context"
	"slices"

	"regsweep/inventory"
	"regsweep/mark"
)

// Conclude completes the verdicts with the result of the mark, which had the roots of the decision. Damage
// keeps tags that a rule removes. And tags are removed that no rule removes.
func (d *Decision) Conclude(inv *inventory.Inventory, live *mark.Live) {
	d.countUntagged(live)
	removed := map[inventory.TagPlace]bool{}
	for i, r := range live.Repositories {
		for _, tag := range r.DeadTags {
			removed[inventory.TagPlace{Repository: i, Tag: tag}] = true
		}
	}
	for i := range d.Tags {
		switch tag := &d.Tags[i]; {
		case tag.Remove && !removed[tag.TagPlace]:
			tag.Verdict = Verdict{Selected: true, Rule: ByDamage}
		case !tag.Remove && removed[tag.TagPlace]:
			tag.Verdict = Verdict{Selected: true, Remove: true, Rule: ByRoots}
		}
		delete(removed, d.Tags[i].TagPlace)
	}
	for at := range removed {
		d.Tags = append(d.Tags, DecidedTag{at, Verdict{Remove: true, Rule: d.without(at)}, inv.Repositories[at.Repository].TagPushed(at.Tag), false})
	}
	slices.SortFunc(d.Tags, func(a, b DecidedTag) int { return compare(a.TagPlace, b.TagPlace) })
}

// countUntagged counts the untagged manifests that rules remove.
func (d *Decision) countUntagged(live *mark.Live) {
	for i, revisions := range d.revisions {
		n := 0
		for at, isOld := range revisions {
			if isOld && live.Repositories[i].Revisions.At(at) == mark.Dead {
				n++
			}
		}
		if n == 0 {
			continue
		}
		count := slices.IndexFunc(d.Untagged, func(of UntaggedCount) bool { return of.Rule == d.untagged[i].Name })
		d.Untagged[count].Repositories++
		d.Untagged[count].Manifests += n
	}
}

// without returns Verdict.Rule of a tag that is removed without a rule.
func (d *Decision) without(at inventory.TagPlace) string {
	of := d.followers[at.Repository] // sorted by tag
	switch i, follows := slices.BinarySearchFunc(of, at.Tag, func(f mark.Follower, tag int) int { return cmp.Compare(f.Tag, tag) }); {
	case !follows:
		return ByRoots
	case of[i].IsGone:
		return ByOrphan
	}
	return BySubject
}

// Followers returns the tags of a repository that follow a subject which was not gone before.
func (d *Decision) Followers(repository int) (all []mark.Follower) {
	for _, f := range d.followers[repository] {
		if !f.IsGone {
			all = append(all, f)
		}
	}
	return all
}

// Reason returns why a tag is removed, for a plan. Conclude was called.
func (d *Decision) Reason(repository, tag int) string {
	at, _ := slices.BinarySearchFunc(d.Tags, inventory.TagPlace{Repository: repository, Tag: tag}, func(t DecidedTag, at inventory.TagPlace) int {
		return compare(t.TagPlace, at)
	})
	switch rule := d.Tags[at].Rule; rule {
	case BySubject:
		return "it follows its subject"
	case ByOrphan:
		return "its subject is gone"
	case ByRoots:
		return "no root reaches its manifest"
	default:
		return "policy: " + rule
	}
}

func compare(a, b inventory.TagPlace) int {
	return cmp.Or(cmp.Compare(a.Repository, b.Repository), cmp.Compare(a.Tag, b.Tag))
}

// protectTags sets protectedTags: those that the policy protects, whether a rule selects them or not.
func (p *Policy) protectTags(ctx context.Context, f Facts, d *Decision, followers [][]mark.Follower) (err error) {
	d.protectedTags, err = f.tagsThat(ctx, d.options.Held, followers, func(at inventory.TagPlace, holds func(list int) bool) bool {
		r := f.Inventory.Repositories[at.Repository]
		return p.protects(r.Name, Tag{Name: r.Tags[at.Tag].Name, Holds: holds})
	})
	return err
}

// Listed returns by repository and tag which tags reach a digest of a list, among those that may be removed.
// followers are those of Followers.
func (f Facts) Listed(ctx context.Context, lists []*mark.ListRoots, followers [][]mark.Follower, mayRemove func(repository, tag int) bool) ([][]bool, error) {
	return f.tagsThat(ctx, lists, followers, func(at inventory.TagPlace, holds func(list int) bool) bool {
		for i := range lists {
			if mayRemove(at.Repository, at.Tag) && holds(i) {
				return true
			}
		}
		return false
	})
}

// tagsThat returns by repository and tag what are reports. holds reports whether the tag reaches a digest of a list.
func (f Facts) tagsThat(ctx context.Context, lists []*mark.ListRoots, followers [][]mark.Follower, are func(at inventory.TagPlace, holds func(list int) bool) bool) ([][]bool, error) {
	tags := make([][]bool, len(f.Inventory.Repositories))
	err := f.Graph.EachRepository(ctx, func(_ context.Context, i int) error {
		holder := f.holder(lists, i, followers[i])
		tags[i] = make([]bool, len(f.Inventory.Repositories[i].Tags))
		for tag := range tags[i] {
			at := inventory.TagPlace{Repository: i, Tag: tag}
			tags[i][tag] = are(at, holder(tag))
		}
		return nil
	})
	return tags, err
}
