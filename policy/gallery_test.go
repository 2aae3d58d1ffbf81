package policy

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// Each policy of docs/policies.md and docs/policies-from-others.md removes the tags that its heading promises. If a
// section has several policies, they run one after the other. The tags of a test are pushed one after the other,
// the first the longest ago.
func TestThePoliciesOfTheDocumentation(t *testing.T) {
	policies, count := map[string][]*Policy{}, 0
	for file, after := range map[string]string{"policies.md": "\n## Examples\n", "policies-from-others.md": "\n"} {
		content, err := os.ReadFile("../docs/" + file)
		if err != nil {
			t.Fatal(err)
		}
		_, examples, _ := strings.Cut(string(content), after)
		for _, section := range regexp.MustCompile("(?m)^##+ ").Split(examples, -1)[1:] {
			title, _, _ := strings.Cut(section, "\n")
			name, _, _ := strings.Cut(title, ":")
			for _, yaml := range regexp.MustCompile("(?ms)^```yaml\n(.*?)^```").FindAllStringSubmatch(section, -1) {
				p, err := Parse(title, []byte(yaml[1]))
				if err != nil {
					t.Fatal(err)
				}
				policies[name] = append(policies[name], p)
				count++
			}
		}
	}
	daily := func(format string, n int) (names []string) {
		for i := range n {
			names = append(names, fmt.Sprintf(format, i))
		}
		return names
	}
	for _, test := range []struct {
		policy, repository string
		every              time.Duration // between two pushes
		tags               []string
		held               string // the tag with a digest of a list
		removed            []string
	}{
		{"Pull requests", "team/app", 4 * 24 * time.Hour, append([]string{"latest"}, daily("pr-%02d", 12)...), "", []string{"pr-00", "pr-01"}},
		{"Builds of a CI", "team/app", 2 * 24 * time.Hour, daily("build-%d", 10), "", []string{"build-0", "build-1", "build-2"}},
		{"Both limits", "team/app", 24 * time.Hour, daily("pr-%d", 7), "", []string{"pr-0", "pr-1"}},             // seven young ones
		{"Both limits", "team/app", 9 * 24 * time.Hour, daily("pr-%d", 7), "", []string{"pr-0", "pr-1", "pr-2"}}, // one of the last five is old
		{"Both limits", "team/app", 9 * 24 * time.Hour, append(daily("pr-%d", 3), "latest"), "", nil},            // no limit is exceeded
		{"Releases by version", "team/app", time.Hour, []string{"1.0.0", "1.0.1", "1.0.2", "v1.0.3", "1.1.0", "2.0.0-rc.1", "2.0.0-rc.2", "2.0.0-rc.3", "1.0", "latest"}, "", []string{"1.0.0", "2.0.0-rc.1"}},
		{"Nightlies", "team/app", 24 * time.Hour, daily("nightly-%02d", 20), "", []string{
			"nightly-00", "nightly-01", "nightly-02", "nightly-04", "nightly-05", "nightly-06", "nightly-07", "nightly-08", "nightly-09", "nightly-11", "nightly-12",
		}},
		{"Teams", "interns/web", time.Hour, []string{"a", "b", "c", "d"}, "", []string{"a"}},
		{"Teams", "data/set", 10 * 24 * time.Hour, []string{"a", "b", "c", "d"}, "", []string{"a", "b"}},
		{"Teams", "data/set", 20 * 24 * time.Hour, []string{"a", "b", "c", "d"}, "", []string{"a", "b"}},
		{"Teams", "team/app", time.Hour, []string{"a", "b", "c", "d"}, "", nil},
		{"Everything but production", "team/app", 100 * 24 * time.Hour, []string{"latest", "a", "release-1", "b", "c"}, "", []string{"a"}},
		{"Everything but production", "prod/app", 100 * 24 * time.Hour, []string{"a", "b", "c", "d"}, "", nil},
		{"Images that no cluster runs", "team/app", 20 * 24 * time.Hour, []string{"a", "b", "c", "d", "e"}, "a", []string{"b", "c"}},
		{"Untagged manifests, after a week", "team/app", 100 * 24 * time.Hour, []string{"a", "b", "c"}, "", nil},
		{"A pull-through cache, by size", "library/nginx", 12 * time.Hour, daily("1.%d", 5), "", []string{"1.0", "1.1", "1.2"}},
		{"Mirrors", "mirror/app", 100 * 24 * time.Hour, daily("v%d", 8), "", []string{"v0", "v1", "v2"}},
		{"From Harbor", "project/app", time.Hour, append([]string{"latest"}, daily("build-%02d", 12)...), "", []string{"latest", "build-00", "build-01"}},
		{"From GitLab", "group/project", 50 * 24 * time.Hour, append([]string{"main", "stable-1", "latest"}, daily("job-%d", 7)...), "", []string{"job-0", "job-1"}},
		{"From ECR", "project/app", 12 * 24 * time.Hour, []string{"pr-0", "old", "pr-1", "pr-2", "young", "pr-3"}, "", []string{"old", "pr-0"}},
		{"From ECR", "project/app", time.Hour, []string{"pr-0", "young", "pr-1", "pr-2", "pr-3"}, "", []string{"pr-0"}},
		{"From ECR", "project/app", 40 * 24 * time.Hour, []string{"old", "pr-1", "pr-2", "pr-3"}, "", []string{"old"}},
	} {
		if policies[test.policy] == nil {
			t.Fatalf("there is no policy %q in %v", test.policy, policies)
		}
		of := Repository{Name: test.repository}
		for i, tag := range test.tags {
			pushed := now.Add(-time.Duration(len(test.tags)-1-i) * test.every)
			of.Tags = append(of.Tags, Tag{Name: tag, Time: pushed, Holds: func(int) bool { return tag == test.held }})
		}
		var removed []string
		for _, p := range policies[test.policy] {
			var left []Tag
			for i, v := range p.Judge(of, now).Verdicts {
				if v.Remove {
					removed = append(removed, of.Tags[i].Name)
				} else {
					left = append(left, of.Tags[i])
				}
			}
			of.Tags = left
		}
		if !slices.Equal(removed, test.removed) {
			t.Errorf("%s, of %s: %q is removed, want %q", test.policy, test.repository, removed, test.removed)
		}
	}
	if count != 12+4 {
		t.Errorf("there are %d examples", count)
	}
	if rule := policies["Untagged manifests, after a week"][0].untaggedRule("any"); rule == nil || rule.Untagged.OlderThan != Age(7*24*time.Hour) {
		t.Errorf("untagged manifests are removed by %+v", rule)
	}
}
