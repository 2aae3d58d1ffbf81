package e2e

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"regsweep/internal/imagetest"

	"github.com/opencontainers/go-digest"
)

// everyPullRequest removes all tags of pull requests.
const everyPullRequest = `
version: 1
protect:
  - {repositories: ["base/**"]}
  - {tags: ["stable"]}
rules:
  - name: pull requests
    tags: ["pr-*"]
  - name: others # it keeps the tag, and the list does not
    tags: ["unknown"]
    keep-last: 5
floor: {keep-newest: 0}
`

// TestAPolicyWithRoots: the roots are the list and the tags that protect protects. So a protected tag survives
// that the list does not name, a listed digest survives a rule, and a tag goes that neither of them keeps.
func TestAPolicyWithRoots(t *testing.T) {
	t.Parallel()
	s, _ := newPullRequests(t)
	s.plant("team/app", "stable", app(1, 30))
	s.plant("team/app", "unknown", app(1, 31))
	s.plant("team/app", "pr-index", imagetest.Index(imagetest.OCI, app(1, 32), app(1, 33)))
	s.plant("team/app", "other-name", app(1, 11)) // of what the list names
	list := s.list(
		"docker-pullable://registry.example.com:5000/team/app@"+app(1, 11).Digest().String(), // pr-2
		"team/app@"+app(1, 32).Digest().String())                                             // a platform of pr-index
	preview := s.withPolicy(everyPullRequest, "--dry-run", "--roots", list)
	want := []string{
		"base/os:pr-1 keep by protect",
		"team/app:latest remove by roots",
		"team/app:pr-1 remove by pull requests", "team/app:pr-2 keep by protect", "team/app:pr-3 remove by pull requests",
		"team/app:pr-4 remove by pull requests", "team/app:pr-5 remove by pull requests",
		"team/app:pr-index keep by protect", "team/app:pr-old-name-of-latest remove by pull requests",
		"team/app:unknown remove by roots",
	}
	if got := preview.verdicts(); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	before := len(s.pushTimes())
	run := s.withPolicy(everyPullRequest, "--roots", list)
	if got := run.verdicts(); !slices.Equal(got, want) || run.Removed.Blobs.Bytes != preview.Garbage.Blobs.Bytes {
		t.Errorf("the run says %q", got)
	}
	s.pull("after a policy with --roots", s.client, []image{
		{repository: "base/os", references: []string{"pr-1"}},
		{repository: "team/app", references: []string{"pr-2", "other-name", "stable", "pr-index", string(app(1, 33).Digest()), string(app(21).Digest())}},
	})
	removed := 0
	for _, tag := range run.Tags {
		if tag.Verdict == "remove" {
			removed++
		}
	}
	if left := len(s.pushTimes()); left != before-removed {
		t.Errorf("%d of %d tags are left, and the report has %d removed ones", left, before, removed)
	}
	if again := s.withPolicy(everyPullRequest, "--roots", list); again.Removed.Blobs.Bytes > 0 {
		t.Errorf("a second run removes %d bytes", again.Removed.Blobs.Bytes)
	}
}

// TestAKilledRunWithAPolicyAndRootsConverges: wherever a run ends, the next one ends as if it had not been killed.
func TestAKilledRunWithAPolicyAndRootsConverges(t *testing.T) {
	t.Parallel()
	s, _ := newPullRequests(t)
	s.plant("team/app", "stable", app(1, 30))
	s.plant("team/app", "unknown", app(1, 31))
	s.plant("team/app", signatureOf(app(1, 31).Digest()), app(41))
	s.push("team/app", imagetest.Referrer(app(1, 31), "application/vnd.example.sbom", []byte("of unknown")))
	list, dir := s.list("team/app@"+app(1, 11).Digest().String()), t.TempDir()
	s.must(os.WriteFile(filepath.Join(dir, "policy.yml"), []byte(everyPullRequest), 0o600))
	gc := func(root string, flags ...string) {
		t.Helper()
		args := append([]string{"gc", "--json", "--yes", "--registry-stopped", "--policy", filepath.Join(dir, "policy.yml"), "--roots", list, root}, flags...)
		if code, _, stderr := regsweep(s, args...); code != 0 {
			t.Fatalf("%q: exit code %d: %s", flags, code, stderr)
		}
	}
	plan := filepath.Join(dir, "plan.jsonl")
	gc(s.tree.Root(), "--dry-run", "--plan", plan)
	content, err := os.ReadFile(plan)
	s.must(err)
	var removals []string
	for line := range strings.Lines(string(content)) {
		var removal struct{ Path string }
		s.must(json.Unmarshal([]byte(line), &removal))
		if removal.Path != "" {
			removals = append(removals, removal.Path)
		}
	}
	names := func(root string) (names []string) {
		s.must(filepath.WalkDir(filepath.Join(root, layoutRoot), func(path string, of fs.DirEntry, err error) error {
			if err == nil && !of.IsDir() && !strings.Contains(path, ".regsweep") {
				names = append(names, strings.TrimPrefix(path, root))
			}
			return err
		}))
		return names
	}
	var want []string
	for k := len(removals); k >= 0; k -= 5 {
		root := filepath.Join(dir, fmt.Sprint(k))
		s.must(exec.CommandContext(t.Context(), "cp", "-a", s.tree.Root(), root).Run())
		if k < len(removals) {
			for _, path := range removals[:k] {
				s.must(os.RemoveAll(filepath.Join(root, path)))
			}
		}
		gc(root)
		if got := names(root); want == nil {
			want = got
		} else if !slices.Equal(got, want) {
			t.Errorf("killed after %d of %d removals: got\n%s\nwant\n%s", k, len(removals), strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	if len(removals) < 40 || slices.ContainsFunc(want, func(path string) bool { return strings.Contains(path, "/tags/unknown/") }) {
		t.Errorf("the plan has %d removals, and left are %q", len(removals), want)
	}
}

// TestAListThatChangesBeforeApply: a tag whose image the list names now survives the plan that was made with the
// list of yesterday.
func TestAListThatChangesBeforeApply(t *testing.T) {
	t.Parallel()
	for _, flag := range []string{"--roots", "--keep-digests"} {
		s, _ := newPullRequests(t)
		index := imagetest.Index(imagetest.OCI, app(1, 32), app(1, 33))
		s.plant("team/app", "pr-index", index)
		s.tree.Age(imagetest.TagPath("team/app", "pr-index"), 70*day)
		name := func(d digest.Digest) string { return "team/app@" + string(d) }
		plan := filepath.Join(t.TempDir(), "plan.jsonl")
		s.withPolicy(everyPullRequest, "--dry-run", "--plan", plan, flag, s.list(name(app(1, 11).Digest())))
		list := s.list(name(app(1, 11).Digest()), name(app(1, 10).Digest()), name(app(1, 32).Digest()))
		code, _, stderr := regsweep(s, "apply", "--json", "--yes", "--registry-stopped", flag, list, plan, s.tree.Root())
		if code != 0 {
			t.Fatalf("%s: exit code %d: %s", flag, code, stderr)
		}
		s.pull("after apply with "+flag, s.client, []image{{repository: "team/app", references: []string{"pr-1", "pr-2", "pr-index", string(app(1, 33).Digest())}}})
		for path := range s.pushTimes() {
			if strings.Contains(path, "/pr-3/") {
				t.Errorf("%s: %s is left", flag, path)
			}
		}
	}
}

// TestOrphanedSignaturesAreReported: the row of the tag says why it goes, and what that frees.
func TestOrphanedSignaturesAreReported(t *testing.T) {
	t.Parallel()
	s, _ := newPullRequests(t)
	orphan := signatureOf(digest.FromString("gone"))
	s.plant("team/app", orphan, app(40))
	s.tree.Age(imagetest.TagPath("team/app", orphan), time.Hour)
	const nothing = "version: 1\n"
	if run := s.withPolicy(nothing); len(run.Tags) > 0 {
		t.Errorf("without --orphaned-signatures: %+v", run.Tags)
	}
	run := s.withPolicy(nothing, "--orphaned-signatures")
	if got := run.verdicts(); !slices.Equal(got, []string{"team/app:" + orphan + " remove by orphan"}) || run.Tags[0].Bytes != run.Removed.Blobs.Bytes {
		t.Errorf("%d bytes were removed, and the report says %+v", run.Removed.Blobs.Bytes, run.Tags)
	}
}

// TestUntagWithRootsIsRefused: it would remove all other tags too.
func TestUntagWithRootsIsRefused(t *testing.T) {
	t.Parallel()
	s, _ := newPullRequests(t)
	code, stdout, _ := regsweep(s, "untag", "--json", "--registry-stopped", "--roots", s.list("team/app:latest"), "team/app:pr-1", s.tree.Root())
	var report struct{ Error string }
	s.must(json.Unmarshal([]byte(stdout), &report))
	if code != 2 || !strings.Contains(report.Error, "every other tag") {
		t.Errorf("exit code %d: %s", code, report.Error)
	}
}
