// Package policy decides which tags a run removes. Policy.Judge is pure: it gets the tags of a repository
// and their times, and returns a verdict for each tag. Policy.Decide reads configs and the times of links
// for it. Neither removes anything.
//
// A tag is removed if at least one rule selects it, no rule that selects it keeps it, nothing protects
// it, and the floor allows it. Keep beats remove, and no rule means keep.
package policy

import (
	"slices"
	"time"

	"regsweep/internal/pattern"
)

// Policy is a parsed file.
type Policy struct {
	Version int // 1
	Protect []Protection
	Rules   []Rule
	Floor   Floor
	Time    Basis
}

// Basis is the time by which the tags of a policy are ordered and aged.
type Basis string

const (
	// Pushed is the time at which a tag was last pushed: that of its current link.
	Pushed Basis = "pushed"
	// Created is the time in the config of the image. That of an index is the time of its newest image.
	Created Basis = "created"
)

// Protection keeps tags. A tag matches it if it matches all parts that are set.
type Protection struct {
	Repositories pattern.Patterns
	Tags         pattern.Patterns
	Digests      string // a file that lists images, "" for none
	Line         int    // the line of Digests in the policy; 0 without it
}

// Rule selects tags, keeps some of them, and removes the others.
type Rule struct {
	Name         string // Parse sets "rule 2" for the second rule if it has no name
	Repositories pattern.Patterns
	Tags         pattern.Patterns

	KeepLast    Count
	KeepWithin  Age
	KeepHourly  Count
	KeepDaily   Count
	KeepWeekly  Count
	KeepMonthly Count
	KeepYearly  Count
	KeepSemver  *Semver
	OlderThan   Age
	// Untagged is set if the rule removes untagged manifests that are older.
	Untagged *Untagged

	// Only, if set, limits the rule to some tags. It has no key in the file.
	Only func(repository, tag string) bool

	line int
}

// Semver keeps the highest versions.
type Semver struct {
	Last        Count
	Per         string // "major", "minor", or "" for all releases together
	Prereleases Count
}

// Untagged removes untagged manifests whose revision link is older.
type Untagged struct {
	OlderThan Age
}

// Floor bounds what the rules together remove from a repository.
type Floor struct {
	// KeepNewest is the number of newest tags that are always kept. It is 1 if the policy does not say.
	KeepNewest Count
	// MaxShare is the greatest share of the tags that may be removed. If the rules would remove more,
	// they remove nothing. It is Whole if the policy does not say.
	MaxShare Share
}

// Count is a number of tags.
type Count int

// Share is a part of a whole, in millionths.
type Share int

// Whole is the share of everything.
const Whole Share = 1e6

// Age is a duration. In a policy it may have days, such as 30d.
type Age time.Duration

// usesTimes reports whether a verdict of the rule depends on the times of tags.
func (r *Rule) usesTimes() bool {
	return r.KeepLast > 0 || r.KeepWithin > 0 || r.OlderThan > 0 || r.periods() != [len(periods)]Count{}
}

// Selects reports whether the rule selects a tag of a repository. A rule with untagged and without tags
// selects none, and a rule with keep-semver selects only full versions.
func (r *Rule) Selects(repository, tag string) bool {
	if r.Untagged != nil && r.Tags == nil || !r.Repositories.Select(repository) || !r.Tags.Select(tag) {
		return false
	}
	return (r.KeepSemver == nil || version(tag) != nil) && (r.Only == nil || r.Only(repository, tag))
}

// protectsAll reports whether an entry protects everything in a repository.
func (p *Policy) protectsAll(repository string) bool {
	return slices.ContainsFunc(p.Protect, func(of Protection) bool {
		return of.Tags == nil && of.Digests == "" && of.Repositories.Select(repository)
	})
}

// untaggedRule returns the rule that removes the untagged manifests of a repository. If several rules select the
// repository, it is the one with the longest age. It is nil if no rule does.
func (p *Policy) untaggedRule(repository string) (longest *Rule) {
	for i := range p.Rules {
		r := &p.Rules[i]
		if r.Untagged != nil && r.Repositories.Select(repository) && (longest == nil || r.Untagged.OlderThan > longest.Untagged.OlderThan) {
			longest = r
		}
	}
	return longest
}
