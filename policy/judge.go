package policy

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/Masterminds/semver/v3"
)

// Repository is what a policy needs to know about a repository.
type Repository struct {
	Name string
	// Tags are in any order. Tags that follow a subject are left out: see Subject.
	Tags []Tag
	// Unreliable is set if the times of its tags say nothing about their order. Then rules that use
	// times remove nothing.
	Unreliable bool
}

// Tag is a tag of a repository.
type Tag struct {
	Name string
	// Time is the time that the policy's Basis asks for. It is zero if it is not known. Then rules
	// that use times keep the tag.
	Time time.Time
	// Holds reports by the index of a Protection whether the tag reaches one of its digests. It is
	// only called for one with Digests.
	Holds func(protection int) bool
	// IsLeft is set if only an interrupted run can have left the tag like this: neither its revision nor the entry
	// in its index exists. Then Repository.Unreliable does not keep it.
	IsLeft bool
	// IsYoung is set if the tag was pushed less than Options.MinAge ago.
	IsYoung bool
}

// Verdict is what a policy decides about a tag.
type Verdict struct {
	// Selected is set if a rule selects the tag.
	Selected bool
	// Remove is set if the tag is removed. If a rule removes it, it is selected.
	Remove bool
	// Rule is the name of the rule that decides: the first that keeps the tag, or else the first that
	// selects it. It is one of the constants By…, or "" for a tag that is kept and that no rule selects.
	Rule string
	// Reason is the key of the rule that keeps the tag, such as "keep-last".
	Reason string
}

// The values of Verdict.Rule that are not names of rules.
const (
	ByProtection = "protect"
	ByFloor      = "floor"
	ByAge        = "min-age" // the tag is younger than Options.MinAge
	ByDamage     = "damage"  // damage keeps the repository
	ByFree       = "free"    // Spare keeps it

	BySubject = "subject" // it follows a subject that the run removes
	ByOrphan  = "orphan"  // it follows a subject that was gone before
	ByRoots   = "roots"   // no root reaches its manifest: see Options.OnlyLists
)

// reserved are these values: no rule has such a name.
var reserved = []string{ByProtection, ByFloor, ByAge, ByDamage, ByFree, BySubject, ByOrphan, ByRoots}

// Judgement has the verdicts about a repository.
type Judgement struct {
	Verdicts []Verdict // in the order of Repository.Tags
	// Skipped says why nothing is removed although rules would remove tags. It is "" otherwise.
	Skipped string
}

// Judge returns the verdicts about a repository at a time. It does not change the policy.
func (p *Policy) Judge(of Repository, now time.Time) Judgement {
	j := Judgement{Verdicts: make([]Verdict, len(of.Tags))}
	newest := byTime(of.Tags)
	for i := range p.Rules {
		p.Rules[i].judge(of, newest, now, j.Verdicts)
	}
	kept := map[int]bool{}
	for _, at := range newest[:min(int(p.Floor.KeepNewest), len(newest))] {
		kept[at] = true
	}
	removed := 0
	for at := range j.Verdicts {
		v := &j.Verdicts[at]
		switch {
		case v.Selected && p.protects(of.Name, of.Tags[at]):
			v.Remove, v.Rule, v.Reason = false, ByProtection, ""
		case v.Remove && kept[at]:
			v.Remove, v.Rule, v.Reason = false, ByFloor, "keep-newest"
		case v.Remove && of.Tags[at].IsYoung:
			v.Remove, v.Rule, v.Reason = false, ByAge, ""
		case v.Remove:
			removed++
		}
	}
	if removed*int(Whole) <= int(p.Floor.MaxShare)*len(of.Tags) {
		return j
	}
	j.Skipped = fmt.Sprintf("the rules would remove %d of %d tags, and max-share is %g%%", removed, len(of.Tags), 100*float64(p.Floor.MaxShare)/float64(Whole))
	for at := range j.Verdicts {
		if v := &j.Verdicts[at]; v.Remove {
			v.Remove, v.Rule, v.Reason = false, ByFloor, "max-share"
		}
	}
	return j
}

// unreliable is the Verdict.Reason of a tag that is kept because of Repository.Unreliable.
const unreliable = "unreliable times"

// byTime returns the indexes of tags, the newest first. Of two with the same time, the one whose name sorts
// last is the newer one.
func byTime(tags []Tag) []int {
	order := make([]int, len(tags))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(tags[b].Time.Compare(tags[a].Time), cmp.Compare(tags[b].Name, tags[a].Name))
	})
	return order
}

// protects reports whether an entry of the policy protects a tag.
func (p *Policy) protects(repository string, tag Tag) bool {
	for i, of := range p.Protect {
		if of.Repositories.Select(repository) && of.Tags.Select(tag.Name) && (of.Digests == "" || tag.Holds(i)) {
			return true
		}
	}
	return false
}

// judge adds the verdicts of one rule. newest has the indexes of all tags, the newest first.
func (r *Rule) judge(of Repository, newest []int, now time.Time, verdicts []Verdict) {
	selected := slices.DeleteFunc(slices.Clone(newest), func(at int) bool { return !r.Selects(of.Name, of.Tags[at].Name) })
	kept := map[int]string{} // the first reason of each
	keep := func(at int, reason string) {
		if kept[at] == "" {
			kept[at] = reason
		}
	}
	seen := [len(periods)]map[string]bool{}
	timed := selected
	if !r.usesTimes() {
		timed = nil
	}
	for nth, at := range timed {
		t := of.Tags[at].Time
		switch age := Age(now.Sub(t)); {
		case of.Unreliable && !of.Tags[at].IsLeft:
			keep(at, unreliable)
			continue
		case t.IsZero():
			keep(at, "no time")
			continue
		case nth < int(r.KeepLast):
			keep(at, "keep-last")
		case r.KeepWithin > 0 && age <= r.KeepWithin:
			keep(at, "keep-within")
		case age < r.OlderThan:
			keep(at, "older-than")
		}
		for i, most := range r.periods() {
			if key := periods[i].of(t.UTC()); len(seen[i]) < int(most) && !seen[i][key] {
				if seen[i] == nil {
					seen[i] = map[string]bool{}
				}
				seen[i][key] = true
				keep(at, periods[i].key)
			}
		}
	}
	for _, at := range r.KeepSemver.keeps(of.Tags, selected) {
		keep(at, "keep-semver")
	}
	for _, at := range selected {
		v := &verdicts[at]
		reason, isKept := kept[at]
		switch isFirst := !v.Selected; {
		case isKept && (isFirst || v.Remove):
			*v = Verdict{Selected: true, Rule: r.Name, Reason: reason}
		case isFirst:
			*v = Verdict{Selected: true, Remove: true, Rule: r.Name}
		}
	}
}

// periods are the keys that keep the newest tag of each period, and the periods of a time in UTC.
var periods = [...]struct {
	key string
	of  func(time.Time) string
}{
	{"keep-hourly", func(t time.Time) string { return t.Format("2006-01-02T15") }},
	{"keep-daily", func(t time.Time) string { return t.Format(time.DateOnly) }},
	{"keep-weekly", func(t time.Time) string { year, week := t.ISOWeek(); return fmt.Sprint(year, "W", week) }},
	{"keep-monthly", func(t time.Time) string { return t.Format("2006-01") }},
	{"keep-yearly", func(t time.Time) string { return t.Format("2006") }},
}

// periods returns the numbers of the rule for periods.
func (r *Rule) periods() [len(periods)]Count {
	return [...]Count{r.KeepHourly, r.KeepDaily, r.KeepWeekly, r.KeepMonthly, r.KeepYearly}
}

// version returns the full version that a tag is, with or without a v before it, or nil.
func version(tag string) *semver.Version {
	if tag != "" && tag[0] == 'v' {
		tag = tag[1:]
	}
	v, err := semver.StrictNewVersion(tag)
	if err != nil {
		return nil
	}
	return v
}

// keeps returns those of the selected tags that are among the highest versions. Two tags for the same
// version, such as 1.2.3 and v1.2.3, count as one.
func (s *Semver) keeps(tags []Tag, selected []int) (kept []int) {
	if s == nil {
		return nil
	}
	versions := map[int]*semver.Version{}
	for _, at := range selected {
		versions[at] = version(tags[at].Name)
	}
	highest := slices.SortedFunc(slices.Values(selected), func(a, b int) int { return versions[b].Compare(versions[a]) })
	type group struct{ major, minor, isPrerelease uint64 }
	count, last := map[group]Count{}, map[group]*semver.Version{}
	for _, at := range highest {
		v, g, most := versions[at], group{}, s.Last
		if v.Prerelease() != "" {
			g.isPrerelease, most = 1, s.Prereleases
		} else if s.Per != "" {
			if g.major = v.Major(); s.Per == "minor" {
				g.minor = v.Minor()
			}
		}
		if last[g] == nil || !v.Equal(last[g]) {
			last[g] = v
			count[g]++
		}
		if count[g] <= most {
			kept = append(kept, at)
		}
	}
	return kept
}
