package policy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"regsweep/inventory"
	"regsweep/mark"
	"regsweep/storage"
	"regsweep/storage/layout"
)

// Facts are what a run has read.
type Facts struct {
	// Inventory was taken with Options.TagTimes.
	Inventory *inventory.Inventory
	Graph     *mark.Graph
	// Lists are roots of the run besides tags and revisions.
	Lists []*mark.ListRoots
	// Reader reads the configs of images and the times of links, as far as a policy needs them.
	Reader      storage.Reader
	Concurrency int
	Now         time.Time
}

// Options change what a policy does.
type Options struct {
	// MinAge keeps tags that were pushed less than this ago.
	MinAge time.Duration
	// TrustTimes lets rules use push times that are unreliable: see bunched.
	TrustTimes bool
	// OrphanedSignatures removes the tags that follow a subject which is gone.
	OrphanedSignatures bool
	// DeleteUntagged removes all untagged manifests, except in a protected repository.
	DeleteUntagged bool
	// OnlyLists is for a run with a list of roots from elsewhere. The roots are the list and the protected tags.
	// The list must be one of Held.
	OnlyLists bool
	// DeleteUnlinkedChildren is that of mark.Roots.
	DeleteUnlinkedChildren bool
	// Held has the digests of each Protection with Digests, by its index. They must also be roots of
	// the run: Facts.Lists.
	Held []*mark.ListRoots
}

// Decision is what a policy removes from a registry.
type Decision struct {
	// Tags has every tag that a rule selects and, after Conclude, every tag that is removed. It is sorted by
	// repository and name.
	Tags []DecidedTag
	// Skipped are the repositories from which rules would remove tags and remove none.
	Skipped []Skipped
	// Untagged has the rules with untagged, after Conclude.
	Untagged []UntaggedCount

	removed   [][]bool          // by repository and tag; nil for a repository without a removed tag
	followers [][]mark.Follower // by repository
	revisions [][]bool          // by repository and revision: removed as untagged manifests; nil for none
	untagged  []*Rule           // by repository: the rule that decides about revisions, or nil
	followed  []map[int]bool    // by repository: the revisions that live only as long as a subject
	live      *mark.Live        // with all tags and revisions as roots
	options   Options
	protected []bool // by repository
	lists     []*mark.ListRoots

	protectedTags [][]bool // by repository and tag; only with Options.OnlyLists
}

// DecidedTag is a tag with its verdict.
type DecidedTag struct {
	inventory.TagPlace
	Verdict
	Time time.Time // the time that the rules used; zero if it is not known

	isLeft bool
}

// UntaggedCount says how many untagged manifests of how many repositories a rule removes.
type UntaggedCount struct {
	Rule         string `json:"rule"`
	Repositories int    `json:"repositories"`
	Manifests    int    `json:"manifests"`
}

// Skipped is a repository from which nothing is removed, and the reason.
type Skipped struct {
	Repository string `json:"repository"`
	Reason     string `json:"reason"`
}

// Decide applies a policy to a registry. The error is one of the storage.
func (p *Policy) Decide(ctx context.Context, f Facts, options Options) (*Decision, error) {
	n := len(f.Inventory.Repositories)
	if len(options.Held) != len(p.Protect) {
		return nil, errors.New("policy: the lists of images were not read")
	}
	all := f.Followers(options.OrphanedSignatures)
	d := &Decision{
		removed: make([][]bool, n), followers: make([][]mark.Follower, n), revisions: make([][]bool, n),
		followed: make([]map[int]bool, n), options: options, protected: make([]bool, n), lists: f.Lists, Untagged: []UntaggedCount{},
	}
	for _, rule := range p.Rules {
		if rule.Untagged != nil {
			d.Untagged = append(d.Untagged, UntaggedCount{Rule: rule.Name})
		}
	}
	repositories := make([]repository, n)
	for i := range repositories {
		repositories[i] = p.list(f, i)
		d.protected[i] = p.protectsAll(f.Inventory.Repositories[i].Name)
	}
	if err := p.date(ctx, f, repositories, options.TrustTimes); err != nil {
		return nil, err
	}
	judgements := make([]Judgement, n)
	err := f.Graph.EachRepository(ctx, func(_ context.Context, i int) error {
		r := &repositories[i]
		holder := f.holder(options.Held, i, all[i])
		for at := range r.Tags {
			r.Tags[at].Holds, r.Tags[at].IsYoung = holder(r.places[at].Tag), f.isYoung(r.places[at], options)
		}
		judgements[i] = p.Judge(r.Repository, f.Now)
		for at := range r.Tags {
			r.Tags[at].Holds = nil // it has much memory
		}
		d.followers[i] = slices.DeleteFunc(slices.Clone(all[i]), func(of mark.Follower) bool { // they are roots instead
			tag := Tag{Name: f.Inventory.Repositories[i].Tags[of.Tag].Name, Holds: holder(of.Tag)}
			isSkipped := of.IsGone && (r.Unreliable || judgements[i].Skipped != "")
			return isSkipped || p.protects(r.Name, tag) || f.isYoung(inventory.TagPlace{Repository: i, Tag: of.Tag}, options)
		})
		return nil
	})
	if err != nil {
		return nil, err
	}
	isSkipped := make([]bool, n)
	for i, r := range repositories {
		isSkipped[i] = d.add(i, len(f.Inventory.Repositories[i].Tags), r, judgements[i], p)
	}
	d.live, err = f.Graph.Live(ctx, mark.Roots{
		Lists: f.Lists, DeleteUnlinkedChildren: options.DeleteUnlinkedChildren,
		Followers: func(repository int) []mark.Follower { return d.followers[repository] },
	})
	if err != nil {
		return nil, err
	}
	if err := p.decideUntagged(ctx, f, d, isSkipped); err != nil {
		return nil, err
	}
	d.follow(f)
	if options.OnlyLists {
		if err := p.protectTags(ctx, f, d, all); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// isYoung reports whether a tag was pushed less than Options.MinAge ago.
func (f Facts) isYoung(at inventory.TagPlace, options Options) bool {
	pushed := f.Inventory.Repositories[at.Repository].TagPushed(at.Tag)
	return options.MinAge > 0 && (pushed.IsZero() || f.Now.Sub(pushed) < options.MinAge)
}

// follow finds the revisions that live only as long as a subject: those that followers lead to, and those
// that they pointed at earlier, as far as no tag leads there and these are not removed like other untagged manifests.
func (d *Decision) follow(f Facts) {
	for i, r := range f.Inventory.Repositories {
		if len(d.followers[i]) == 0 {
			continue
		}
		view, followed := f.Graph.View(i), map[int]bool{}
		for n, of := range d.followers[i] {
			tag := r.Tags[of.Tag]
			if !d.options.DeleteUntagged {
				d.followers[i][n].Earlier = slices.DeleteFunc(earlier(r, tag), func(id inventory.ID) bool {
					at, _ := inventory.FindLink(r.Revisions, id)
					return d.live.Repositories[i].Revisions.At(at) != mark.Untagged || d.revisions[i] != nil && d.revisions[i][at]
				})
			}
			for _, id := range append(view.Kept(tag.Target), d.followers[i][n].Earlier...) {
				if at, found := inventory.FindLink(r.Revisions, id); found {
					followed[at] = true
				}
			}
		}
		d.followed[i] = followed
	}
}

// repository is a repository with the places of its tags.
type repository struct {
	Repository
	places []inventory.TagPlace
}

// list returns the tags of a repository that count.
func (p *Policy) list(f Facts, i int) repository {
	r := f.Inventory.Repositories[i]
	out := repository{Repository: Repository{Name: r.Name}}
	for at, tag := range r.Tags {
		if _, follows := Subject(tag.Name); follows || !tag.HasTarget {
			continue // a tag without a current link is damaged: it is kept
		}
		_, hasEntry := inventory.FindLink(tag.Index, tag.Target)
		out.Tags = append(out.Tags, Tag{Name: tag.Name, Time: r.TagPushed(at), IsLeft: !hasEntry && !r.HasRevision(tag.Target)})
		out.places = append(out.places, inventory.TagPlace{Repository: i, Tag: at})
	}
	return out
}

// holder returns a function that returns Tag.Holds for a tag of a repository. What a manifest reaches is found only
// once. It must not be used concurrently.
func (f Facts) holder(lists []*mark.ListRoots, i int, followers []mark.Follower) func(tag int) func(protection int) bool {
	view := sync.OnceValue(func() *mark.View { return f.Graph.View(i, followers...) })
	has := make([]func(inventory.ID) bool, len(lists))
	known := map[string][]bool{} // by roots
	held := func(roots []inventory.ID) (held []bool) {
		key := fmt.Sprint(roots)
		if known[key] != nil {
			return known[key]
		}
		reached := view().Kept(roots...)
		for n, list := range lists {
			if list != nil && has[n] == nil {
				has[n] = list.Has(i)
			}
			held = append(held, list != nil && slices.ContainsFunc(reached, has[n]))
		}
		known[key] = held
		return held
	}
	return func(tag int) func(protection int) bool {
		return func(protection int) bool { return held(f.Inventory.Repositories[i].Tags[tag].Roots())[protection] }
	}
}

// add adds the judgement about a repository with this number of tags. It reports whether the repository is skipped.
func (d *Decision) add(i, tags int, r repository, j Judgement, p *Policy) (isSkipped bool) {
	if isSkipped = j.Skipped != "" || r.Unreliable; j.Skipped != "" {
		d.Skipped = append(d.Skipped, Skipped{r.Name, j.Skipped})
	}
	if r.Unreliable && (p.untaggedRule(r.Name) != nil || slices.ContainsFunc(j.Verdicts, func(v Verdict) bool { return v.Reason == unreliable })) {
		d.Skipped = append(d.Skipped, Skipped{r.Name, "most of its tags were pushed within one hour, although their images were created further apart: the push times are those of a copy"})
	}
	for at, v := range j.Verdicts {
		if !v.Selected {
			continue
		}
		d.Tags = append(d.Tags, DecidedTag{r.places[at], v, r.Tags[at].Time, r.Tags[at].IsLeft})
		if v.Remove {
			if d.removed[i] == nil {
				d.removed[i] = make([]bool, tags)
			}
			d.removed[i][r.places[at].Tag] = true
		}
	}
	return isSkipped
}

// decideUntagged finds the untagged manifests that rules remove. It stats their links.
func (p *Policy) decideUntagged(ctx context.Context, f Facts, d *Decision, isSkipped []bool) error {
	type link struct{ repository, at int }
	var links []link
	d.untagged = make([]*Rule, len(f.Inventory.Repositories))
	for i, r := range f.Inventory.Repositories {
		if d.untagged[i] = p.untaggedRule(r.Name); d.untagged[i] == nil || d.protected[i] || isSkipped[i] {
			continue
		}
		d.revisions[i] = make([]bool, len(r.Revisions))
		for at := range r.Revisions {
			if d.live.Repositories[i].Revisions.At(at) == mark.Untagged {
				links = append(links, link{i, at})
			}
		}
	}
	return storage.Each(ctx, len(links), f.Concurrency, func(ctx context.Context, n int) error {
		of := links[n]
		r := f.Inventory.Repositories[of.repository]
		object, err := f.Reader.Stat(ctx, layout.RevisionPath(r.Name, f.Inventory.Digest(r.Revisions[of.at].ID())))
		switch {
		case storage.IsAbsent(err), storage.IsDamage(err): // it is kept
			return nil
		case err != nil:
			return fmt.Errorf("%s: %w", r.Name, err)
		}
		d.revisions[of.repository][of.at] = !object.ModTime.IsZero() && f.Now.Sub(object.ModTime) >= time.Duration(d.untagged[of.repository].Untagged.OlderThan)
		return nil
	})
}

// Protects reports whether the policy keeps the untagged manifests of a repository.
func (d *Decision) Protects(repository int) bool { return d.protected[repository] }

// Roots returns the roots of a run that removes what the policy removes.
func (d *Decision) Roots() mark.Roots {
	roots := mark.Roots{
		Lists: d.lists, DeleteUnlinkedChildren: d.options.DeleteUnlinkedChildren,
		Removed:   func(repository, tag int) bool { return d.removed[repository] != nil && d.removed[repository][tag] },
		Followers: func(repository int) []mark.Follower { return d.followers[repository] },
		Revision: func(repository, revision int) bool {
			switch cause := d.live.Repositories[repository].Revisions.At(revision); {
			case cause == mark.Tagged || cause == mark.UnlinkedChild: // a tag reaches it too
				return false
			case d.protected[repository]:
				return true
			case d.options.DeleteUntagged, d.followed[repository][revision]:
				return false
			case cause == mark.Untagged && d.revisions[repository] != nil:
				return !d.revisions[repository][revision]
			}
			return true
		},
	}
	if d.options.OnlyLists {
		roots.Tag = func(repository, tag int) bool { return d.protectedTags[repository][tag] }
	}
	return roots
}
