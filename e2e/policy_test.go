package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"regsweep/internal/imagetest"
	"regsweep/policy"

	"github.com/opencontainers/go-digest"
)

// policyReport is what a run with a policy says about the tags.
type policyReport struct {
	Tags   []policyTag
	Policy struct {
		Skipped  []struct{ Repository, Reason string }
		Untagged []policy.UntaggedCount
	}
	Kept    []kept
	Garbage struct{ Blobs struct{ Bytes int64 } }
	Removed struct{ Blobs struct{ Bytes int64 } }
}

type policyTag struct {
	Repository, Tag, Verdict, Rule, Reason string
	Bytes                                  int64
}

// verdicts are lines such as "team/app:pr-1 remove by pull requests". Tags that follow a subject are left out.
func (r policyReport) verdicts() (lines []string) {
	for _, tag := range r.Tags {
		if tag.Rule == policy.BySubject {
			continue
		}
		line := tag.Repository + ":" + tag.Tag + " " + tag.Verdict + " by " + tag.Rule
		if tag.Reason != "" {
			line += ", " + tag.Reason
		}
		lines = append(lines, line)
	}
	return lines
}

// withPolicy runs gc with a policy on a stopped registry.
func (s *fixture) withPolicy(yaml string, flags ...string) (r policyReport) {
	s.Helper()
	path := filepath.Join(s.TempDir(), "policy.yml")
	s.must(os.WriteFile(path, []byte(yaml), 0o600))
	code, stdout, stderr := regsweep(s, append([]string{"gc", "--json", "--yes", "--registry-stopped", "--policy", path, s.tree.Root()}, flags...)...)
	if code != 0 && code != 4 { // 4: damage keeps something
		s.Fatalf("exit code %d: %s", code, stderr)
	}
	s.must(json.Unmarshal([]byte(stdout), &r))
	return r
}

const pullRequests = `
version: 1
protect:
  - {repositories: ["base/**"]}
rules:
  - name: pull requests
    tags: ["pr-*"]
    keep-last: 2
    keep-within: 15d
`

// signatureOf is the tag for the signature of a manifest, as cosign names it.
func signatureOf(d digest.Digest) string { return strings.Replace(string(d), ":", "-", 1) + ".sig" }

// newPullRequests has five tags of pull requests, pushed 50, 40, 30, 20 and 10 days ago, with signatures.
func newPullRequests(t *testing.T) (s *fixture, survivors []image) {
	s = newFixture(t)
	push := func(repository, tag string, days int, m *imagetest.Manifest) digest.Digest {
		d := s.plant(repository, tag, m)
		s.tree.Age(imagetest.TagPath(repository, tag), time.Duration(days)*day)
		return d
	}
	push("team/app", "latest", 0, app(1, 2))
	for i, days := range []int{50, 40, 30, 20, 10} {
		d := push("team/app", "pr-"+string(rune('1'+i)), days, app(1, 10+i))
		push("team/app", signatureOf(d), days, app(20+i))
	}
	push("team/app", "pr-old-name-of-latest", 60, app(1, 2))
	push("base/os", "pr-1", 90, app(1))
	survivors = []image{
		{repository: "team/app", references: []string{"latest", "pr-4", "pr-5", string(app(1, 13).Digest()), string(app(1, 14).Digest()), string(app(23).Digest()), string(app(24).Digest())}},
		{repository: "base/os", references: []string{"pr-1"}},
	}
	return s, survivors
}

// TestAPolicyRemovesTags: what a dry run says is what goes, what is kept can be pulled, and signatures go with
// their images.
func TestAPolicyRemovesTags(t *testing.T) {
	t.Parallel()
	s, survivors := newPullRequests(t)
	before := s.files()
	preview := s.withPolicy(pullRequests, "--dry-run")
	want := []string{
		"base/os:pr-1 keep by protect",
		"team/app:pr-1 remove by pull requests", "team/app:pr-2 remove by pull requests", "team/app:pr-3 remove by pull requests",
		"team/app:pr-4 keep by pull requests, keep-last", "team/app:pr-5 keep by pull requests, keep-last",
		"team/app:pr-old-name-of-latest remove by pull requests",
	}
	if got := preview.verdicts(); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	for i := range 3 { // the signatures of pr-1, pr-2 and pr-3
		sig := signatureOf(app(1, 10+i).Digest())
		if !slices.ContainsFunc(preview.Tags, func(of policyTag) bool {
			return of.Tag == sig && of.Verdict == "remove" && of.Rule == policy.BySubject && of.Bytes == 0
		}) {
			t.Errorf("%s is not reported", sig)
		}
	}
	if after := s.files(); len(after) != len(before) {
		t.Error("a dry run has removed something")
	}
	var alone int64
	for _, tag := range preview.Tags {
		if tag.Verdict == "remove" {
			alone += tag.Bytes
		}
	}
	run := s.withPolicy(pullRequests)
	var freed int64
	for path, size := range before {
		if _, isLeft := s.files()[path]; !isLeft && strings.HasSuffix(path, "/data") {
			freed += size
		}
	}
	if freed != preview.Garbage.Blobs.Bytes || freed != run.Removed.Blobs.Bytes || alone != freed {
		t.Errorf("%d bytes were freed; the preview said %d, the run %d, and the tags alone %d", freed, preview.Garbage.Blobs.Bytes, run.Removed.Blobs.Bytes, alone)
	}
	for path := range s.files() {
		for _, gone := range []digest.Digest{app(1, 10).Digest(), app(20).Digest(), app(21).Digest(), app(22).Digest()} {
			if strings.Contains(path, gone.Encoded()) {
				t.Errorf("%s is left", s.readable(path))
			}
		}
	}
	s.pull("after a policy", s.client, survivors)
	if again := s.withPolicy(pullRequests); again.Removed.Blobs.Bytes > 0 || len(again.Tags) != 3 {
		t.Errorf("a second run: %+v", again)
	}
}

// TestAPolicyCanBeUndone: a quarantine has the tags, and a restore brings them back with their push times.
func TestAPolicyCanBeUndone(t *testing.T) {
	t.Parallel()
	s, survivors := newPullRequests(t)
	before := s.shape()
	times := s.pushTimes()
	s.withPolicy(pullRequests, "--quarantine")
	s.pull("after a policy", s.client, survivors)
	if left := s.pushTimes(); len(left) != len(times)-7 {
		t.Errorf("%d of %d tags are left", len(left), len(times))
	}
	code, _, stderr := regsweep(s, "quarantine", "restore", "latest", s.tree.Root())
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	for path, content := range before {
		if s.shape()[path] != content {
			t.Errorf("%s is not back", s.readable(path))
		}
	}
	for path, at := range s.pushTimes() {
		if !at.Equal(times[path]) {
			t.Errorf("%s was pushed at %v, and now at %v", path, times[path], at)
		}
	}
}

// pushTimes are the times of the current links of all tags.
func (s *fixture) pushTimes() map[string]time.Time {
	s.Helper()
	times := map[string]time.Time{}
	for path := range s.files() {
		if strings.HasSuffix(path, "/current/link") {
			info, err := os.Stat(s.tree.Path(path))
			s.must(err)
			times[path] = info.ModTime()
		}
	}
	return times
}

// untag runs untag on a stopped registry.
func (s *fixture) untag(args ...string) (r policyReport) {
	s.Helper()
	code, stdout, stderr := regsweep(s, slices.Concat([]string{"untag", "--json", "--yes", "--registry-stopped"}, args, []string{s.tree.Root()})...)
	if code != 0 {
		s.Fatalf("exit code %d: %s", code, stderr)
	}
	s.must(json.Unmarshal([]byte(stdout), &r))
	return r
}

// TestUntag removes the tags of a pattern, those that hold a digest, and whole repositories.
func TestUntag(t *testing.T) {
	t.Parallel()
	s, _ := newPullRequests(t)
	if got := s.untag("team/*:pr-[12]").verdicts(); !slices.Equal(got, []string{"team/app:pr-1 remove by team/*:pr-[12]", "team/app:pr-2 remove by team/*:pr-[12]"}) {
		t.Errorf("a pattern: %q", got)
	}
	leaked := layer(13).Digest() // of pr-4
	holding := "holding " + string(leaked)
	untagged := s.plant("team/app", "", app(9))
	s.plant("solo", "only", app(13, 14))
	if got := s.untag("--holding", string(leaked), "solo", "team/app:pr-[1-3]").verdicts(); !slices.Equal(got, []string{"solo:only remove by solo " + holding}) {
		t.Errorf("tags that match and hold: %q", got)
	}
	if _, err := os.Stat(s.tree.Path("repositories/solo")); err != nil {
		t.Errorf("--holding has removed the directory of a repository: %v", err)
	}
	if got := s.untag("--holding", string(leaked), "--dry-run", "team/**").verdicts(); !slices.Equal(got, []string{"team/app:pr-4 remove by team/** " + holding}) {
		t.Errorf("whole repositories: %q", got)
	}
	if got := s.untag("--holding", string(leaked)).verdicts(); !slices.Equal(got, []string{"team/app:pr-4 remove by " + holding}) {
		t.Errorf("a leaked layer: %q", got)
	}
	for path := range s.files() {
		if strings.Contains(path, leaked.Encoded()) {
			t.Errorf("%s is left", path)
		}
	}
	s.pull("after untag", s.client, []image{{repository: "team/app", references: []string{"latest", "pr-3", "pr-5", string(untagged)}}, {repository: "base/os", references: []string{"pr-1"}}})
	s.plant("team/app", "leak", app(7, 8))
	s.plant("team/other", "", app(7))
	if code, _, stderr := regsweep(s, "untag", "-d", "--holding", string(layer(7).Digest()), s.tree.Root()); code != 0 || !strings.Contains(stderr, "stays: not only these tags keep it") {
		t.Errorf("an untagged manifest has the layer, too: exit code %d: %s", code, stderr)
	}
	if code, _, stderr := regsweep(s, "untag", "-d", "--holding", string(layer(8).Digest()), s.tree.Root()); code != 0 || strings.Contains(stderr, "stays") {
		t.Errorf("only a tag has the layer: exit code %d: %s", code, stderr)
	}
	if code, _, stderr := regsweep(s, "untag", "-d", "team/app:pr-3", "nobody:v1", s.tree.Root()); code != 0 || !strings.Contains(stderr, "nothing matches nobody:v1") {
		t.Errorf("one of two patterns: exit code %d: %s", code, stderr)
	}
	s.untag("base/**")
	for path := range s.files() {
		if strings.Contains(path, "base/os") {
			t.Errorf("%s is left of a whole repository", path)
		}
	}
	signature := string(layer(22).Digest()) // only the signature of pr-3 has it
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{s.tree.Root()}, "name the tags and then the target"},
		{[]string{"team/app:nothing-*", s.tree.Root()}, "nothing matches team/app:nothing-*"},
		{[]string{"nobody/**", s.tree.Root()}, "nothing matches nobody/**"},
		{[]string{"nobody/**", "nobody:v1", s.tree.Root()}, "nothing matches nobody/**"},
		{[]string{"team/app:[", s.tree.Root()}, "a bracket or brace is not closed"},
		{[]string{"--holding", signature, s.tree.Root()}, "the image of no tag has " + signature + ": regsweep why " + signature},
		{[]string{"--holding", string(layer(9).Digest()), "team/**", s.tree.Root()}, "the image of no tag has"},
		{[]string{"--holding", string(layer(12).Digest()), "team/app:pr-5", s.tree.Root()}, "nothing matches team/app:pr-5 holding "},
		{[]string{"--holding", "sha256:0123", s.tree.Root()}, "neither stored nor named"},
	} {
		code, _, stderr := regsweep(s, append([]string{"untag", "-q", "--registry-stopped"}, test.args...)...)
		if code != 2 || !strings.Contains(stderr, test.want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%q: exit code %d: %s", test.args, code, stderr)
		}
	}
}

// TestThePlanOfAPolicyIsApplied: a tag that was pushed again after the review stays, and so does an image that
// has another name since.
func TestThePlanOfAPolicyIsApplied(t *testing.T) {
	t.Parallel()
	s, survivors := newPullRequests(t)
	plan := filepath.Join(t.TempDir(), "plan.jsonl")
	s.withPolicy(pullRequests, "--dry-run", "--plan", plan)
	s.plant("team/app", "pr-1", app(1, 30))
	s.tree.Tag("team/app", "v2", app(1, 11).Digest()) // the image of pr-2
	s.ageRecent()
	code, _, stderr := regsweep(s, "apply", "--json", "--yes", "--registry-stopped", plan, s.tree.Root())
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	survivors[0].references = append(survivors[0].references, "pr-1", "v2", string(app(21).Digest())) // with the signature of the image
	s.pull("after apply", s.client, survivors)
	left := slices.Collect(maps.Keys(s.pushTimes()))
	for _, gone := range []string{"pr-2", "pr-3", "pr-old-name-of-latest"} {
		if slices.ContainsFunc(left, func(path string) bool { return strings.Contains(path, "/"+gone+"/") }) {
			t.Errorf("%s is left", gone)
		}
	}
	if len(left) != len(survivors[0].references)-5+1+3 {
		t.Errorf("the tags %q are left", left)
	}
}

// TestAPolicyFreesOnlyAsMuchAsAsked: the oldest tags go first, and the others are spared.
func TestAPolicyFreesOnlyAsMuchAsAsked(t *testing.T) {
	t.Parallel()
	s, _ := newPullRequests(t)
	all := s.withPolicy(pullRequests, "--dry-run")
	for _, test := range []struct {
		free string
		want []string // tags that are removed, the oldest first
	}{
		{"1B", []string{"pr-1", "pr-old-name-of-latest"}}, // the older one frees nothing alone
		{fmt.Sprint(all.Garbage.Blobs.Bytes, "B"), []string{"pr-1", "pr-2", "pr-3", "pr-old-name-of-latest"}},
		{"1TB", []string{"pr-1", "pr-2", "pr-3", "pr-old-name-of-latest"}},
	} {
		run := s.withPolicy(pullRequests, "--dry-run", "--free", test.free)
		var removed []string
		spared := 0
		for _, tag := range run.Tags {
			if tag.Verdict == "remove" && tag.Rule != policy.BySubject {
				removed = append(removed, tag.Tag)
			}
			if tag.Rule == "free" {
				spared++
			}
		}
		if !slices.Equal(removed, test.want) || spared != 4-len(test.want) {
			t.Errorf("%s: %q is removed, and %d tags are spared", test.free, removed, spared)
		}
	}
}

// TestAPolicyKeepsYoungAndDamagedTags: the verdicts say what a run really does.
func TestAPolicyKeepsYoungAndDamagedTags(t *testing.T) {
	t.Parallel()
	s, survivors := newPullRequests(t)
	s.write("repositories/base/web/_manifests/tags/broken/current/link", "no digest")
	s.plant("base/web", "pr-1", app(40))
	run := s.withPolicy("version: 1\nrules: [{name: all, tags: [\"pr-*\"]}]\nfloor: {keep-newest: 0}\n", "--min-age", "25d")
	want := []string{
		"base/os:pr-1 remove by all", "base/web:pr-1 keep by min-age",
		"team/app:pr-1 remove by all", "team/app:pr-2 remove by all", "team/app:pr-3 remove by all",
		"team/app:pr-4 keep by min-age", "team/app:pr-5 keep by min-age", "team/app:pr-old-name-of-latest remove by all",
	}
	if got := run.verdicts(); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	s.pull("after a policy with --min-age", s.client, survivors[:1])
	run = s.withPolicy("version: 1\nrules: [{name: all, tags: [\"pr-*\"]}]\nfloor: {keep-newest: 0}\n")
	want = []string{"base/web:pr-1 keep by damage", "team/app:pr-4 remove by all", "team/app:pr-5 remove by all"}
	if got := run.verdicts(); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	s.pull("after a policy on a damaged repository", s.client, []image{{repository: "base/web", references: []string{"pr-1"}}, {repository: "team/app", references: []string{"latest"}}})
}

// TestTheSummarySaysWhatProtectKeeps: -m does not remove what a protected repository keeps, so the summary must not
// say so, also not of a blob that another repository has too.
func TestTheSummarySaysWhatProtectKeeps(t *testing.T) {
	t.Parallel()
	s, _ := newPullRequests(t)
	s.plant("alpha", "latest", app(50))
	s.plant("alpha", "", app(51))
	s.plant("alpha", "", app(52))
	s.plant("base/os", "", app(51))
	path := filepath.Join(t.TempDir(), "policy.yml")
	s.must(os.WriteFile(path, []byte(pullRequests), 0o600))
	for _, test := range []struct {
		flag, want string
		hint       bool // -m would remove more
	}{
		{"--yes", "[{protected base/os 3 3} {untagged alpha 3 6}]", true},
		{"-m", "[{protected base/os 3 3}]", false},
	} {
		type row struct {
			reason, repository string
			blobs, links       int
		}
		var rows []row
		for _, k := range s.withPolicy(pullRequests, "-d", test.flag).Kept {
			rows = append(rows, row{k.Reason, k.Repository, k.Blobs, k.Links})
		}
		if got := fmt.Sprint(rows); got != test.want {
			t.Errorf("%s: got %s, want %s", test.flag, got, test.want)
		}
		_, stdout, _ := regsweep(s, "gc", "-d", test.flag, "--registry-stopped", "--policy", path, s.tree.Root())
		if strings.Contains(stdout, "go with -m") != test.hint || !strings.Contains(stdout, "kept by protect\n    base/os") {
			t.Errorf("%s:\n%s", test.flag, stdout)
		}
	}
}

// TestPolicyCheck counts what each rule and each entry of protect matches. It and gc warn about those that match
// nothing.
func TestPolicyCheck(t *testing.T) {
	t.Parallel()
	s, _ := newPullRequests(t)
	dir := t.TempDir()
	write := func(name, content string) string {
		s.must(os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
		return filepath.Join(dir, name)
	}
	write("in-use.txt", "team/app:pr-1\nteam/app:pr-9\nteam/app:pr-8\n")
	path := write("policy.yml", `
version: 1
protect:
  - {repositories: ["base/**"]}
  - {repositories: ["team/*"], tags: ["latest", "v[0-9]*"]}
  - {tags: ["latst"]}
  - {digests: in-use.txt}
rules:
  - {name: pull requests, tags: ["pr-*"], keep-last: 2}
  - {name: typo, tags: ["rp-*"]}
  - untagged: {older-than: 7d}
`)
	code, stdout, stderr := regsweep(s, "policy", "check", "--json", path, s.tree.Root())
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	type entries struct{ Entries, Found int }
	var report struct {
		Rules   []policy.RuleCount
		Protect []struct {
			policy.ProtectionCount
			List entries
		}
	}
	s.must(json.Unmarshal([]byte(stdout), &report))
	want := []policy.RuleCount{{Rule: "pull requests", Tags: 7, Repositories: 2}, {Rule: "typo"}, {Rule: "rule 3", Untagged: 2}}
	if !slices.Equal(report.Rules, want) {
		t.Errorf("got %+v, want %+v", report.Rules, want)
	}
	protect := fmt.Sprint(report.Protect)
	if want := "[{{repositories: [base/**] 1 1} {0 0}} {{repositories: [team/*], tags: [latest, v[0-9]*] 1 1} {0 0}} {{tags: [latst] 0 0} {0 0}} {{digests: " + "in-use.txt 13 2} {3 1}}]"; protect != want {
		t.Errorf("got %s, want %s", protect, want)
	}
	const notFound = "Not found: 2 of the 3 entries in "
	for _, want := range []string{"UNTAGGED IN REPOSITORIES", "1 of 3\n", notFound, "Warning: nothing matches the entry of protect tags: [latst].", "Warning: nothing matches the rule typo."} {
		if _, stdout, _ := regsweep(s, "policy", "check", path, s.tree.Root()); !strings.Contains(stdout, want) {
			t.Errorf("%q is not in\n%s", want, stdout)
		}
	}
	_, stdout, stderr = regsweep(s, "gc", "-d", "--registry-stopped", "--policy", path, s.tree.Root())
	for _, want := range []string{"warning: " + path + ": nothing matches the entry of protect tags: [latst]\n", "warning: " + path + ": nothing matches the rule typo\n"} {
		if !strings.Contains(stderr, want) {
			t.Errorf("%q is not in\n%s", want, stderr)
		}
	}
	if strings.Count(stderr, "warning") != 2 || !strings.Contains(stdout, notFound) || !strings.Contains(stdout, "line 2: team/app:pr-9: there is no such tag") {
		t.Errorf("%s\n%s", stdout, stderr)
	}
	_, stdout, _ = regsweep(s, "gc", "-d", "--json", "--registry-stopped", "--policy", path, s.tree.Root())
	var run struct{ Protect []entries }
	if s.must(json.Unmarshal([]byte(stdout), &run)); fmt.Sprint(run.Protect) != "[{3 1}]" {
		t.Errorf("lists: %v", run.Protect)
	}
}

// TestAPolicySaysHowManyUntaggedManifestsGo: of each rule, and only of those that are old enough and that nothing else
// keeps.
func TestAPolicySaysHowManyUntaggedManifestsGo(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	plant := func(repository string, days, n int) {
		d := s.plant(repository, "", app(n))
		s.tree.Age(imagetest.RevisionPath(repository, d), time.Duration(days)*day)
	}
	s.plant("team/app", "latest", app(1))
	plant("team/app", 9, 2)
	plant("team/app", 9, 3)
	plant("team/app", 1, 4)
	s.plant("team/app", "", imagetest.Index(imagetest.OCI, app(6))) // a young one, which keeps the old image
	plant("team/app", 9, 6)
	plant("team/web", 9, 2)
	plant("base/os", 9, 5)
	run := s.withPolicy(`
version: 1
protect: [{repositories: ["base/**"]}]
rules:
  - {name: short, untagged: {older-than: 1h}}
  - {name: long, repositories: ["team/**"], untagged: {older-than: 7d}}
`, "-d")
	if got := fmt.Sprint(run.Policy.Untagged); got != "[{short 0 0} {long 2 3}]" {
		t.Errorf("got %s", got)
	}
}

// TestAPolicyIsRefused: a mistake in a policy is one line with its place, and nothing is removed.
func TestAPolicyIsRefused(t *testing.T) {
	t.Parallel()
	s, _ := newPullRequests(t)
	before := len(s.files())
	dir := t.TempDir()
	for i, test := range []struct{ yaml, want string }{
		{"version: 1\nrules:\n  - keep-lst: 3\n", "line 3: there is no key keep-lst here"},
		{"version: 1\nprotect:\n  - digests: missing.txt\n", "b: line 3: open " + filepath.Join(dir, "missing.txt")},
	} {
		path := filepath.Join(dir, string(rune('a'+i)))
		s.must(os.WriteFile(path, []byte(test.yaml), 0o600))
		code, _, stderr := regsweep(s, "gc", "--registry-stopped", "--policy", path, s.tree.Root())
		if code != 2 || !strings.Contains(stderr, test.want) || strings.Count(stderr, "\n") > 1 {
			t.Errorf("%q: exit code %d: %s", test.yaml, code, stderr)
		}
	}
	if after := len(s.files()); after != before {
		t.Errorf("%d of %d files are left", after, before)
	}
}

// TestAPolicyReadsItsLists: the path of a list is relative to the policy, also if it is called -. A list of which
// nothing is stored is refused without --allow-empty.
func TestAPolicyReadsItsLists(t *testing.T) {
	t.Parallel()
	s, _ := newPullRequests(t)
	dir := t.TempDir()
	write := func(name, content string) string {
		s.must(os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
		return filepath.Join(dir, name)
	}
	rest := "\nrules: [{name: all, tags: [\"pr-*\"]}]\nfloor: {keep-newest: 0}\n"
	path := write("policy.yml", "version: 1\nprotect: [{digests: ./-}]"+rest)
	for _, list := range []string{"", "# nothing\n", "other.example/nothing:v1\n"} {
		write("-", list)
		code, _, stderr := regsweep(s, "gc", "-d", "--registry-stopped", "--policy", path, s.tree.Root())
		if code != 3 || !strings.Contains(stderr, path+": protect: ") || !strings.Contains(stderr, "--allow-empty") || strings.Count(stderr, "\n") > 2 {
			t.Errorf("%q: exit code %d: %s", list, code, stderr)
		}
		code, _, stderr = regsweep(s, "gc", "-d", "--allow-empty", "--registry-stopped", "--policy", path, s.tree.Root())
		if code != 0 {
			t.Errorf("%q with --allow-empty: exit code %d: %s", list, code, stderr)
		}
	}
	write("-", "some.example:5000/team/app:pr-1\n")
	var run policyReport
	_, stdout, _ := regsweep(s, "gc", "-d", "--json", "--registry-stopped", "--policy", path, s.tree.Root())
	s.must(json.Unmarshal([]byte(stdout), &run))
	if got := run.verdicts(); !slices.Contains(got, "team/app:pr-1 keep by protect") || !slices.Contains(got, "team/app:pr-2 remove by all") {
		t.Errorf("got %q", got)
	}
}

// TestASkippedRepositoryIsNamed: if the rules would remove more than max-share of a repository, they remove nothing
// there. Also a run with --quiet says so.
func TestASkippedRepositoryIsNamed(t *testing.T) {
	t.Parallel()
	s, _ := newPullRequests(t)
	before := len(s.files())
	path := filepath.Join(t.TempDir(), "policy.yml")
	s.must(os.WriteFile(path, []byte(pullRequests+"floor: {max-share: 10%}\n"), 0o600))
	for _, flag := range []string{"--quiet", "--quiet=false"} {
		code, stdout, stderr := regsweep(s, "gc", "--yes", "--registry-stopped", "--policy", path, s.tree.Root(), flag)
		if text := strings.Join(strings.Fields(stdout+stderr), " "); code != 0 || !strings.Contains(text, "team/app is left alone: the rules would remove 4 of 7 tags, and max-share is 10%") {
			t.Errorf("%s: exit code %d: %s", flag, code, text)
		}
	}
	if after := len(s.files()); after != before {
		t.Errorf("%d files are left of %d", after, before)
	}
}
