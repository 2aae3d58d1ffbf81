package policy

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"regsweep/internal/human"
	"regsweep/internal/pattern"
)

// Parse parses a policy in YAML. An error is one line, with the name of the file and the number of the
// line. An unknown key is an error, and so is a rule that can never select anything.
func Parse(name string, content []byte) (*Policy, error) {
	p := &Policy{Floor: Floor{KeepNewest: 1, MaxShare: Whole}, Time: Pushed}
	root, err := readYAML(content)
	switch {
	case err != nil:
	case root.decode == nil:
		err = errors.New("line 1: the policy is empty: it begins with version: 1")
	default:
		err = p.parse(root)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return p, nil
}

func (p *Policy) parse(n node) error {
	err := n.keys("version: 1", map[string]func(node) error{
		"version": func(n node) error {
			if number, isNumber := n.number(); !isNumber || number != 1 {
				return n.errorf("want version: 1, not %q", n.text)
			}
			p.Version = 1
			return nil
		},
		"protect": list(`protect is a list: each entry begins with "- "`, &p.Protect, (*Protection).parse),
		"rules":   list(`rules is a list: each entry begins with "- "`, &p.Rules, (*Rule).parse),
		"floor": func(n node) error {
			return n.keys("floor: {keep-newest: 1, max-share: 50%}", map[string]func(node) error{"keep-newest": p.Floor.KeepNewest.parse, "max-share": p.Floor.MaxShare.parse})
		},
		"time": func(n node) error {
			if p.Time = Basis(n.text); p.Time != Pushed && p.Time != Created {
				return n.errorf("time is pushed or created, not %q", n.text)
			}
			return nil
		},
	})
	switch {
	case err != nil:
		return err
	case p.Version == 0:
		return n.errorf("version: 1 is missing")
	}
	names := map[string]bool{}
	for i := range p.Rules {
		r := &p.Rules[i]
		if r.Name == "" {
			r.Name = fmt.Sprintf("rule %d", i+1)
		}
		if names[r.Name] {
			return node{line: r.line}.errorf("another rule is called %q too", r.Name)
		}
		names[r.Name] = true
	}
	return nil
}

func (p *Protection) parse(n node) error {
	err := n.keys("- {tags: [latest]}", map[string]func(node) error{
		"repositories": patterns(&p.Repositories, pattern.Repositories), "tags": patterns(&p.Tags, pattern.Tags),
		"digests": func(n node) error {
			p.Line = n.line
			return text(&p.Digests)(n)
		},
	})
	switch {
	case err != nil:
		return err
	case p.Repositories == nil && p.Tags == nil && p.Digests == "":
		return n.errorf("an entry of protect needs repositories, tags or digests")
	case p.Digests == "-":
		return n.errorf("digests needs a file: for standard input give the flag --keep-digests -")
	}
	return nil
}

func (r *Rule) parse(n node) error {
	r.line = n.line
	err := n.keys("- {tags: [nightly], keep-last: 7}", map[string]func(node) error{
		"name":         text(&r.Name),
		"repositories": patterns(&r.Repositories, pattern.Repositories),
		"tags":         patterns(&r.Tags, pattern.Tags),
		"keep-last":    r.KeepLast.parse,
		"keep-within":  r.KeepWithin.parse,
		"keep-hourly":  r.KeepHourly.parse,
		"keep-daily":   r.KeepDaily.parse,
		"keep-weekly":  r.KeepWeekly.parse,
		"keep-monthly": r.KeepMonthly.parse,
		"keep-yearly":  r.KeepYearly.parse,
		"keep-semver": func(n node) error {
			r.KeepSemver = &Semver{Last: -1}
			return r.KeepSemver.parse(n)
		},
		"older-than": r.OlderThan.parse,
		"untagged": func(n node) error {
			r.Untagged = &Untagged{OlderThan: -1}
			err := n.keys("untagged: {older-than: 7d}", map[string]func(node) error{"older-than": r.Untagged.OlderThan.parse})
			if err == nil && r.Untagged.OlderThan < 0 {
				return n.errorf("untagged needs older-than, such as {older-than: 7d}")
			}
			return err
		},
	})
	keeps := r.usesTimes() || r.KeepSemver != nil
	mayBeVersion := func(p pattern.Pattern) bool { return p.IsOpen() || version(p.String()) != nil }
	switch {
	case err != nil:
		return err
	case slices.Contains(reserved, r.Name):
		return n.errorf("a rule can't be called %s: the report uses this name for another reason", r.Name)
	case r.Untagged != nil && r.Tags == nil && keeps:
		return n.errorf("a rule with untagged and without tags selects no tag: give it tags, or remove the keys that keep tags")
	case r.Untagged == nil && r.Repositories == nil && r.Tags == nil && !keeps:
		return n.errorf(`the rule would remove every tag: say which tags, or which to keep; if all are meant, write tags: ["*"]`)
	case r.KeepSemver != nil && r.Tags != nil && !slices.ContainsFunc(r.Tags, mayBeVersion):
		return n.errorf("the rule never selects a tag: keep-semver selects only versions such as 1.2.3 and v1.2.3, and no pattern in tags matches one")
	}
	return nil
}

func (s *Semver) parse(n node) error {
	err := n.keys("keep-semver: {last: 5, per: minor}", map[string]func(node) error{
		"last": s.Last.parse, "prereleases": s.Prereleases.parse,
		"per": func(n node) error {
			if s.Per = n.text; s.Per != "major" && s.Per != "minor" {
				return n.errorf("per is major or minor, not %q", n.text)
			}
			return nil
		},
	})
	if err == nil && s.Last < 0 {
		return n.errorf("keep-semver needs last: the number of releases to keep")
	}
	return err
}

func (c *Count) parse(n node) error {
	number, isNumber := n.number()
	if !isNumber || number < 0 {
		return n.errorf("want a number of tags, such as 10, not %q", n.text)
	}
	*c = Count(number)
	return nil
}

var sharePattern = regexp.MustCompile(`^([0-9]{1,3})(?:\.([0-9]{1,4}))?%$`)

func (s *Share) parse(n node) error {
	parts := sharePattern.FindStringSubmatch(n.text)
	if parts != nil {
		number, _ := strconv.Atoi(parts[1] + (parts[2] + "0000")[:4])
		*s = Share(number)
	}
	if parts == nil || *s > Whole {
		return n.errorf("want a share such as 50%%, not %q", n.text)
	}
	return nil
}

func (a *Age) parse(n node) error {
	d, err := human.ParseAge(n.text)
	if err != nil || n.text == "0" || n.text[0] < '0' || '9' < n.text[0] { // 0, +3h and .5h are ages elsewhere
		return n.errorf("want an age such as 36h or 30d, not %q", n.text)
	}
	*a = Age(d)
	return nil
}

// patterns returns a function that parses patterns for names of a form.
func patterns(to *pattern.Patterns, names pattern.Names) func(node) error {
	return func(n node) error {
		err := list("want a list, such as [a, b]", (*[]pattern.Pattern)(to), func(p *pattern.Pattern, n node) (err error) {
			if !n.isText {
				return n.errorf("want a pattern, in quotes")
			}
			*p, err = pattern.New(n.text)
			_, follows := Subject(n.text)
			isExpression := !strings.HasPrefix(n.text, "re:") && strings.ContainsAny(n.text, `^$()|+\`)
			switch {
			case isExpression && (err != nil || !p.Meets(names)):
				return n.errorf("%q matches no %s: a regular expression begins with re:", n.text, names.What)
			case err != nil:
				return n.errorf("%q is no pattern: %v", n.text, err)
			case follows && names == pattern.Tags:
				return n.errorf("%q matches no tag: it follows the manifest in its name", n.text)
			case !p.Meets(names):
				return n.errorf("%q matches no %s: want %s", n.text, names.What, names.Example)
			}
			return nil
		})(n)
		if err == nil && len(*to) == 0 {
			return n.errorf("an empty list matches nothing")
		}
		return err
	}
}
