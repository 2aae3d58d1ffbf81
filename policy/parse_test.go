package policy

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
)

const example = `version: 1
protect:
  - {repositories: ["base/**"]}
  - {tags: ["latest", "re:v[0-9]+(\\.[0-9]+){2}"]}
  - {digests: in-use.txt}
rules:
  - name: pull requests
    repositories: ["team/**"]
    tags: ["pr-*"]
    keep-last: 10
    keep-within: 30d
    keep-daily: 7
    keep-semver: {last: 5, per: minor, prereleases: 1}
    older-than: 90d
  - repositories: ["**"]
    untagged: {older-than: 7d}
floor: {keep-newest: 2, max-share: 50%}
time: created
`

func TestAPolicyIsParsed(t *testing.T) {
	p, err := Parse("policy.yml", []byte(example))
	if err != nil {
		t.Fatal(err)
	}
	first, second := p.Rules[0], p.Rules[1]
	switch {
	case len(p.Protect) != 3 || p.Protect[2].Digests != "in-use.txt" || p.Protect[1].Tags[1].String() != `re:v[0-9]+(\.[0-9]+){2}`:
		t.Errorf("protect: %+v", p.Protect)
	case first.Name != "pull requests" || first.KeepLast != 10 || first.KeepWithin != Age(30*24*time.Hour) || first.KeepDaily != 7 || *first.KeepSemver != Semver{5, "minor", 1}:
		t.Errorf("first rule: %+v", first)
	case second.Name != "rule 2" || second.Tags != nil || second.Untagged.OlderThan != Age(7*24*time.Hour):
		t.Errorf("second rule: %+v", second)
	case p.Floor != Floor{2, Whole / 2} || p.Time != Created:
		t.Errorf("floor %v, time %v", p.Floor, p.Time)
	}
	p, err = Parse("policy.yml", []byte("version: 1\nfloor: {max-share: 12.5%}\n"))
	if err != nil || p.Floor != (Floor{1, Whole / 8}) || p.Time != Pushed {
		t.Errorf("without most keys: %+v, %v", p, err)
	}
}

// Numbers, booleans and dates are names of tags too. A second meaning of YAML changes none of them.
func TestPatternsAreTakenAsTheyAreWritten(t *testing.T) {
	content := "version: 1\nrules:\n- tags: [1.10, 010, 1e3, true, 0x1F, 2024-01-01, \"null\", no, 'a', !!str 5]\n"
	p, err := Parse("policy.yml", []byte(content))
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(p.Rules[0].Tags)
	if want := "[1.10 010 1e3 true 0x1F 2024-01-01 null no a 5]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// A file may have a byte order mark, CRLF, and anchors.
func TestAnyFormOfYAMLIsTheSamePolicy(t *testing.T) {
	plain := "version: 1\nrules:\n  - name: a\n    tags: [pr-*]\n    keep-last: 3\n  - name: b\n    tags: [pr-*]\n    keep-last: 3\n"
	want, err := Parse("policy.yml", []byte(plain))
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"a byte order mark": "\ufeff" + plain,
		"CRLF":              strings.ReplaceAll(plain, "\n", "\r\n"),
		"markers":           "%YAML 1.1\n--- # the policy\n" + plain + "...\n",
		"aliases":           "version: 1\nrules:\n  - name: a\n    tags: &tags [pr-*]\n    keep-last: &n 3\n  - {name: b, tags: *tags, keep-last: *n}\n",
		"flow style":        `{"version": 1, "rules": [{"name": "a", "tags": ["pr-*"], "keep-last": 3}, {"name": "b", "tags": ["pr-*"], "keep-last": 3}]}`,
	} {
		got, err := Parse("policy.yml", []byte(content))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for i := range got.Rules {
			got.Rules[i].line = want.Rules[i].line
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v\nwant %+v", name, got, want)
		}
	}
}

func TestAMistakeInAPolicyIsOneLineWithItsPlace(t *testing.T) {
	for _, test := range []struct{ name, content, want string }{
		{"an empty file", "", "line 1: the policy is empty"},
		{"another version", "version: 2", `line 1: want version: 1, not "2"`},
		{"no YAML", "version: 1\nrules: [", "line 2: this is not YAML: did not find expected node content"},
		{"an unknown key", "version: 1\nrule:\n  - name: a", "line 2: there is no key rule here, did you mean rules?"},
		{"an unknown key of a rule", "version: 1\nrules:\n  - name: a\n    keep_last: 3", "line 4: there is no key keep_last here, did you mean keep-last?"},
		{"a rule that needs pull data", "version: 1\nrules:\n  - name: a\n    not-pulled-for: 30d", "line 4: there is no key not-pulled-for: a storage does not say when an image was pulled"},
		{"a key twice", "version: 1\nrules:\n  - name: a\n    keep-last: 3\n    keep-last: 4", "line 5: the key keep-last is there twice"},
		{"a number that is a word", "version: 1\nrules:\n  - keep-last: many", "line 3: want a number of tags"},
		{"a negative number", "version: 1\nrules:\n  - keep-last: -1", "line 3: want a number of tags"},
		{"an age without a unit", "version: 1\nrules:\n  - name: a\n    older-than: 90", `line 4: want an age such as 36h or 30d, not "90"`},
		{"a list that is a word", "version: 1\nrules:\n  - tags: latest", "line 3: want a list, such as [a, b]"},
		{"a rule that is a word", "version: 1\nrules: [all]", "line 2: want keys with values"},
		{"rules that are no list", "version: 1\nrules:\n  tags: [a]", `line 3: rules is a list: each entry begins with "- "`},
		{"protect that is no list", "version: 1\nprotect: {tags: [a]}", `line 2: protect is a list: each entry begins with "- "`},
		{"an entry of protect that is a word", "version: 1\nprotect: [latest]", "line 2: want keys with values, as in - {tags: [latest]}"},
		{"versions that are a number", "version: 1\nrules: [{keep-semver: 5}]", "line 2: want keys with values, as in keep-semver: {last: 5, per: minor}"},
		{"untagged that is an age", "version: 1\nrules: [{untagged: 7d}]", "line 2: want keys with values, as in untagged: {older-than: 7d}"},
		{"a floor that is a number", "version: 1\nfloor: 1", "line 2: want keys with values, as in floor: {keep-newest: 1, max-share: 50%}"},
		{"a rule that is a number", "version: 1\nrules: [1]", "line 2: want keys with values, as in - {tags: [nightly], keep-last: 7}"},
		{"a key with a typing error", "version: 1\nrules: [{tag: [a]}]", "line 2: there is no key tag here, did you mean tags?"},
		{"a key like no other", "version: 1\nrules: [{frobnicate: 1}]", "line 2: there is no key frobnicate here"},
		{"less indentation", "version: 1\nrules:\n  - name: a\n  tags: [a]\n", "line 4: the indentation differs from that of the line before"},
		{"an expression without re:", "version: 1\nrules:\n  - tags: ['^pr-.*$']", `line 3: "^pr-.*$" matches no tag: a regular expression begins with re:`},
		{"a group without re:", "version: 1\nprotect:\n  - repositories: ['(base|os']", "line 3: \"(base|os\" matches no repository: a regular expression begins with re:"},
		{"a pattern that is no expression", "version: 1\nrules:\n  - tags:\n    - 'pr-*'\n    - 're:('", `line 5: "re:(" is no pattern: `},
		{"a pattern that is no glob", "version: 1\nrules:\n  - tags: ['pr-[']", `line 3: "pr-[" is no pattern: `},
		{"an empty pattern", "version: 1\nrules:\n  - tags: ['']", `line 3: "" is no pattern: a pattern is empty`},
		{"an empty list", "version: 1\nrules:\n  - name: a\n    tags: []", "line 4: an empty list matches nothing"},
		{"a key without a value", "version: 1\nrules:\n  - name: a\n    tags:\n    keep-last: 3", "line 4: tags has no value"},
		{"no rules", "version: 1\nrules:\n", "line 2: rules has no value"},
		{"a tag with a repository", "version: 1\nrules:\n  - tags: ['team/app:pr-*']", `line 3: "team/app:pr-*" matches no tag`},
		{"a repository with a host", "version: 1\nrules:\n  - repositories: ['localhost:5000/team/*']", `line 3: "localhost:5000/team/*" matches no repository`},
		{"a repository in capitals", "version: 1\nrules:\n  - repositories: [Team]", `line 3: "Team" matches no repository`},
		{"a tag that follows", "version: 1\nrules:\n  - tags: [sha256-" + strings.Repeat("a", 64) + ".sig]", "it follows the manifest in its name"},
		{"versions that are none", "version: 1\nrules:\n  - name: a\n    tags: [latest, '1.2']\n    keep-semver: {last: 1}", "line 3: the rule never selects a tag"},
		{"an unknown part of a version", "version: 1\nrules:\n  - keep-semver: {last: 1, per: patch}", `line 3: per is major or minor, not "patch"`},
		{"an unknown time", "version: 1\ntime: pulled", `line 2: time is pushed or created, not "pulled"`},
		{"a share without %", "version: 1\nfloor: {max-share: 50}", `line 2: want a share such as 50%, not "50"`},
		{"a share above all", "version: 1\nfloor: {max-share: 101%}", "line 2: want a share"},
		{"a share that is no number", "version: 1\nfloor: {max-share: NaN%}", "line 2: want a share"},
		{"nothing to protect", "version: 1\nprotect:\n  - {}", "line 3: an entry of protect needs repositories, tags or digests"},
		{"the same name twice", "version: 1\nrules:\n  - {name: a, tags: [a]}\n  - {name: a, tags: [b]}", `line 4: another rule is called "a" too`},
		{"a name of the report", "version: 1\nrules:\n  - name: floor", "line 3: a rule can't be called floor"},
		{"an empty rule", "version: 1\nrules:\n  -", "line 3: item 1 of the list is empty"},
		{"an empty entry of protect", "version: 1\nprotect: [~]", "line 2: item 1 of the list is empty"},
		{"a merge key", "version: 1\nrules:\n  - {keep-last: 10, <<: {keep-last: 1}}", "line 3: the merge key << is not supported"},
		{"a part of a tag", "version: 1\nrules:\n  - keep-last: 0.9", "line 3: want a number of tags"},
		{"an octal number", "version: 1\nrules:\n  - keep-last: 010", "line 3: want a number of tags"},
		{"two documents", "version: 1\n---\nversion: 1\nrules: [{tags: [a]}]", "line 1: want one document"},
		{"no version", "rules: []", "line 1: version: 1 is missing"},
		{"a document that is null", "~", "line 1: the policy is empty"},
		{"a document that is a list", "- version: 1", "line 1: want keys with values"},
		{"a null item among others", "version: 1\nrules:\n  - name: a\n    tags:\n      - a\n      -\n", "line 5: item 2 of the list is empty"},
		{"a pattern that is null", "version: 1\nrules: [{tags: [a, NULL]}]", "line 2: item 2 of the list is empty"},
		{"a null key", "version: 1\n~: 1", "line 1: a key is empty"},
		{"a key that is a list", "version: 1\n[a, b]: 1", "line 2: a key is a word"},
		{"a rule without keys", "version: 1\nrules: [{}]", "line 2: the rule would remove every tag"},
		{"a rule with a name", "version: 1\nrules:\n  - name: a", "line 3: the rule would remove every tag"},
		{"a rule that keeps none", "version: 1\nrules:\n  - {keep-last: 0, older-than: 0d}", "line 3: the rule would remove every tag"},
		{"a quoted merge key", "version: 1\nrules:\n  - keep-last: 3\n    \"<<\": {keep-last: 1}", "line 4: there is no key << here"},
		{"a merge key of an alias", "version: 1\nprotect:\n  - &a {tags: [a]}\nrules:\n  -\n    keep-last: 3\n    ? <<\n    : *a\n", "line 6: the merge key << is not supported"},
		{"a merge key with a tag", "version: 1\nrules:\n  - {keep-last: 3, !!merge \"\\x3c<\": {keep-daily: 1}}", "line 3: the merge key << is not supported"},
		{"a merge key of a list", "version: 1\nrules:\n  - {<<: [{keep-daily: 1}, {keep-last: 1}], keep-last: 3}", "line 3: "},
		{"a merge key before the same key", "version: 1\nrules:\n  - {<<: {keep-last: 1}, keep-last: 3}", "line 3: "},
		{"a merge key at the top", "<<: {time: created}\nversion: 1", "line 1: the merge key << is not supported"},
		{"a key twice in one line", "version: 1\nrules: [{tags: [a], tags: [b]}]", "line 2: the key tags is there twice"},
		{"a key twice at the top", "version: 1\nrules: []\nrules: [{tags: [a]}]", "line 3: the key rules is there twice"},
		{"a glob that is an alias", "version: 1\nrules:\n  - tags: [*-dev]", `line 3: a pattern that begins with * needs quotes, as in "*-dev"`},
		{"a star without quotes", "version: 1\nrules:\n  - tags: [*]", "line 3: this is not YAML: "},
		{"braces without quotes", "version: 1\nrules:\n  - tags: [pr-{a,b}]", "line 3: this is not YAML: "},
		{"a tab", "version: 1\nrules:\n\t- tags: [a]", "line 3: this is not YAML: "},
		{"a list that is not closed", "version: 1\nrules:\n  - tags: [a\nprotect: []\n", "line 4: this is not YAML: "},
		{"an error in the first line", "version: [", "line 1: this is not YAML: "},
		{"an alias of itself", "version: 1\nrules: &a [*a]", "line 1: anchor 'a' value contains itself"},
		{"a bomb", bomb(), "excessive aliasing"},
		{"deep nesting", "version: 1\nrules: " + strings.Repeat("[", 20000), "line 2: this is not YAML: exceeded max depth"},
		{"nesting in a rule", "version: 1\nrules: [[[[[[[[]]]]]]]]", "line 2: want keys with values"},
		{"Latin-1", "version: 1\n# caf\xe9", "line 2: want text in UTF-8"},
		{"UTF-16", "\xff\xfev\x00", "line 1: want text in UTF-8"},
		{"a NUL", "version: 1\n\n# \x00", "line 3: want text in UTF-8"},
		{"a number with an exponent", "version: 1\nrules:\n  - keep-last: 1e1", "line 3: want a number of tags, such as 10, not \"1e1\""},
		{"a hexadecimal number", "version: 1\nrules:\n  - keep-last: 0x10", "line 3: want a number of tags"},
		{"a huge number", "version: 1\nrules:\n  - keep-last: 99999999999999999999", "line 3: want a number of tags"},
		{"a pattern that is null in quotes", "version: 1\nrules:\n  - repositories: ['~']", `line 3: "~" matches no repository`},
		{"a number that is null in quotes", "version: 1\nrules:\n  - keep-last: 'null'", "line 3: want a number of tags"},
		{"a null in capitals", "version: 1\nrules:\n  - keep-last: Null", "line 3: keep-last has no value"},
		{"a number that is a list", "version: 1\nrules:\n  - keep-last: [3]", "line 3: want a number of tags"},
		{"an age that is a number", "version: 1\nrules:\n  - older-than: 1.5d", "line 3: want an age"},
		{"an age that is negative", "version: 1\nrules:\n  - older-than: -3h", "line 3: want an age"},
		{"a share that is a part", "version: 1\nfloor: {max-share: 0.5}", `line 2: want a share such as 50%, not "0.5"`},
		{"a share above all by a part", "version: 1\nfloor: {max-share: 100.01%}", "line 2: want a share"},
		{"a share with many digits", "version: 1\nfloor: {max-share: 0.00001%}", "line 2: want a share"},
		{"versions without a number", "version: 1\nrules: [{keep-semver: {}}]", "line 2: keep-semver needs last"},
		{"only prereleases", "version: 1\nrules: [{keep-semver: {prereleases: 2}}]", "line 2: keep-semver needs last"},
		{"untagged without an age", "version: 1\nrules: [{untagged: {}}]", "line 2: untagged needs older-than"},
		{"untagged that keeps tags", "version: 1\nrules: [{untagged: {older-than: 7d}, keep-last: 3}]", "line 2: a rule with untagged and without tags selects no tag"},
		{"untagged and the age of tags", "version: 1\nrules: [{untagged: {older-than: 7d}, older-than: 7d}]", "line 2: a rule with untagged and without tags selects no tag"},
		{"a list from standard input", "version: 1\nprotect: [{digests: \"-\"}]", "line 2: digests needs a file"},
		{"a list without a name", "version: 1\nprotect: [{tags: [a], digests: ''}]", "line 2: want a text"},
		{"another name of the report", "version: 1\nrules: [{name: orphan, tags: [a]}]", "line 2: a rule can't be called orphan"},
		{"capitals in a glob", "version: 1\nrules:\n  - repositories: ['Team/**']", `line 3: "Team/**" matches no repository`},
		{"a slash in an expression", "version: 1\nrules:\n  - tags: ['re:team/.*']", `line 3: "re:team/.*" matches no tag`},
		{"a slash in braces", "version: 1\nrules:\n  - tags: ['{a/b,c/*}']", "matches no tag"},
		{"a capital in a bracket", "version: 1\nprotect:\n  - repositories: ['[A-Z]*']", "matches no repository"},
		{"an end within an expression", "version: 1\nrules:\n  - tags: ['re:v1$.+']", "matches no tag"},
		{"a beginning within an expression", "version: 1\nrules:\n  - tags: ['re:v^1']", "matches no tag"},
		{"a space", "version: 1\nrules:\n  - tags: ['pr *']", "matches no tag"},
		{"a tag that begins with a dot", "version: 1\nrules:\n  - tags: ['.*']", "matches no tag"},
		{"stars within a name", "version: 1\nprotect:\n  - repositories: ['base**']", "** stands between slashes"},
		{"three stars", "version: 1\nprotect:\n  - repositories: ['base/***']", "** stands between slashes"},
		{"an expression that closes another's parenthesis", "version: 1\nrules:\n  - tags: ['re:a)|(b']", "is no pattern"},
	} {
		p, err := Parse("policy.yml", []byte(test.content))
		switch {
		case err == nil:
			t.Errorf("%s: %+v is no error", test.name, p)
		case !placed.MatchString(err.Error()) || !strings.Contains(err.Error(), ": "+test.want) && !strings.Contains(err.Error(), " "+test.want):
			t.Errorf("%s: %v\nwant %s", test.name, err, test.want)
		}
	}
}

var placed = regexp.MustCompile("^policy.yml: line [1-9][0-9]*: [^\n]*$")

// Whatever is changed in a policy: it is valid, or the error is one line with its place.
func TestARandomMistakeIsOneLineWithItsPlace(t *testing.T) {
	parts := []string{"", " ", "\n", "\n  ", "- ", ": ", "~", "null", "[", "]", "{", "}", "<<: ", "*a", "&a ", "!!str ", "!!int ", "'", "\"", "|\n", "? ", "#", ",", "---\n", "0", "\x00", "\xff", "\t", "%"}
	wrong := 0
	n := fewer(20000)
	for seed := range uint64(n) {
		r := rand.New(rand.NewPCG(seed, 4))
		content := example
		for range 1 + r.IntN(3) {
			from := r.IntN(len(content))
			content = content[:from] + parts[r.IntN(len(parts))] + content[min(from+r.IntN(4), len(content)):]
		}
		if _, err := Parse("policy.yml", []byte(content)); err != nil {
			if wrong++; !placed.MatchString(err.Error()) {
				t.Fatalf("seed %d: %q\n%s", seed, err, content)
			}
		}
	}
	if wrong < n/20 {
		t.Errorf("%d policies are wrong", wrong)
	}
}

// bomb returns a policy whose aliases stand for a million tags.
func bomb() string {
	text := "version: 1\nrules:\n- tags: [x]\n- &a0 [x, x, x, x, x, x, x, x, x, x]\n"
	for i := range 7 {
		text += fmt.Sprintf("- &a%d [%s*a%d]\n", i+1, strings.Repeat(fmt.Sprintf("*a%d, ", i), 9), i)
	}
	return text
}
