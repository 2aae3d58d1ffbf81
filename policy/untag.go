package policy

import (
	"fmt"
	"strings"

	"regsweep/internal/pattern"
	"regsweep/inventory"
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

func patternsOf(text string) (pattern.Patterns, error) {
	p, err := pattern.New(text)
	return pattern.Patterns{p}, err
}

// RuleCount says how many tags of how many repositories a rule selects.
type RuleCount struct {
	Rule         string `json:"rule"`
	Tags         int    `json:"tags"`
	Repositories int    `json:"repositories"`
	// Untagged is the number of repositories whose untagged manifests the rule selects.
	Untagged int `json:"untagged"`
}

// Count counts what each rule selects.
func (p *Policy) Count(inv *inventory.Inventory) []RuleCount {
	counts := make([]RuleCount, len(p.Rules))
	for i := range p.Rules {
		rule := &p.Rules[i]
		counts[i].Rule = rule.Name
		for _, r := range inv.Repositories {
			n := 0
			for _, tag := range r.Tags {
				if _, follows := Subject(tag.Name); !follows && tag.HasTarget && rule.Selects(r.Name, tag.Name) {
					n++
				}
			}
			if counts[i].Tags += n; n > 0 {
				counts[i].Repositories++
			}
			if rule.Untagged != nil && rule.Repositories.Select(r.Name) {
				counts[i].Untagged++
			}
		}
	}
	return counts
}
