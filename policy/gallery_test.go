package policy

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// Each policy of docs/policies.md removes the tags that its heading promises. The tags of a test are pushed one
// after the other, the first the longest ago.
func TestThePoliciesOfTheDocumentation(t *testing.T) {
	content, err := os.ReadFile("../docs/policies.md")
	if err != nil {
		t.Fatal(err)
	}
	_, examples, _ := strings.Cut(string(content), "\n## Examples\n")
	gallery, others, _ := strings.Cut(examples, "\n## From other tools\n")
	policies := map[string]*Policy{}
	for _, text := range []string{gallery, others} {
		for _, section := range strings.Split(text, "\n### ")[1:] {
			title, _, _ := strings.Cut(section, "\n")
			_, yaml, found := strings.Cut(section, "```yaml\n")
			if !found {
				continue // a table of words alone
			}
			yaml, _, _ = strings.Cut(yaml, "```")
			p, err := Parse(title, []byte(yaml))
			if err != nil {
				t.Fatal(err)
			}
			name, _, _ := strings.Cut(title, ":")
			policies[name] = p
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
	} {
		p := policies[test.policy]
		if p == nil {
			t.Fatalf("there is no policy %q in %v", test.policy, policies)
		}
		of := Repository{Name: test.repository}
		for i, tag := range test.tags {
			pushed := now.Add(-time.Duration(len(test.tags)-1-i) * test.every)
			of.Tags = append(of.Tags, Tag{Name: tag, Time: pushed, Holds: func(int) bool { return tag == test.held }})
		}
		var removed []string
		for i, v := range p.Judge(of, now).Verdicts {
			if v.Remove {
				removed = append(removed, test.tags[i])
			}
		}
		if !slices.Equal(removed, test.removed) {
			t.Errorf("%s, of %s: %q is removed, want %q", test.policy, test.repository, removed, test.removed)
		}
	}
	if len(policies) != 10+2 {
		t.Errorf("there are %d examples", len(policies))
	}
	if age, found := policies["Untagged manifests, after a week"].untaggedAge("any"); !found || age != 7*24*time.Hour {
		t.Errorf("untagged manifests are removed after %v, %t", age, found)
	}
}
