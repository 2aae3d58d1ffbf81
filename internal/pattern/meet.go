package pattern

import (
	"regexp"
	"regexp/syntax"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
)

// Names is a form of names.
type Names struct {
	What, Example string // for an error
	expression    string
}

// The names that repositories and tags can have.
// Source: the OCI distribution specification, "Pulling manifests".
var (
	Repositories = Names{"repository", "a name such as team/app, in small letters, without a host and without a tag", `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*`}
	Tags         = Names{"tag", "a name such as latest or pr-*", `[a-zA-Z0-9_][a-zA-Z0-9._-]*`}
)

// nameBytes are the characters of all names.
const nameBytes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/"

// Meets reports whether the pattern matches any name of a form. It may say yes if it does not.
func (p Pattern) Meets(names Names) bool {
	expression := strings.TrimPrefix(p.text, "re:")
	if p.expression == nil {
		expression = globExpression(p.glob)
	}
	return meet(program(expression), program(names.expression))
}

// globExpression returns a regular expression that matches all that a glob matches. A slash beside ** may be
// absent: a/**/b matches a/b.
func globExpression(glob string) string {
	var out strings.Builder
	depth := 0
	for i := 0; i < len(glob); i++ {
		rest := glob[i:]
		switch c := glob[i]; {
		case c == '/' && strings.Contains(glob, "**"):
			out.WriteString("/?")
		case strings.HasPrefix(rest, "**"):
			out.WriteString(".*")
			i++
		case c == '*':
			out.WriteString("[^/]*")
		case c == '?':
			out.WriteString("[^/]")
		case c == '[':
			end := i + 1
			for ; glob[end] != ']'; end++ {
				if glob[end] == '\\' {
					end++
				}
			}
			out.WriteString("(?:")
			for _, of := range nameBytes {
				if doublestar.MatchUnvalidated(glob[i:end+1], string(of)) {
					out.WriteString(regexp.QuoteMeta(string(of)) + "|")
				}
			}
			out.WriteString(`[^\x00-\x{10FFFF}])`)
			i = end
		case c == '{':
			out.WriteString("(?:")
			depth++
		case c == ',' && depth > 0:
			out.WriteString("|")
		case c == '}' && depth > 0:
			out.WriteString(")")
			depth--
		case c == '\\' && len(rest) > 1:
			i++
			out.WriteString(regexp.QuoteMeta(glob[i : i+1]))
		default:
			out.WriteString(regexp.QuoteMeta(rest[:1]))
		}
	}
	return out.String()
}

func program(expression string) *syntax.Prog {
	tree, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		return nil
	}
	of, err := syntax.Compile(tree.Simplify())
	if err != nil {
		return nil
	}
	return of
}

// meet reports whether two expressions match a common name. It walks through both programs at the same time,
// and takes \b and \B for true.
func meet(a, b *syntax.Prog) bool {
	if a == nil || b == nil {
		return true
	}
	type state struct {
		at           [2]uint32
		begun, ended bool // a character was read; none may follow
	}
	seen := map[state]bool{}
	todo := []state{{at: [2]uint32{uint32(a.Start), uint32(b.Start)}}}
	for len(todo) > 0 {
		s := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if seen[s] {
			continue
		}
		seen[s] = true
		var waiting [2]*syntax.Inst // for a character or the end
		for side, of := range []*syntax.Prog{a, b} {
			i := &of.Inst[s.at[side]]
			next := s
			next.at[side] = i.Out
			switch i.Op {
			case syntax.InstAlt, syntax.InstAltMatch:
				todo = append(todo, next)
				next.at[side] = i.Arg
			case syntax.InstCapture, syntax.InstNop:
			case syntax.InstEmptyWidth:
				kind := syntax.EmptyOp(i.Arg)
				if s.begun && kind&(syntax.EmptyBeginText|syntax.EmptyBeginLine) != 0 {
					continue
				}
				next.ended = s.ended || kind&(syntax.EmptyEndText|syntax.EmptyEndLine) != 0
			case syntax.InstFail:
				continue
			default:
				waiting[side] = i
				continue
			}
			todo = append(todo, next)
		}
		x, y := waiting[0], waiting[1]
		switch {
		case x == nil || y == nil:
		case x.Op == syntax.InstMatch && y.Op == syntax.InstMatch:
			return true
		case x.Op != syntax.InstMatch && y.Op != syntax.InstMatch && !s.ended:
			for _, c := range nameBytes {
				if x.MatchRune(c) && y.MatchRune(c) {
					todo = append(todo, state{[2]uint32{x.Out, y.Out}, true, false})
					break
				}
			}
		}
	}
	return false
}
