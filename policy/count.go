package policy

import (
	"fmt"
	"slices"
	"strings"

	"regsweep/internal/pattern"
	"regsweep/inventory"
)

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
				if rule.counts(r.Name, tag) {
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

// ProtectionCount says how many tags of how many repositories the names in an entry of protect match. An entry
// without tags matches also a repository without tags. Of an entry with digests, the list decides among these tags.
type ProtectionCount struct {
	Entry        string `json:"entry"`
	Tags         int    `json:"tags"`
	Repositories int    `json:"repositories"`
}

// CountProtected counts what each entry of protect matches.
func (p *Policy) CountProtected(inv *inventory.Inventory) []ProtectionCount {
	counts := make([]ProtectionCount, len(p.Protect))
	for i, of := range p.Protect {
		counts[i].Entry = of.String()
		for _, r := range inv.Repositories {
			if !of.Repositories.Select(r.Name) {
				continue
			}
			n := 0
			for _, tag := range r.Tags {
				if of.Tags.Select(tag.Name) {
					n++
				}
			}
			if counts[i].Tags += n; n > 0 || of.Tags == nil {
				counts[i].Repositories++
			}
		}
	}
	return counts
}

// String returns the keys of the entry, as in "repositories: [base/**], tags: [latest]".
func (of Protection) String() string {
	var keys []string
	for _, names := range []struct {
		key      string
		patterns pattern.Patterns
	}{{"repositories", of.Repositories}, {"tags", of.Tags}} {
		var texts []string
		for _, p := range names.patterns {
			texts = append(texts, p.String())
		}
		if texts != nil {
			keys = append(keys, fmt.Sprintf("%s: [%s]", names.key, strings.Join(texts, ", ")))
		}
	}
	if of.Digests != "" {
		keys = append(keys, "digests: "+of.Digests)
	}
	return strings.Join(keys, ", ")
}

// Unused says which entries of protect and which rules match nothing. A typing error looks like this.
func (p *Policy) Unused(inv *inventory.Inventory) (texts []string) {
	for _, of := range p.Protect {
		if !slices.ContainsFunc(inv.Repositories, of.matches) {
			texts = append(texts, "nothing matches the entry of protect "+of.String())
		}
	}
	for i := range p.Rules {
		if !slices.ContainsFunc(inv.Repositories, p.Rules[i].matches) {
			texts = append(texts, "nothing matches the rule "+p.Rules[i].Name)
		}
	}
	return texts
}

func (of Protection) matches(r *inventory.Repository) bool {
	isNamed := func(tag inventory.Tag) bool { return of.Tags.Match(tag.Name) }
	return of.Repositories.Select(r.Name) && (of.Tags == nil || slices.ContainsFunc(r.Tags, isNamed))
}

func (r *Rule) matches(of *inventory.Repository) bool {
	return r.Untagged != nil && r.Repositories.Select(of.Name) || slices.ContainsFunc(of.Tags, func(tag inventory.Tag) bool { return r.counts(of.Name, tag) })
}

// counts reports whether the rule selects a tag that has a current link and follows no subject.
func (r *Rule) counts(repository string, tag inventory.Tag) bool {
	_, follows := Subject(tag.Name)
	return !follows && tag.HasTarget && r.Selects(repository, tag.Name)
}
