package policy

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

var now = time.Date(2026, 3, 31, 12, 0, 0, 0, time.UTC)

// evaluate is an independent evaluation of a policy: it decides about each tag alone, and counts for it how
// many other tags are newer.
func evaluate(p *Policy, of Repository, now time.Time) (removed map[string]bool, skipped bool) {
	isNewer := func(a, b Tag) bool { return a.Time.After(b.Time) || a.Time.Equal(b.Time) && a.Name > b.Name }
	rank := func(tag Tag, among func(Tag) bool) (n int) {
		for _, other := range of.Tags {
			if among(other) && isNewer(other, tag) {
				n++
			}
		}
		return n
	}
	// isNewestOf reports whether a tag is the newest of its period, and how many later periods have a tag.
	isNewestOf := func(tag Tag, among func(Tag) bool, period func(time.Time) string) (bool, int) {
		later, mine := map[string]bool{}, period(tag.Time.UTC())
		for _, other := range of.Tags {
			if !among(other) || other.Time.IsZero() || !isNewer(other, tag) {
				continue
			}
			if period(other.Time.UTC()) == mine {
				return false, 0
			}
			later[period(other.Time.UTC())] = true
		}
		return true, len(later)
	}
	parts := func(tag string) (numbers [3]int, prerelease string, isVersion bool) {
		text, rest, _ := strings.Cut(strings.TrimPrefix(tag, "v"), "-")
		fields := strings.Split(text, ".")
		if len(fields) != 3 {
			return numbers, "", false
		}
		for i, field := range fields {
			n, err := strconv.Atoi(field)
			if err != nil || strconv.Itoa(n) != field {
				return numbers, "", false
			}
			numbers[i] = n
		}
		return numbers, rest, true
	}
	keeps := func(r Rule, tag Tag) bool {
		selects := func(t Tag) bool { return r.Selects(of.Name, t.Name) }
		usesTimes := r.KeepLast+r.KeepHourly+r.KeepDaily+r.KeepWeekly+r.KeepMonthly+r.KeepYearly > 0 || r.KeepWithin+r.OlderThan > 0
		age := Age(now.Sub(tag.Time))
		if usesTimes {
			if of.Unreliable || tag.Time.IsZero() || rank(tag, selects) < int(r.KeepLast) || age < r.OlderThan || r.KeepWithin > 0 && age <= r.KeepWithin {
				return true
			}
			for i, period := range []func(time.Time) string{
				func(t time.Time) string { return fmt.Sprint(t.Truncate(time.Hour)) },
				func(t time.Time) string { return fmt.Sprint(t.Date()) },
				func(t time.Time) string { return fmt.Sprint(t.ISOWeek()) },
				func(t time.Time) string { return fmt.Sprint(t.Year(), t.Month()) },
				func(t time.Time) string { return fmt.Sprint(t.Year()) },
			} {
				most := []Count{r.KeepHourly, r.KeepDaily, r.KeepWeekly, r.KeepMonthly, r.KeepYearly}[i]
				if isNewest, later := isNewestOf(tag, selects, period); isNewest && later < int(most) {
					return true
				}
			}
		}
		if r.KeepSemver == nil {
			return false
		}
		mine, prerelease, _ := parts(tag.Name)
		higher, most := map[string]bool{}, r.KeepSemver.Last
		if prerelease != "" {
			most = r.KeepSemver.Prereleases
		}
		for _, other := range of.Tags {
			theirs, theirPrerelease, _ := parts(other.Name)
			if !selects(other) || (theirPrerelease == "") != (prerelease == "") {
				continue
			}
			if prerelease == "" && (r.KeepSemver.Per == "major" && theirs[0] != mine[0] || r.KeepSemver.Per == "minor" && [2]int(theirs[:2]) != [2]int(mine[:2])) {
				continue
			}
			if order := slices.Compare(theirs[:], mine[:]); order > 0 || order == 0 && theirPrerelease > prerelease {
				higher[strings.TrimPrefix(other.Name, "v")] = true
			}
		}
		return len(higher) < int(most)
	}
	removed = map[string]bool{}
	for _, tag := range of.Tags {
		selected, kept := false, rank(tag, func(Tag) bool { return true }) < int(p.Floor.KeepNewest)
		for _, r := range p.Rules {
			if r.Selects(of.Name, tag.Name) {
				selected = true
				kept = kept || keeps(r, tag)
			}
		}
		for i, entry := range p.Protect {
			kept = kept || entry.Repositories.match(of.Name) && entry.Tags.match(tag.Name) && (entry.Digests == "" || tag.Holds(i))
		}
		if selected && !kept {
			removed[tag.Name] = true
		}
	}
	if 1000000*len(removed) > int(p.Floor.MaxShare)*len(of.Tags) {
		return map[string]bool{}, true
	}
	return removed, false
}

// randomPolicy returns a policy whose rules use few of the keys at a time.
func randomPolicy(r *rand.Rand) *Policy {
	globs := func(all ...string) (p Patterns) {
		for _, text := range all {
			if r.IntN(3) == 0 {
				pattern, err := NewPattern(text)
				if err != nil {
					panic(err)
				}
				p = append(p, pattern)
			}
		}
		return p
	}
	few := func() Count {
		if r.IntN(4) > 0 {
			return 0
		}
		return Count(r.IntN(6))
	}
	age := func() Age {
		if r.IntN(4) > 0 {
			return 0
		}
		return Age(time.Duration(r.IntN(90*24)) * time.Hour)
	}
	p := &Policy{Floor: Floor{KeepNewest: Count(r.IntN(3)), MaxShare: Whole}}
	if r.IntN(3) == 0 {
		p.Floor.MaxShare = Share(r.IntN(100)) * Whole / 100
	}
	for n := range 1 + r.IntN(4) {
		rule := Rule{
			Name: fmt.Sprint("rule ", n), Repositories: globs("team/**", "base/*", "re:.*app"), Tags: globs("pr-*", "v*", "[0-9]*", "re:.*[05]"),
			KeepLast: few(), KeepWithin: age(), KeepHourly: few(), KeepDaily: few(), KeepWeekly: few(), KeepMonthly: few(), KeepYearly: few(), OlderThan: age(),
		}
		if r.IntN(4) == 0 {
			rule.KeepSemver = &Semver{Count(r.IntN(3)), []string{"", "major", "minor"}[r.IntN(3)], Count(r.IntN(3))}
		}
		if r.IntN(8) == 0 {
			rule.Untagged = &Untagged{}
		}
		p.Rules = append(p.Rules, rule)
	}
	for range r.IntN(3) {
		entry := Protection{Repositories: globs("team/app"), Tags: globs("*7", "v1.*")}
		if r.IntN(2) == 0 {
			entry.Digests = "list"
		}
		p.Protect = append(p.Protect, entry)
	}
	return p
}

func randomRepository(r *rand.Rand) Repository {
	of := Repository{Name: []string{"team/app", "base/image", "other"}[r.IntN(3)], Unreliable: r.IntN(8) == 0}
	seen := map[string]bool{}
	for range r.IntN(40) {
		name := []string{
			fmt.Sprint("pr-", r.IntN(50)), fmt.Sprintf("v%d.%d.%d", r.IntN(3), r.IntN(3), r.IntN(3)),
			fmt.Sprintf("%d.%d.%d", r.IntN(3), r.IntN(3), r.IntN(3)), fmt.Sprintf("1.%d.0-rc%d", r.IntN(2), r.IntN(9)), "1.2", "latest",
		}[r.IntN(6)]
		if seen[name] {
			continue
		}
		seen[name] = true
		// Few different times, so that some are equal.
		tag := Tag{Name: name, Time: now.Add(-time.Duration(r.IntN(200)) * 11 * time.Hour)}
		if r.IntN(20) == 0 {
			tag.Time = time.Time{}
		}
		held := r.IntN(4)
		tag.Holds = func(protection int) bool { return protection == held }
		of.Tags = append(of.Tags, tag)
	}
	return of
}

func TestVerdictsAreThoseOfAnIndependentEvaluation(t *testing.T) {
	sum := map[string]int{}
	for seed := range uint64(5000) {
		r := rand.New(rand.NewPCG(seed, 0))
		p, of := randomPolicy(r), randomRepository(r)
		got, again := p.Judge(of, now), p.Judge(of, now)
		want, skipped := evaluate(p, of, now)
		if skipped != (got.Skipped != "") {
			t.Fatalf("seed %d: skipped: %q, want %t", seed, got.Skipped, skipped)
		}
		for i, tag := range of.Tags {
			v := got.Verdicts[i]
			if v.Remove != want[tag.Name] {
				t.Fatalf("seed %d: %s: %+v, want removal %t\n%+v\n%+v", seed, tag.Name, v, want[tag.Name], p, of)
			}
			if v != again.Verdicts[i] || v.Selected != (v.Rule != "") || v.Remove != (v.Selected && v.Reason == "" && v.Rule != ByProtection) {
				t.Fatalf("seed %d: %s: the verdict is not whole: %+v", seed, tag.Name, v)
			}
			sum[v.Reason]++
		}
	}
	for _, reason := range []string{
		"keep-last", "keep-within", "keep-hourly", "keep-daily", "keep-weekly", "keep-monthly", "keep-yearly",
		"keep-semver", "older-than", "keep-newest", "max-share", "no time", "unreliable times", "",
	} {
		if sum[reason] < 50 {
			t.Errorf("%q decides about %d tags only", reason, sum[reason])
		}
	}
}
