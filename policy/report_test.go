package policy

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"
)

// reported has n tags of a repository, of which the first few are removed.
func reported(repository string, n, removed int) (tags []TagReport) {
	for i := range n {
		tag := TagReport{Repository: repository, Tag: fmt.Sprintf("pr-%04d", i), Pushed: now.Add(-time.Duration(i) * time.Hour), Verdict: "keep", Rule: "pull requests", Reason: "keep-last", Bytes: 2048}
		if i < removed {
			tag.Verdict, tag.Reason = "remove", ""
		}
		tags = append(tags, tag)
	}
	return tags
}

// A short list has every tag with its verdict, rule, time and bytes, in 80 columns.
func TestAShortListHasEveryTag(t *testing.T) {
	tags := reported("team/app", 2, 1)
	tags = append(tags,
		TagReport{Repository: "team/app", Tag: "sha256-" + strings.Repeat("0", 64) + ".sig", Verdict: "remove", Rule: BySubject},
		TagReport{Repository: "team/web", Tag: "pr-7", Verdict: "keep", Rule: ByFloor, Reason: "keep-newest"})
	var text bytes.Buffer
	WriteVerdicts(&text, &Report{File: "policy.yml", Skipped: []Skipped{{"team/old", "max-share is 50%"}}, Untagged: []UntaggedCount{{"leftovers", 2, 5}}}, tags, 80)
	const want = `
policy.yml removes 2 tags of 1 repository. It keeps 2 tags that its rules
select.
The rule leftovers removes 5 untagged manifests of 2 repositories.

Tag                  RULE                      TIME (UTC)        FREES ALONE
  team/app
    pr-0000  remove  pull requests             2026-03-31 12:00      2.0 KiB
    pr-0001  keep    pull requests: keep-last  2026-03-31 11:00
    and 1 tag for their signatures and other referrers
  team/web
    pr-7     keep    floor: keep-newest        not known
team/old is left alone: max-share is 50%.
`
	if text.String() != want {
		t.Errorf("got\n%s\nwant\n%s", text.String(), want)
	}
}

// A long list has what changes, and counts the rest.
func TestALongListFoldsToWhatChanges(t *testing.T) {
	var many []TagReport
	for i := range 30 {
		many = append(many, reported(fmt.Sprintf("team/%02d", i), 5, 2)...)
	}
	for _, test := range []struct {
		tags  []TagReport
		lines int // at most
		want  []string
	}{
		{reported("team/app", 3000, 2900), 30, []string{"removes 2,900 tags of 1 repository. It keeps 100 tags", "and 2,880 more: see --json", "and 100 tags are kept"}},
		{reported("team/app", 101, 100), 30, []string{"and 1 tag is kept"}},
		{reported("team/app", 3000, 0), 3, []string{"removes no tag. It keeps the 3,000 tags"}},
		{nil, 3, []string{"selects no tag."}},
		{append(many, reported("unchanged", 7, 0)...), 90, []string{"removes 60 tags of 30 repositories", "and 3 tags are kept", "And 20 removed tags of 10 other repositories: see --json.", "1 other repository loses no tag."}},
	} {
		var text bytes.Buffer
		WriteVerdicts(&text, &Report{File: "p.yml"}, test.tags, 80)
		for _, want := range test.want {
			if !strings.Contains(text.String(), want) {
				t.Errorf("%q is not in\n%s", want, text.String())
			}
		}
		if n := strings.Count(text.String(), "\n"); n > test.lines {
			t.Errorf("%d lines:\n%s", n, text.String())
		}
		for line := range strings.Lines(text.String()) {
			if len(line) > 81 {
				t.Errorf("a line is too long: %q", line)
			}
		}
	}
}
