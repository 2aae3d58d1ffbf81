package cli

import (
	"strings"

	"regsweep/inventory"
	"regsweep/storage"

	"github.com/bmatcuk/doublestar/v4"
)

// tagPattern selects tags: REPO:TAG-GLOB. In the repository a * stops at a slash, and ** does not.
type tagPattern struct{ text, repository, tag string }

// parseTagPatterns parses the values of a flag.
func parseTagPatterns(flag string, values []string) (patterns []tagPattern, err error) {
	for _, text := range values {
		at := strings.LastIndexByte(text, ':')
		if at < 1 || at == len(text)-1 || strings.Contains(text[at:], "/") {
			return nil, storage.Usagef("--%s: want REPO:TAG, such as 'team/app:pr-*', not %q", flag, text)
		}
		p := tagPattern{text, text[:at], text[at+1:]}
		if !doublestar.ValidatePattern(p.repository) || !doublestar.ValidatePattern(p.tag) {
			return nil, storage.Usagef("--%s: %q is no pattern: a bracket is not closed?", flag, text)
		}
		patterns = append(patterns, p)
	}
	return patterns, nil
}

// matches reports whether the pattern selects a tag of a repository.
func (p tagPattern) matches(repository, tag string) bool {
	return doublestar.MatchUnvalidated(p.repository, repository) && doublestar.MatchUnvalidated(p.tag, tag)
}

// selectTags returns a function that reports whether a pattern selects a tag, and the number of the
// selected tags. A pattern that selects no tag is an error: nothing would tell a typing error.
func selectTags(inv *inventory.Inventory, flag string, patterns []tagPattern) (isSelected func(repository, tag int) bool, count int, err error) {
	selected := make([][]bool, len(inv.Repositories))
	found := make([]bool, len(patterns))
	for i, r := range inv.Repositories {
		selected[i] = make([]bool, len(r.Tags))
		for j, tag := range r.Tags {
			for k, p := range patterns {
				if p.matches(r.Name, tag.Name) {
					selected[i][j], found[k] = true, true
				}
			}
			if selected[i][j] {
				count++
			}
		}
	}
	for k, p := range patterns {
		if !found[k] {
			return nil, 0, storage.Usagef("--%s: no tag matches %s", flag, p.text)
		}
	}
	return func(repository, tag int) bool { return selected[repository][tag] }, count, nil
}
