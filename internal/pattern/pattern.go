// Package pattern matches the names of repositories and tags.
package pattern

import (
	"errors"
	"regexp"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
)

// Pattern is a glob, or a regular expression after "re:". In a glob, * stops at a slash and ** does not. As
// in .gitignore, team/** matches what is below team, and not team itself. A regular expression (RE2) must
// match the whole name.
type Pattern struct {
	text       string
	glob       string
	expression *regexp.Regexp // nil for a glob
}

var (
	looseStars = regexp.MustCompile(`[^/{,]\*\*|\*\*[^/},]`)
	lastStars  = regexp.MustCompile(`/\*\*([},]|$)`)
)

// New returns a pattern.
func New(text string) (Pattern, error) {
	source, isExpression := strings.CutPrefix(text, "re:")
	switch {
	case source == "":
		return Pattern{}, errors.New("a pattern is empty")
	case isExpression:
		if _, err := regexp.Compile(source); err != nil { // in parentheses, a)|(b would be one
			return Pattern{}, err
		}
		expression, err := regexp.Compile("^(?:" + source + ")$")
		return Pattern{text: text, expression: expression}, err
	case !doublestar.ValidatePattern(text):
		return Pattern{}, errors.New("a bracket or brace is not closed")
	case looseStars.MatchString(text): // doublestar takes them for *
		return Pattern{}, errors.New("** stands between slashes, as in team/**")
	}
	return Pattern{text: text, glob: lastStars.ReplaceAllString(text, "/**/*$1")}, nil
}

// Match reports whether the pattern matches a name.
func (p Pattern) Match(name string) bool {
	if p.expression != nil {
		return p.expression.MatchString(name)
	}
	return doublestar.MatchUnvalidated(p.glob, name)
}

// String returns the text of the pattern.
func (p Pattern) String() string { return p.text }

// IsOpen reports whether the pattern may match several names.
func (p Pattern) IsOpen() bool { return p.expression != nil || strings.ContainsAny(p.glob, `*?[{\`) }

// Patterns are alternatives.
type Patterns []Pattern

// Select reports whether the patterns select a name: one of them matches it, or p is nil.
func (p Patterns) Select(name string) bool { return p == nil || p.Match(name) }

// Match reports whether one of the patterns matches a name.
func (p Patterns) Match(name string) bool {
	return slices.ContainsFunc(p, func(pattern Pattern) bool { return pattern.Match(name) })
}
