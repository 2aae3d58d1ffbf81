package policy

import (
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
	case p.Floor != Floor{2, 0.5} || p.Time != Created:
		t.Errorf("floor %v, time %v", p.Floor, p.Time)
	}
	p, err = Parse("policy.yml", []byte("version: 1\nfloor: {max-share: 10%}\n"))
	if err != nil || p.Floor != (Floor{1, 0.1}) || p.Time != Pushed {
		t.Errorf("without most keys: %+v, %v", p, err)
	}
}

func TestAMistakeInAPolicyIsOneLineWithItsPlace(t *testing.T) {
	for _, test := range []struct{ name, content, want string }{
		{"an empty file", "", "want version: 1, not 0"},
		{"another version", "version: 2", "want version: 1, not 2"},
		{"no YAML", "version: 1\nrules: [", "line 2: "},
		{"an unknown key", "version: 1\nrule:\n  - name: a", "line 2: there is no key rule here"},
		{"an unknown key of a rule", "version: 1\nrules:\n  - name: a\n    keep_last: 3", "line 4: there is no key keep_last here"},
		{"a rule that needs pull data", "version: 1\nrules:\n  - name: a\n    not-pulled-for: 30d", "line 4: there is no key not-pulled-for: a storage does not say when an image was pulled"},
		{"a key twice", "version: 1\nrules:\n  - name: a\n    keep-last: 3\n    keep-last: 4", "line 5: the key keep-last is there twice"},
		{"a number that is a word", "version: 1\nrules:\n  - keep-last: many", "line 3: want a number of tags"},
		{"a negative number", "version: 1\nrules:\n  - keep-last: -1", "line 3: want a number of tags"},
		{"an age without a unit", "version: 1\nrules:\n  - name: a\n    older-than: 90", `line 4: want an age such as 36h or 30d, not "90"`},
		{"a list that is a word", "version: 1\nrules:\n  - tags: latest", "line 3: the value latest has the wrong form"},
		{"a rule that is a word", "version: 1\nrules: [all]", "line 2: want keys and values"},
		{"rules that are no list", "version: 1\nrules:\n  tags: [a]", "line 3: the value has the wrong form"},
		{"a pattern that is no expression", "version: 1\nrules:\n  - tags:\n    - 'pr-*'\n    - 're:('", `line 5: "re:(" is no pattern: `},
		{"a pattern that is no glob", "version: 1\nrules:\n  - tags: ['pr-[']", `line 3: "pr-[" is no pattern: `},
		{"an empty pattern", "version: 1\nrules:\n  - tags: ['']", `line 3: "" is no pattern: a pattern is empty`},
		{"an empty list", "version: 1\nrules:\n  - name: a\n    tags: []", "line 4: an empty list matches nothing"},
		{"a key without a value", "version: 1\nrules:\n  - name: a\n    tags:\n    keep-last: 3", "line 3: tags has no value"},
		{"no rules", "version: 1\nrules:\n", "line 1: rules has no value"},
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
		{"the same name twice", "version: 1\nrules:\n  - name: a\n  - name: a", `line 4: another rule is called "a" too`},
		{"a name of the report", "version: 1\nrules:\n  - name: floor", "line 3: a rule can't be called floor"},
		{"an empty rule", "version: 1\nrules:\n  -", "an item of rules is empty"},
		{"an empty entry of protect", "version: 1\nprotect: [~]", "an item of protect is empty"},
		{"a merge key", "version: 1\nrules:\n  - {keep-last: 10, <<: {keep-last: 1}}", "line 3: the merge key << is not supported"},
		{"a part of a tag", "version: 1\nrules:\n  - keep-last: 0.9", "line 3: want a number of tags"},
		{"an octal number", "version: 1\nrules:\n  - keep-last: 010", "line 3: want a number of tags"},
		{"two documents", "version: 1\n---\nversion: 1\nrules: [{tags: [a]}]", "it has more than one document"},
	} {
		p, err := Parse("policy.yml", []byte(test.content))
		switch {
		case err == nil:
			t.Errorf("%s: %+v is no error", test.name, p)
		case !strings.HasPrefix(err.Error(), "policy.yml: "+test.want) && !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n"):
			t.Errorf("%s: %v\nwant %s", test.name, err, test.want)
		}
	}
}
