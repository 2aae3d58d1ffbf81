package policy

import (
	"fmt"
	"strings"

	"regsweep/internal/pattern"
)

// Untag returns a policy that removes the tags of some patterns: REPO:TAG-GLOB, or REPO-GLOB for everything in
// a repository. It has no floor. whole has the repository patterns of the second form.
func Untag(patterns []string) (p *Policy, whole pattern.Patterns, err error) {
	p = &Policy{Version: 1, Floor: Floor{MaxShare: Whole}, Time: Pushed}
	for _, text := range patterns {
		repository, tag := text, ""
		if at := strings.LastIndexByte(text, ':'); at > strings.LastIndexByte(text, '/') && !strings.HasPrefix(text, "re:") {
			repository, tag = text[:at], text[at+1:]
		}
		r := Rule{Name: text}
		if r.Repositories, err = patternsOf(repository); err != nil {
			return nil, nil, fmt.Errorf("%q: %w", text, err)
		}
		if repository == text {
			whole = append(whole, r.Repositories...)
			p.Rules = append(p.Rules, Rule{Name: text, Repositories: r.Repositories, Untagged: &Untagged{}})
		} else if r.Tags, err = patternsOf(tag); err != nil {
			return nil, nil, fmt.Errorf("%q: %w", text, err)
		}
		p.Rules = append(p.Rules, r)
	}
	return p, whole, nil
}

// Holding returns rules for the tags that hold a digest, among those that rules of Untag select. Without such a rule
// it is among all tags. They never select untagged manifests.
func Holding(digest string, rules []Rule, holds func(repository, tag string) bool) (narrowed []Rule) {
	if len(rules) == 0 {
		return []Rule{{Name: "holding " + digest, Only: holds}}
	}
	for _, r := range rules {
		if r.Untagged == nil {
			narrowed = append(narrowed, Rule{Name: r.Name + " holding " + digest, Repositories: r.Repositories, Tags: r.Tags, Only: holds})
		}
	}
	return narrowed
}

func patternsOf(text string) (pattern.Patterns, error) {
	p, err := pattern.New(text)
	return pattern.Patterns{p}, err
}
