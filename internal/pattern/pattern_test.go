package pattern

import (
	"math/rand/v2"
	"regexp"
	"testing"
)

func TestWhatAPatternMatches(t *testing.T) {
	for _, test := range []struct {
		pattern string
		matches []string
		not     []string
	}{
		{"team/*", []string{"team/app"}, []string{"team", "team/app/cache", "steam/app"}},
		{"team/**", []string{"team/app", "team/app/cache"}, []string{"team", "teams/app"}},
		{"{team,base}/**", []string{"team/app", "base/a/b"}, []string{"team", "base"}},
		{"{team/**,base}", []string{"team/app", "base"}, []string{"team", "base/a"}},
		{"**/app", []string{"app", "team/app", "a/b/app"}, []string{"team/app2"}},
		{"a/**/b", []string{"a/b", "a/x/b", "a/x/y/b"}, []string{"a/bb"}},
		{"**", []string{"a", "a/b"}, nil},
		{"pr-?", []string{"pr-1"}, []string{"pr-10", "pr-"}},
		{"v[0-9]*", []string{"v1", "v1.2"}, []string{"vx"}},
		{"v[!0-9]*", []string{"vx"}, []string{"v1"}},
		{`re:v[0-9]+(\.[0-9]+)?`, []string{"v1", "v1.2"}, []string{"v1.2.3", "xv1", "v1-rc"}},
		{"re:a|b", []string{"a", "b"}, []string{"ab", "ax", "xb"}},
		{"re:team/.*", []string{"team/", "team/a/b"}, []string{"team"}},
	} {
		p, err := New(test.pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range test.matches {
			if !p.Match(name) {
				t.Errorf("%s does not match %s", p, name)
			}
		}
		for _, name := range test.not {
			if p.Match(name) {
				t.Errorf("%s matches %s", p, name)
			}
		}
	}
}

// The search for a name that a pattern matches never overlooks one, and finds out that there is none.
func TestAPatternThatMatchesANameMeetsIts(t *testing.T) {
	parts := []string{"a", "b", "A", "_", "-", ".", "/", "*", "**", "?", "[ab]", "[!a]", "[A-Z]", "{a,b/A}", "{**,b}", `\a`, ":"}
	matched, never := 0, 0
	for seed := range uint64(30000) {
		r := rand.New(rand.NewPCG(seed, 1))
		text, name := "", ""
		for range 1 + r.IntN(6) {
			text += parts[r.IntN(len(parts))]
		}
		for range 1 + r.IntN(5) {
			name += string("abA_-./"[r.IntN(7)])
		}
		p, err := New(text)
		if err != nil {
			continue
		}
		isName := func(form Names) bool { return regexp.MustCompile("^(?:" + form.expression + ")$").MatchString(name) }
		isTag, isRepository := p.Meets(Tags), p.Meets(Repositories)
		if !isTag && !isRepository {
			never++
		}
		if !p.Match(name) {
			continue
		}
		if isName(Tags) && !isTag {
			t.Fatalf("%s matches the tag %s", text, name)
		}
		if isName(Repositories) {
			if matched++; !isRepository {
				t.Fatalf("%s matches the repository %s", text, name)
			}
		}
	}
	if matched < 100 || never < 100 {
		t.Errorf("%d names are matched, %d patterns match none", matched, never)
	}
}
