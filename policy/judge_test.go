package policy

import (
	"math/rand/v2"
	"testing"
	"time"
)

var now = time.Date(2026, 3, 31, 12, 0, 0, 0, time.UTC)

func TestVerdictsAreThoseOfAnIndependentEvaluation(t *testing.T) {
	reasons, rules := map[string]int{}, map[string]int{}
	n := fewer(3000)
	for seed := range uint64(n) {
		r := rand.New(rand.NewPCG(seed, 0))
		spec := randomPolicy(r)
		p, err := Parse("policy.yml", []byte(spec.source()))
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, spec.source())
		}
		of, tags := randomRepository(r, len(spec.protect))
		got, again := p.Judge(of, now), p.Judge(of, now)
		want, isSkipped := spec.evaluate(of.Name, tags, of.Unreliable, now)
		if isSkipped != (got.Skipped != "") {
			t.Fatalf("seed %d: skipped: %q, want %t\n%s", seed, got.Skipped, isSkipped, spec.source())
		}
		for i, tag := range of.Tags {
			v := got.Verdicts[i]
			if text := verdictText(v); text != want[tag.Name] || v != again.Verdicts[i] {
				t.Fatalf("seed %d: %s: %q, want %q\n%+v\n%s\n%+v", seed, tag.Name, text, want[tag.Name], v, spec.source(), of)
			}
			reasons[v.Reason]++
			rules[v.Rule]++
		}
	}
	for _, reason := range []string{
		"keep-last", "keep-within", "keep-hourly", "keep-daily", "keep-weekly", "keep-monthly", "keep-yearly",
		"keep-semver", "older-than", "keep-newest", "max-share", "no time", "unreliable times", "",
	} {
		if reasons[reason] < n/150 {
			t.Errorf("%q decides about %d tags only", reason, reasons[reason])
		}
	}
	for _, rule := range []string{"rule-0", "rule-1", ByProtection, ByFloor, ByAge, ""} {
		if rules[rule] < n/15 {
			t.Errorf("%q decides about %d tags only", rule, rules[rule])
		}
	}
}

// fewer returns a tenth of a number of random cases with -short.
func fewer(n int) int {
	if testing.Short() {
		return n / 10
	}
	return n
}

// verdictText returns a verdict in the form of an evaluation.
func verdictText(v Verdict) string {
	switch {
	case v.Remove:
		return "remove " + v.Rule
	case v.Selected:
		return "keep " + v.Rule
	}
	return v.Rule
}

func randomRepository(r *rand.Rand, protections int) (of Repository, tags []testTag) {
	of = Repository{Name: []string{"team/app", "team", "base", "other", "a/b/x"}[r.IntN(5)], Unreliable: r.IntN(8) == 0}
	// The times end in a new year, or now. Some are in the future.
	end := []time.Time{now, time.Date(2026, 1, 4, 23, 0, 0, 0, time.UTC)}[r.IntN(2)]
	step := []time.Duration{17 * time.Minute, 11 * time.Hour, 11 * 24 * time.Hour}[r.IntN(3)]
	zone := []*time.Location{time.UTC, time.FixedZone("", 9*3600), time.FixedZone("", -11*3600)}[r.IntN(3)]
	seen := map[string]bool{}
	for range r.IntN(40) {
		name := randomTagName(r)
		if seen[name] {
			continue
		}
		seen[name] = true
		// Few different times, so that some are equal.
		tag := testTag{name: name, time: end.Add(time.Duration(r.IntN(60)-55) * step).In(zone), isYoung: r.IntN(10) == 0, holds: map[int]bool{}}
		if r.IntN(20) == 0 {
			tag.time = time.Time{}
		}
		for i := range protections {
			tag.holds[i] = r.IntN(5) == 0
		}
		tags = append(tags, tag)
		of.Tags = append(of.Tags, Tag{
			Name: name, Time: tag.time, IsYoung: tag.isYoung, Holds: func(protection int) bool { return tag.holds[protection] },
		})
	}
	return of, tags
}
