package policy

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// This file evaluates policies once more, as docs/policies.md says. It uses nothing of the package: no parser, no
// pattern, no order of tags. It decides about each tag alone, and counts for it how many other tags are newer.

// testPolicy is a policy before it is written.
type testPolicy struct {
	protect []testEntry
	rules   []testRule
	newest  int // -1 for none
	share   int // in percent, -1 for none
	created bool
}

type testEntry struct {
	repositories, tags []string // keys of testPatterns; nil for none
	list               bool
}

type testRule struct {
	name               string
	repositories, tags []string
	counts             map[string]int           // keep-last, keep-hourly …
	ages               map[string]time.Duration // keep-within, older-than
	semver             *testSemver
	untagged           time.Duration // -1 for none
}

type testSemver struct {
	last, prereleases int
	per               string
}

// testTag is a tag and what is known about it.
type testTag struct {
	name    string
	time    time.Time // zero if it is not known
	isYoung bool
	holds   map[int]bool // the entries of protect whose digests it reaches
}

// testPatterns are all patterns of random policies, and what they match.
var testPatterns = map[string]func(string) bool{
	"team/**":      func(s string) bool { return strings.HasPrefix(s, "team/") },
	"*/*":          func(s string) bool { return strings.Count(s, "/") == 1 },
	"{base,other}": func(s string) bool { return s == "base" || s == "other" },
	"re:.*(app|x)": func(s string) bool { return strings.HasSuffix(s, "app") || strings.HasSuffix(s, "x") },
	"team":         func(s string) bool { return s == "team" },
	"pr-*":         func(s string) bool { return strings.HasPrefix(s, "pr-") },
	"v*":           func(s string) bool { return strings.HasPrefix(s, "v") },
	"[0-9]*":       func(s string) bool { return s[0] >= '0' && s[0] <= '9' },
	"*":            func(string) bool { return true },
	"re:.*[05]":    func(s string) bool { return strings.HasSuffix(s, "0") || strings.HasSuffix(s, "5") },
	"*7":           func(s string) bool { return strings.HasSuffix(s, "7") },
	"v1.*":         func(s string) bool { return strings.HasPrefix(s, "v1.") },
	"latest":       func(s string) bool { return s == "latest" },
}

func matchesAny(of []string, name string) bool {
	return of == nil || slices.ContainsFunc(of, func(pattern string) bool { return testPatterns[pattern](name) })
}

// source returns the policy in YAML.
func (p testPolicy) source() string {
	var out strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&out, format+"\n", args...) }
	selects := func(repositories, tags []string) {
		if repositories != nil {
			line("    repositories: [%s]", quote(repositories))
		}
		if tags != nil {
			line("    tags: [%s]", quote(tags))
		}
	}
	line("version: 1\nprotect:%s", map[bool]string{true: " []"}[len(p.protect) == 0])
	for i, entry := range p.protect {
		line("  -")
		selects(entry.repositories, entry.tags)
		if entry.list {
			line("    digests: list%d", i)
		}
	}
	line("rules:")
	for _, r := range p.rules {
		line("  - name: %s", r.name)
		selects(r.repositories, r.tags)
		for key, n := range r.counts {
			line("    %s: %d", key, n)
		}
		for key, age := range r.ages {
			line("    %s: %s", key, age)
		}
		if s := r.semver; s != nil {
			per := ""
			if s.per != "" {
				per = ", per: " + s.per
			}
			line("    keep-semver: {last: %d, prereleases: %d%s}", s.last, s.prereleases, per)
		}
		if r.untagged >= 0 {
			line("    untagged: {older-than: %s}", r.untagged)
		}
	}
	line("floor: {%s}", strings.Join(slices.DeleteFunc([]string{
		fmt.Sprint("keep-newest: ", p.newest), fmt.Sprint("max-share: ", p.share, "%"),
	}, func(s string) bool { return strings.Contains(s, "-1") }), ", "))
	line("time: %s", map[bool]string{true: "created", false: "pushed"}[p.created])
	return out.String()
}

func quote(texts []string) string {
	quoted := make([]string, len(texts))
	for i, text := range texts {
		quoted[i] = strconv.Quote(text)
	}
	return strings.Join(quoted, ", ")
}

func (r testRule) usesTimes() bool {
	for _, n := range r.counts {
		if n > 0 {
			return true
		}
	}
	return r.ages["keep-within"] > 0 || r.ages["older-than"] > 0
}

var testVersion = regexp.MustCompile(`^v?(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)(?:-([0-9A-Za-z.-]+))?$`)

// versionOf returns the numbers and the prerelease of a version, or nil.
func versionOf(tag string) (parts []string) {
	if parts = testVersion.FindStringSubmatch(tag); parts != nil {
		return parts[1:]
	}
	return nil
}

// compareVersions compares as https://semver.org says.
func compareVersions(a, b []string) int {
	number := func(text string) int { n, _ := strconv.Atoi(text); return n }
	for i := range 3 {
		if c := cmp.Compare(number(a[i]), number(b[i])); c != 0 {
			return c
		}
	}
	if a[3] == "" || b[3] == "" {
		return cmp.Compare(b[3], a[3]) // "" is the release, and the higher one
	}
	isNumber := func(text string) bool { return strings.Trim(text, "0123456789") == "" }
	x, y := strings.Split(a[3], "."), strings.Split(b[3], ".")
	for i := range min(len(x), len(y)) {
		c := cmp.Compare(x[i], y[i])
		switch {
		case isNumber(x[i]) && isNumber(y[i]):
			c = cmp.Compare(number(x[i]), number(y[i]))
		case isNumber(x[i]):
			c = -1
		case isNumber(y[i]):
			c = 1
		}
		if c != 0 {
			return c
		}
	}
	return cmp.Compare(len(x), len(y))
}

// testPeriods number the periods of a time.
var testPeriods = map[string]func(time.Time) int64{
	"keep-hourly":  func(t time.Time) int64 { return t.Unix() / 3600 },
	"keep-daily":   func(t time.Time) int64 { return t.Unix() / 86400 },
	"keep-weekly":  func(t time.Time) int64 { return (t.Unix()/86400 + 3) / 7 }, // 1970 began on a Thursday
	"keep-monthly": func(t time.Time) int64 { return int64(t.UTC().Year()*12) + int64(t.UTC().Month()) },
	"keep-yearly":  func(t time.Time) int64 { return int64(t.UTC().Year()) },
}

func (r testRule) selects(repository, tag string) bool {
	return !(r.untagged >= 0 && r.tags == nil) && matchesAny(r.repositories, repository) && matchesAny(r.tags, tag) &&
		(r.semver == nil || versionOf(tag) != nil)
}

// keeps reports whether a rule keeps a tag that it selects.
func (r testRule) keeps(repository string, tag testTag, tags []testTag, isUnreliable bool, now time.Time) bool {
	if r.usesTimes() {
		if isUnreliable || tag.time.IsZero() {
			return true
		}
		newer := 0
		newerIn, isNewest := map[string]map[int64]bool{}, map[string]bool{}
		for key := range testPeriods {
			newerIn[key], isNewest[key] = map[int64]bool{}, true
		}
		for _, other := range tags {
			if !r.selects(repository, other.name) || !isNewer(other, tag) {
				continue
			}
			newer++
			for key, period := range testPeriods {
				if newerIn[key][period(other.time)] = true; period(other.time) == period(tag.time) {
					isNewest[key] = false
				}
			}
		}
		if newer < r.counts["keep-last"] || now.Sub(tag.time) < r.ages["older-than"] || r.ages["keep-within"] > 0 && now.Sub(tag.time) <= r.ages["keep-within"] {
			return true
		}
		for key := range testPeriods {
			if isNewest[key] && len(newerIn[key]) < r.counts[key] {
				return true
			}
		}
	}
	if r.semver == nil {
		return false
	}
	mine, most := versionOf(tag.name), r.semver.last
	if mine[3] != "" {
		most = r.semver.prereleases
	}
	var higher [][]string // different versions
	for _, other := range tags {
		if !r.selects(repository, other.name) {
			continue
		}
		theirs := versionOf(other.name)
		isSame := func(a []string) bool { return compareVersions(a, theirs) == 0 }
		switch {
		case (theirs[3] == "") != (mine[3] == ""):
		case mine[3] == "" && r.semver.per != "" && theirs[0] != mine[0]:
		case mine[3] == "" && r.semver.per == "minor" && theirs[1] != mine[1]:
		case compareVersions(theirs, mine) > 0 && !slices.ContainsFunc(higher, isSame):
			higher = append(higher, theirs)
		}
	}
	return len(higher) < most
}

// isNewer reports whether a is newer than b. A time that is not known is the oldest.
func isNewer(a, b testTag) bool {
	return a.time.After(b.time) || a.time.Equal(b.time) && a.name > b.name
}

// evaluate returns the verdicts about the tags of a repository: "" for a tag that no rule selects, or remove or
// keep, and the rule. isSkipped reports whether max-share keeps them.
func (p testPolicy) evaluate(repository string, tags []testTag, isUnreliable bool, now time.Time) (verdicts map[string]string, isSkipped bool) {
	verdicts = map[string]string{}
	var removed []string
	for _, tag := range tags {
		newer, selecting, keeping := 0, "", ""
		for _, other := range tags {
			if isNewer(other, tag) {
				newer++
			}
		}
		for _, r := range p.rules {
			if !r.selects(repository, tag.name) {
				continue
			}
			if selecting == "" {
				selecting = r.name
			}
			if keeping == "" && r.keeps(repository, tag, tags, isUnreliable, now) {
				keeping = r.name
			}
		}
		isProtected := false
		for i, entry := range p.protect {
			isProtected = isProtected || matchesAny(entry.repositories, repository) && matchesAny(entry.tags, tag.name) && (!entry.list || tag.holds[i])
		}
		newest := p.newest
		if newest < 0 {
			newest = 1
		}
		switch {
		case selecting == "":
		case isProtected:
			verdicts[tag.name] = "keep protect"
		case keeping != "":
			verdicts[tag.name] = "keep " + keeping
		case newer < newest:
			verdicts[tag.name] = "keep floor"
		case tag.isYoung:
			verdicts[tag.name] = "keep min-age"
		default:
			verdicts[tag.name] = "remove " + selecting
			removed = append(removed, tag.name)
		}
	}
	if isSkipped = p.share >= 0 && len(removed)*100 > p.share*len(tags); isSkipped {
		for _, name := range removed {
			verdicts[name] = "keep floor"
		}
	}
	return verdicts, isSkipped
}

// randomPolicy returns a valid policy whose rules use few of the keys at a time.
func randomPolicy(r *rand.Rand) testPolicy {
	some := func(all ...string) (chosen []string) {
		for _, text := range all {
			if r.IntN(4) == 0 {
				chosen = append(chosen, text)
			}
		}
		return chosen
	}
	p := testPolicy{newest: r.IntN(4) - 1, share: -1}
	if r.IntN(3) == 0 {
		p.share = r.IntN(101)
	}
	for n := range 1 + r.IntN(4) {
		rule := testRule{
			name: fmt.Sprint("rule-", n), repositories: some("team/**", "*/*", "re:.*(app|x)", "{base,other}", "team"),
			tags: some("pr-*", "v*", "[0-9]*", "re:.*[05]"), counts: map[string]int{}, ages: map[string]time.Duration{}, untagged: -1,
		}
		for _, key := range []string{"keep-last", "keep-hourly", "keep-daily", "keep-weekly", "keep-monthly", "keep-yearly"} {
			if r.IntN(5) == 0 {
				rule.counts[key] = r.IntN(6)
			}
		}
		for _, key := range []string{"keep-within", "older-than"} {
			if r.IntN(5) == 0 {
				rule.ages[key] = time.Duration(r.IntN(100)*11) * time.Hour
			}
		}
		if r.IntN(4) == 0 {
			rule.semver = &testSemver{r.IntN(3), r.IntN(3), []string{"", "major", "minor"}[r.IntN(3)]}
			rule.tags = some("v*", "[0-9]*", "re:.*[05]")
		}
		if r.IntN(6) == 0 {
			rule.untagged = time.Duration(r.IntN(100)*11) * time.Hour
			if rule.tags == nil {
				rule.counts, rule.ages, rule.semver = nil, nil, nil
			}
		}
		if rule.untagged < 0 && rule.repositories == nil && rule.tags == nil && rule.semver == nil && !rule.usesTimes() {
			rule.tags = []string{"*"}
		}
		p.rules = append(p.rules, rule)
	}
	for range r.IntN(3) {
		entry := testEntry{repositories: some("team/**", "{base,other}"), tags: some("*7", "v1.*", "latest"), list: r.IntN(2) == 0}
		if entry.repositories == nil && entry.tags == nil {
			entry.list = true
		}
		p.protect = append(p.protect, entry)
	}
	return p
}

// randomTagName returns a name of few. Some are nearly versions.
func randomTagName(r *rand.Rand) string {
	return []string{
		fmt.Sprint("pr-", r.IntN(50)), fmt.Sprintf("v%d.%d.%d", r.IntN(3), r.IntN(3), r.IntN(12)),
		fmt.Sprintf("%d.%d.%d", r.IntN(3), r.IntN(3), r.IntN(12)), fmt.Sprintf("%d.0.0-rc%d", r.IntN(3), r.IntN(12)),
		fmt.Sprintf("%s1.%d.0-rc.%d", []string{"", "v"}[r.IntN(2)], r.IntN(2), r.IntN(12)), "1.0.0-beta", "1.0.0-7", "1.2", "01.2.3", "V1.2.3", "1.2.3.4", "v1.2.x", "latest",
	}[r.IntN(13)]
}
