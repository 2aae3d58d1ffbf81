package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"regsweep/internal/imagetest"

	"github.com/opencontainers/go-digest"
)

// TestApplyKeepsWhatHasChangedSinceThePlan: the registry went on after the review of a policy's plan.
// Everything that somebody may want since then stays whole, and the rest of the plan is removed.
func TestApplyKeepsWhatHasChangedSinceThePlan(t *testing.T) {
	t.Parallel()
	pr1, pr2 := app(1, 10), app(1, 11)
	signatureTag := func(of *imagetest.Manifest, suffix string) string {
		return strings.Replace(string(of.Digest()), ":", "-", 1) + suffix
	}
	for name, test := range map[string]struct {
		change func(s *fixture)
		kept   []string // references in team/app that the plan names or that are new
		gone   []digest.Digest
	}{
		"nothing": {func(*fixture) {}, nil, []digest.Digest{pr1.Digest(), pr2.Digest(), app(20).Digest(), app(19).Digest()}},
		"the tag was pushed again": {
			func(s *fixture) { s.tree.Tag("team/app", "pr-1", pr1.Digest()) },
			[]string{"pr-1", string(pr1.Digest()), signatureTag(pr1, ".sig"), string(app(20).Digest())}, []digest.Digest{pr2.Digest()},
		},
		"the tag was pushed with another image": {
			func(s *fixture) { s.plant("team/app", "pr-1", app(1, 30)) },
			[]string{"pr-1", string(app(1, 30).Digest())}, []digest.Digest{pr1.Digest(), pr2.Digest()},
		},
		"the image has another tag": {
			func(s *fixture) { s.tree.Tag("team/app", "v2", pr1.Digest()) },
			[]string{"v2", string(pr1.Digest()), signatureTag(pr1, ".sig"), string(app(19).Digest())}, []digest.Digest{pr2.Digest()},
		},
		"the signature was pushed again": {
			func(s *fixture) { s.tree.Tag("team/app", signatureTag(pr1, ".sig"), app(20).Digest()) },
			[]string{signatureTag(pr1, ".sig"), string(app(20).Digest())}, []digest.Digest{pr1.Digest(), pr2.Digest()},
		},
		"a signature was pushed": {
			func(s *fixture) { s.plant("team/app", signatureTag(pr1, ".att"), app(31)) },
			[]string{signatureTag(pr1, ".att"), string(app(31).Digest())}, []digest.Digest{pr1.Digest(), pr2.Digest()},
		},
		"an index with the image was pushed": {
			func(s *fixture) { s.plant("team/app", "all", imagetest.Index(imagetest.OCI, pr1)) },
			[]string{"all", string(pr1.Digest()), signatureTag(pr1, ".sig")}, []digest.Digest{pr2.Digest()},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, survivors := newPullRequests(t)
			s.tree.TagIndex("team/app", signatureTag(pr1, ".sig"), s.plant("team/app", "", app(19))) // an earlier signature
			plan := filepath.Join(t.TempDir(), "plan.jsonl")
			s.withPolicy(pullRequests, "--dry-run", "--plan", plan)
			test.change(s)
			s.ageRecent()
			run := s.reported("apply", "--json", "--yes", "--registry-stopped", plan, s.tree.Root())
			if run.code != 0 {
				t.Fatalf("it ends with %d: %s", run.code, run.report.Error)
			}
			survivors[0].references = append(survivors[0].references, test.kept...)
			s.pull(name, s.client, survivors)
			s.hasWholeTags()
			for _, gone := range test.gone {
				if s.tree.Exists(imagetest.BlobPath(gone)) {
					t.Errorf("%s is left", s.readable(string(gone)))
				}
			}
		})
	}
}

// ageRecent makes new files a minute old: a run stops if one may have been written while it runs.
func (s *fixture) ageRecent() {
	s.Helper()
	ago := time.Now().Add(-time.Minute)
	for path := range s.files() {
		info, err := os.Stat(s.tree.Path(path))
		s.must(err)
		if info.ModTime().After(ago) {
			s.must(os.Chtimes(s.tree.Path(path), ago, ago))
		}
	}
}

// TestAPartOfAPolicysPlanIsApplied: lines were taken out of the plan. Whatever is missing, each tag is whole or
// gone, and each remaining tag pulls.
func TestAPartOfAPolicysPlanIsApplied(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(line string) string{
		"without current links":   func(line string) string { return lineWithout(line, `"kind":"tag"`) },
		"without index entries":   func(line string) string { return lineWithout(line, `"kind":"tag_index_entry"`) },
		"without earlier entries": func(line string) string { return lineWithout(line, `"kind":"earlier_entry"`) },
		"without revisions":       func(line string) string { return lineWithout(line, `"kind":"revision"`) },
		"without layer links":     func(line string) string { return lineWithout(line, `"kind":"layer_link"`) },
		"without blobs":           func(line string) string { return lineWithout(line, `"kind":"blob"`) },
		"without a tag":           func(line string) string { return lineWithout(line, `"tag":"pr-2"`) },
		"without push times":      func(line string) string { return strings.ReplaceAll(line, `"pushed"`, `"was_pushed"`) },
		"of an earlier version":   func(line string) string { return strings.Replace(line, `,"removes_tags":true`, "", 1) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, survivors := newPullRequests(t)
			s.tree.TagIndex("team/app", "pr-2", app(1, 10).Digest()) // it moved
			plan := filepath.Join(t.TempDir(), "plan.jsonl")
			s.withPolicy(pullRequests, "--dry-run", "--plan", plan)
			content, err := os.ReadFile(plan)
			s.must(err)
			var edited strings.Builder
			for line := range strings.Lines(string(content)) {
				edited.WriteString(edit(line))
			}
			if edited.String() == string(content) {
				t.Fatal("nothing was taken out")
			}
			s.must(os.WriteFile(plan, []byte(edited.String()), 0o600))
			run := s.reported("apply", "--partial", "--json", "--yes", "--registry-stopped", plan, s.tree.Root())
			if run.code != 0 {
				t.Fatalf("it ends with %d: %s", run.code, run.report.Error)
			}
			for path := range s.pushTimes() {
				repository, tag, _ := strings.Cut(strings.TrimPrefix(strings.TrimSuffix(path, "/current/link"), "repositories/"), "/_manifests/tags/")
				survivors = append(survivors, image{repository: repository, references: []string{tag}})
			}
			s.pull(name, s.client, survivors)
			s.hasWholeTags()
		})
	}
}

func lineWithout(line, text string) string {
	if strings.Contains(line, text) {
		return ""
	}
	return line
}

// hasWholeTags fails the test if a tag has index entries and no current link.
func (s *fixture) hasWholeTags() {
	s.Helper()
	files := s.files()
	for path := range files {
		if tag, _, isEntry := strings.Cut(path, "/index/"); isEntry && strings.Contains(tag, "/_manifests/tags/") {
			if _, isWhole := files[tag+"/current/link"]; !isWhole {
				s.Errorf("%s has no current link", s.readable(path))
			}
		}
	}
}

// TestApplyOnS3KeepsATagThatWasPushedAgain: the times of a listing show that a tag was pushed again.
func TestApplyOnS3KeepsATagThatWasPushedAgain(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	s.plant("team/app", "latest", app(1, 2))
	s.plant("team/app", "pr-1", app(1, 3))
	s.plant("team/app", "pr-2", app(1, 4))
	s.moveToBucket()
	s.must(s.registry.SetReadOnly(true))
	config, plan := s.config(s.registry.ConfigYAML()), filepath.Join(t.TempDir(), "plan.jsonl")
	if code, _, stderr := regsweep(s, "untag", "-d", "--plan", plan, "--no-cache", "team/app:pr-*", config); code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(1100 * time.Millisecond))) // servers may keep whole seconds
	s.write(imagetest.TagPath("team/app", "pr-1"), string(app(1, 3).Digest()))
	config = s.config(s.registry.ConfigYAML()) // it is read-only since the push
	code, stdout, stderr := regsweep(s, "apply", "--json", "--no-cache", "--yes", plan, config)
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	var report gcReport
	s.must(json.Unmarshal([]byte(stdout), &report))
	isLeftOut := false
	for _, of := range report.LeftOut {
		isLeftOut = isLeftOut || of.Kind == "tag" && of.Reason == "gone" && of.Count == 1
	}
	if !isLeftOut || report.Removed.Tags.Count != 1 {
		t.Errorf("%+v", report)
	}
	s.pull("after apply", s.client, []image{pulls("team/app", "latest", "pr-1", app(1, 3))})
}

// TestAHardLinkedBlobFreesNothing: a backup with hard links keeps the space of what a policy removes. So the preview
// of the tag does not count it.
func TestAHardLinkedBlobFreesNothing(t *testing.T) {
	t.Parallel()
	s, _ := newPullRequests(t)
	bytes := func() (of int64) {
		for _, tag := range s.withPolicy(pullRequests, "--dry-run").Tags {
			if tag.Repository == "team/app" && tag.Tag == "pr-1" {
				of = tag.Bytes
			}
		}
		return of
	}
	all := bytes()
	s.must(os.Link(s.tree.Path(imagetest.BlobPath(layer(10).Digest())), filepath.Join(t.TempDir(), "backup")))
	if got, want := bytes(), all-int64(len(layer(10).Content)); got != want || want <= 0 {
		t.Errorf("pr-1 alone frees %d bytes, want %d", got, want)
	}
}

// TestThePolicyIsNoFile: a policy comes from standard input or a pipe. What can't be a policy is one line, and a pipe
// in which nobody writes does not keep the run from ending.
func TestThePolicyIsNoFile(t *testing.T) {
	t.Parallel()
	s, _ := newPullRequests(t)
	dir := t.TempDir()
	pipe, large := filepath.Join(dir, "pipe"), filepath.Join(dir, "large.yml")
	s.must(syscall.Mkfifo(pipe, 0o600))
	s.must(os.WriteFile(large, []byte(pullRequests+strings.Repeat("# much\n", 1<<18)), 0o600))
	for path, want := range map[string]string{dir: "is a directory", large: "has more than 1 MiB", filepath.Join(dir, "none"): "no such file", "/dev/zero": "has more than 1 MiB"} {
		code, _, stderr := regsweep(s, "gc", "-dq", "--policy", path, s.tree.Root())
		if code != 2 || !strings.Contains(stderr, want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s: exit code %d: %s", path, code, stderr)
		}
	}
	var out, errs output
	if code := regsweepWith(s, strings.NewReader(pullRequests), &out, &errs, "gc", "-dq", "--json", "--policy", "-", s.tree.Root()); code != 0 || !strings.Contains(out.String(), `"pull requests"`) {
		t.Errorf("standard input: exit code %d: %s", code, &errs)
	}
	for _, list := range []string{"--keep-digests", "--roots"} {
		code, _, stderr := regsweep(s, "gc", "-dq", "--policy", "-", list, "-", s.tree.Root())
		if code != 2 || !strings.Contains(stderr, "only one of --policy -,") || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s -: exit code %d: %s", list, code, stderr)
		}
	}
	run := start(t, "gc", "-d", "--policy", pipe, s.tree.Root())
	eventually(t, "it reads the pipe", func() bool {
		writer, err := os.OpenFile(pipe, os.O_WRONLY|syscall.O_NONBLOCK, 0)
		if err == nil {
			t.Cleanup(func() { _ = writer.Close() })
		}
		return err == nil
	})
	run.signal(t, os.Interrupt)
	if code := run.exit(t); code != 130 {
		t.Errorf("a pipe in which nobody writes: exit code %d: %s", code, &run.stderr)
	}
}

// TestHarborsTagsAreNotRemoved: a policy, untag and a plan of them are refused without a list of what Harbor needs.
func TestHarborsTagsAreNotRemoved(t *testing.T) {
	t.Parallel()
	s, survivors := newPullRequests(t)
	s.must(s.registry.SetReadOnly(true))
	before := len(s.files())
	plain := s.config(s.registry.ConfigYAML())
	harbor := s.config(s.registry.ConfigYAML() + "auth:\n  htpasswd:\n    realm: harbor-registry-basic-realm\n    path: /etc/registry/passwd\n")
	policy, plan := s.policyFile(pullRequests), filepath.Join(t.TempDir(), "plan.jsonl")
	if code, _, stderr := regsweep(s, "gc", "-d", "--policy", policy, "--plan", plan, plain); code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	for _, args := range [][]string{
		{"gc", "--policy", policy}, {"gc", "--policy", policy, "--registry-stopped"}, {"gc", "-d", "--policy", policy},
		{"untag", "team/app:pr-*"}, {"untag", "team/app:pr-*", "--quarantine"}, {"apply", plan}, {"apply", "-d", plan},
	} {
		if code, _, stderr := regsweep(s, append(args, "--yes", harbor)...); code != 3 || !strings.Contains(stderr, "--keep-digests FILE") {
			t.Errorf("%q ends with %d: %s", args, code, stderr)
		}
	}
	for _, args := range [][]string{{"gc", "--policy", policy}, {"untag", "team/app:pr-*"}} {
		if code, _, stderr := regsweep(s, append(args, "--unsafe-online", "--yes", plain)...); code != 2 || !strings.Contains(stderr, "a policy needs the proof") {
			t.Errorf("%q --unsafe-online ends with %d: %s", args, code, stderr)
		}
	}
	if code, _, stderr := regsweep(s, "gc", "-d", "--policy", policy, "--min-age", "24h", "--plan", plan, plain); code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	if code, _, stderr := regsweep(s, "apply", plan, "--unsafe-online", "--yes", plain); code != 2 || !strings.Contains(stderr, "removes tags: a tag that is pushed again meanwhile would be lost") {
		t.Errorf("apply --unsafe-online ends with %d: %s", code, stderr)
	}
	if after := len(s.files()); after != before {
		t.Errorf("%d of %d files are left", after, before)
	}
	s.pull("after the refusals", s.client, survivors)
}

// TestEverythingIsUntaggedUnderARegistry: the proof asks the registry for manifests that stay. If none stays, the
// registry must be stopped.
func TestEverythingIsUntaggedUnderARegistry(t *testing.T) {
	t.Parallel()
	s, _ := newPullRequests(t)
	s.tree.Age("", time.Hour)
	s.must(s.registry.SetReadOnly(true))
	before := len(s.files())
	code, _, stderr := regsweep(s, "untag", "**", "--allow-empty", "--yes", s.config(s.registry.ConfigYAML()))
	if code != 3 || !strings.Contains(stderr, "no manifest to ask for") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	if after := len(s.files()); after != before {
		t.Errorf("%d of %d files are left", after, before)
	}
}
