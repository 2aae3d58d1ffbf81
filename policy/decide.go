package policy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"regsweep/inventory"
	"regsweep/mark"
	"regsweep/storage"
	"regsweep/storage/layout"

	"github.com/opencontainers/go-digest"
)

// Facts are what a run has read.
type Facts struct {
	// Inventory was taken with Options.TagTimes.
	Inventory *inventory.Inventory
	Graph     *mark.Graph
	// Live is the result of a mark with all tags and all revisions as roots, and with the followers that
	// Followers returns.
	Live *mark.Live
	// Reader reads the configs of images and the times of links, as far as a policy needs them.
	Reader      storage.Reader
	Concurrency int
	Now         time.Time
}

// Options change what a policy does.
type Options struct {
	// MinAge keeps tags that were pushed less than this ago.
	MinAge time.Duration
	// TrustTimes lets rules use push times that are unreliable: see Bunched.
	TrustTimes bool
	// OrphanedSignatures removes the tags that follow a subject which is gone.
	OrphanedSignatures bool
	// DeleteUntagged removes all untagged manifests, except in a protected repository.
	DeleteUntagged bool
	// OnlyLists is for a run with a list of roots from elsewhere. The roots are the list and the protected tags.
	// The list must be one of Held.
	OnlyLists bool
	// Held has the digests of each Protection with Digests, by its index. They must also be roots of
	// the run: mark.Roots.Lists.
	Held []*mark.ListRoots
}

// Decision is what a policy removes from a registry.
type Decision struct {
	// Tags has every tag that a rule selects and, after Conclude, every tag that is removed. It is sorted by
	// repository and name.
	Tags []DecidedTag
	// Skipped are the repositories from which rules would remove tags and remove none.
	Skipped []Skipped

	removed   [][]bool          // by repository and tag; nil for a repository without a removed tag
	followers [][]mark.Follower // by repository
	revisions [][]bool          // by repository and revision: removed as untagged manifests; nil for none
	live      *mark.Live
	options   Options
	protected []bool // by repository

	protectedTags [][]bool // by repository and tag; only with Options.OnlyLists
}

// DecidedTag is a tag with its verdict.
type DecidedTag struct {
	inventory.TagPlace
	Verdict
	Time time.Time // the time that the rules used; zero if it is not known
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
	d := &Decision{
		removed: make([][]bool, n), followers: make([][]mark.Follower, n), revisions: make([][]bool, n),
		live: f.Live, options: options, protected: make([]bool, n),
	}
	repositories := make([]repository, n)
	for i := range repositories {
		repositories[i] = p.list(f, i)
		d.followers[i] = p.unprotected(f, i, f.Followers(i, options.OrphanedSignatures))
		d.protected[i] = p.protectsAll(f.Inventory.Repositories[i].Name)
	}
	if err := p.date(ctx, f, repositories, options.TrustTimes); err != nil {
		return nil, err
	}
	judgements := make([]Judgement, n)
	err := f.Graph.EachRepository(ctx, func(_ context.Context, i int) error {
		r := &repositories[i]
		view := sync.OnceValue(func() *mark.View { return f.Graph.View(i) })
		for at := range r.Tags {
			r.Tags[at].Holds = f.holds(options.Held, view, r.places[at])
		}
		judgements[i] = p.Judge(r.Repository, f.Now)
		for at := range r.Tags {
			v, pushed := &judgements[i].Verdicts[at], f.Inventory.Repositories[i].TagPushed(r.places[at].Tag)
			if v.Remove && options.MinAge > 0 && (pushed.IsZero() || f.Now.Sub(pushed) < options.MinAge) {
				*v = Verdict{Selected: true, Rule: ByAge}
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i, r := range repositories {
		d.add(i, len(f.Inventory.Repositories[i].Tags), r, judgements[i])
	}
	if options.OnlyLists {
		if err := p.protectTags(ctx, f, d); err != nil {
			return nil, err
		}
	}
	return d, p.decideUntagged(ctx, f, d)
}

// unprotected returns the tags of signatures that may be removed: a protected one is kept like any other tag.
func (p *Policy) unprotected(f Facts, i int, followers []mark.Follower) []mark.Follower {
	r := f.Inventory.Repositories[i]
	return slices.DeleteFunc(followers, func(of mark.Follower) bool {
		return !r.HasRevision(of.Subject) && p.protects(r.Name, Tag{Name: r.Tags[of.Tag].Name, Holds: func(int) bool { return false }})
	})
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
		out.Tags = append(out.Tags, Tag{Name: tag.Name, Time: r.TagPushed(at)})
		out.places = append(out.places, inventory.TagPlace{Repository: i, Tag: at})
	}
	return out
}

// Followers returns the tags of a repository that follow a subject. A tag whose subject the repository does
// not have is none, unless orphans are asked for too: it is kept like any other tag. Only Inventory and Graph are
// used.
//
// An interrupted run must end like any other. It removes the tags for untagged subjects first, then the
// revisions, and then all other tags. So a subject counts also if only a tag leads to it. A tag follows in
// any case if its own revision is gone: then no registry serves it.
func (f Facts) Followers(i int, orphans bool) (all []mark.Follower) {
	r := f.Inventory.Repositories[i]
	tagged := sync.OnceValue(func() (kept []inventory.ID) {
		view := f.Graph.View(i)
		isRoot := make([]bool, len(r.Tags))
		for changed := true; changed; { // there may be signatures of signatures
			changed = false
			var roots []inventory.ID
			for at, tag := range r.Tags {
				prefix, follows := Subject(tag.Name)
				if id, found := f.Inventory.Find(prefix); !isRoot[at] && (!follows || found && contains(kept, id)) {
					isRoot[at], changed = true, true
				}
				if isRoot[at] {
					roots = append(roots, tag.Roots()...)
				}
			}
			kept = view.Kept(roots...)
		}
		return kept
	})
	for at, tag := range r.Tags {
		prefix, follows := Subject(tag.Name)
		if !follows || !tag.HasTarget {
			continue
		}
		id, found := f.find(prefix, r, tagged)
		if contains(f.Graph.View(i).Kept(tag.Target), id) {
			continue // its manifest leads to the one in its name, as in a mirror that tags each image by its digest
		}
		isTagged := found && contains(tagged(), id)
		isHere := isTagged || found && r.HasRevision(id) && !f.Graph.Missing(id)
		isCut := !r.HasRevision(tag.Target)
		switch {
		case isHere:
		case f.isElsewhere(id): // cosign can keep signatures in another repository
			continue
		case !isCut && !orphans:
			continue
		}
		all = append(all, mark.Follower{Tag: at, Subject: id, Untagged: !isTagged && !isCut})
	}
	return all
}

// isElsewhere reports whether any repository has a revision.
func (f Facts) isElsewhere(id inventory.ID) bool {
	return slices.ContainsFunc(f.Inventory.Repositories, func(r *inventory.Repository) bool { return r.HasRevision(id) })
}

// find returns the digest that begins with a prefix, in a repository. tagged are all digests that tags keep.
func (f Facts) find(prefix digest.Digest, r *inventory.Repository, tagged func() []inventory.ID) (id inventory.ID, found bool) {
	if prefix.Validate() == nil {
		if id, found = f.Inventory.Find(prefix); !found {
			id = f.Inventory.ID(prefix)
		}
		return id, found
	}
	isIt := func(id inventory.ID) bool { return strings.HasPrefix(string(f.Inventory.Digest(id)), string(prefix)) }
	if at := slices.IndexFunc(r.Revisions, func(link inventory.Link) bool { return isIt(link.ID()) }); at >= 0 {
		return r.Revisions[at].ID(), true
	}
	if at := slices.IndexFunc(tagged(), isIt); at >= 0 {
		return tagged()[at], true
	}
	return f.Inventory.ID(prefix), false
}

func contains(sorted []inventory.ID, id inventory.ID) bool {
	_, found := slices.BinarySearch(sorted, id)
	return found
}

// holds returns Tag.Holds of a tag.
func (f Facts) holds(lists []*mark.ListRoots, view func() *mark.View, at inventory.TagPlace) func(protection int) bool {
	reached := sync.OnceValue(func() []inventory.ID {
		return view().Kept(f.Inventory.Repositories[at.Repository].Tags[at.Tag].Roots()...)
	})
	return func(protection int) bool { return lists[protection].HasAny(at.Repository, reached()) }
}

// add adds the judgement about a repository with this number of tags.
func (d *Decision) add(i, tags int, r repository, j Judgement) {
	if j.Skipped != "" {
		d.Skipped = append(d.Skipped, Skipped{r.Name, j.Skipped})
	}
	if r.Unreliable && slices.ContainsFunc(j.Verdicts, func(v Verdict) bool { return v.Reason == unreliable }) {
		d.Skipped = append(d.Skipped, Skipped{r.Name, "most of its tags were pushed within one hour, although their images were created further apart: the push times are those of a copy"})
	}
	for at, v := range j.Verdicts {
		if !v.Selected {
			continue
		}
		d.Tags = append(d.Tags, DecidedTag{r.places[at], v, r.Tags[at].Time})
		if v.Remove {
			if d.removed[i] == nil {
				d.removed[i] = make([]bool, tags)
			}
			d.removed[i][r.places[at].Tag] = true
		}
	}
}

// decideUntagged finds the untagged manifests that rules remove. It stats their links.
func (p *Policy) decideUntagged(ctx context.Context, f Facts, d *Decision) error {
	type link struct{ repository, at int }
	var links []link
	ages := make([]time.Duration, len(f.Inventory.Repositories))
	for i, r := range f.Inventory.Repositories {
		age, found := p.untaggedAge(r.Name)
		if !found || d.protected[i] {
			continue
		}
		ages[i] = age
		d.revisions[i] = make([]bool, len(r.Revisions))
		for at := range r.Revisions {
			if f.Live.Repositories[i].Revisions.At(at) == mark.Untagged {
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
		d.revisions[of.repository][of.at] = !object.ModTime.IsZero() && f.Now.Sub(object.ModTime) >= ages[of.repository]
		return nil
	})
}

// Roots returns the roots of a run that removes what the policy removes.
func (d *Decision) Roots() mark.Roots {
	roots := mark.Roots{
		Removed:   func(repository, tag int) bool { return d.removed[repository] != nil && d.removed[repository][tag] },
		Followers: func(repository int) []mark.Follower { return d.followers[repository] },
		Revision: func(repository, revision int) bool {
			switch cause := d.live.Repositories[repository].Revisions.At(revision); {
			case cause == mark.Tagged || cause == mark.UnlinkedChild: // a tag reaches it too
				return false
			case d.options.DeleteUntagged:
				return d.protected[repository]
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
