package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"regsweep/internal/imagetest"
)

// block is the block of docs/policies.md after a comment or a heading.
func block(t *testing.T, after string) string { return blockOf(t, "docs/policies.md", after) }

func blockOf(t *testing.T, file, after string) string {
	t.Helper()
	content, err := os.ReadFile(file)
	must(t, err)
	_, rest, found := strings.Cut(string(content), "\n"+after+"\n")
	_, rest, _ = strings.Cut(rest, "```")
	_, rest, _ = strings.Cut(rest, "\n")
	text, _, isBlock := strings.Cut(rest, "```")
	if !found || !isBlock {
		t.Fatalf("%s has no block after %q", file, after)
	}
	return text
}

// TestTheFirstPolicyOfTheDocumentation prints what the documentation shows, except for the times.
func TestTheFirstPolicyOfTheDocumentation(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	push := func(repository, tag string, days int, m *imagetest.Manifest) {
		s.tree.TagIndex(repository, tag, s.plant(repository, tag, m))
		s.tree.Age(imagetest.TagPath(repository, tag), time.Duration(days)*day)
	}
	push("team/app", "latest", 0, app(1, 2))
	for i, days := range []int{2, 9, 31, 38, 55} {
		image := app(1, 10+i)
		push("team/app", fmt.Sprint("pr-", 140-i), days, image)
		push("team/app", signatureOf(image.Digest()), days, app(40+i))
	}
	push("team/web", "pr-7", 40, app(1, 3))
	dir := t.TempDir()
	s.must(os.WriteFile(filepath.Join(dir, "policy.yml"), []byte(block(t, "<!-- first policy -->")), 0o600))
	code, stdout, stderr := regsweep(s, "gc", "-d", "--registry-stopped", "--policy", filepath.Join(dir, "policy.yml"), s.tree.Root())
	times := regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d`)
	fields := func(text string) string { // not the widths of columns, and not the lines of a narrow terminal
		return strings.Join(strings.Fields(times.ReplaceAllString(strings.ReplaceAll(text, dir+"/", ""), "TIME")), " ")
	}
	if want := fields(block(t, "<!-- first dry run -->")); code != 0 || !strings.Contains(fields(stdout), want) {
		t.Errorf("exit code %d: %s\ngot\n%s\nwant\n%s", code, stderr, fields(stdout), want)
	}
}

// TestTheImagesOfTheReadme: the commands in README.md make images of 40 days, and its policy keeps those of the last 30 days.
func TestTheImagesOfTheReadme(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	command := exec.CommandContext(t.Context(), "sh", "-euc", blockOf(t, "README.md", "<!-- more images -->"))
	command.Dir = dir
	if output, err := command.CombinedOutput(); err != nil || len(output) > 0 {
		t.Fatalf("%v: %s", err, output)
	}
	must(t, os.WriteFile(filepath.Join(dir, "policy.yml"), []byte(blockOf(t, "README.md", "### Policies")), 0o600))
	s := newFixture(t)
	code, stdout, stderr := regsweep(s, "gc", "-d", "--json", "--registry-stopped", "--policy", filepath.Join(dir, "policy.yml"), filepath.Join(dir, "registry"))
	var run policyReport
	must(t, json.Unmarshal([]byte(stdout), &run))
	removed := 0
	for _, tag := range run.Tags {
		if tag.Verdict == "remove" {
			removed++
		}
	}
	if code != 0 || len(run.Tags) != 40 || removed < 10 || removed > 11 || run.Garbage.Blobs.Bytes/1e6 != int64(removed) { // a layer of 1 MB each
		t.Errorf("exit code %d: %s%d of %d tags and %d bytes are removed", code, stderr, removed, len(run.Tags), run.Garbage.Blobs.Bytes)
	}
}

// TestTheListOfAClusterProtectsItsImages: the commands of the documentation make a list from what kubectl and
// crictl print, and the policy of the documentation keeps the images on it.
func TestTheListOfAClusterProtectsItsImages(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	image := map[string]*imagetest.Manifest{} // by the name of its tag
	push := func(repository string, tags ...string) {
		for _, tag := range tags {
			image[tag] = app(1, 100+len(image))
			s.plant(repository, tag, image[tag])
			s.tree.Age(imagetest.TagPath(repository, tag), time.Duration(90+len(image))*day)
		}
	}
	push("team/app", "moved", "local", "sidecar", "pending", "zero", "cron", "on-node", "annotated", "unused", "zz-newest")
	push("team/web", "latest", "web-unused", "web-newest")
	push("team/init", "v2", "init-newest")
	push("library/busybox", "1.36", "busybox-newest")
	push("team/models", "v7", "models-newest")
	runs := app(1, 99) // the tag that the Pod's spec names has moved since the Pod started
	s.plant("team/app", "moved-away", runs)
	s.tree.Age(imagetest.TagPath("team/app", "moved-away"), 200*day)
	for path := range s.pushTimes() {
		if strings.Contains(path, "newest") {
			s.tree.Age(strings.TrimPrefix(path, layoutRoot), time.Hour) // for the floor
		}
	}

	dir, bin := t.TempDir(), t.TempDir()
	hex := func(n string) string { return strings.Repeat(n, 64) }
	recorded := strings.NewReplacer(
		hex("1"), runs.Digest().Encoded(), hex("2"), image["1.36"].Digest().Encoded(), hex("3"), image["v2"].Digest().Encoded(),
		hex("4"), configOf(image["local"]).Encoded(), hex("5"), configOf(image["sidecar"]).Encoded(), hex("6"), image["on-node"].Digest().Encoded())
	for _, program := range []string{"kubectl", "crictl"} {
		output, err := os.ReadFile("e2e/testdata/cluster/" + program + ".json")
		s.must(err)
		s.must(os.WriteFile(filepath.Join(bin, program+".json"), []byte(recorded.Replace(string(output))), 0o600))
		s.must(os.WriteFile(filepath.Join(bin, program), []byte("#!/bin/sh\nexec cat "+bin+"/"+program+".json\n"), 0o700))
		command := exec.CommandContext(t.Context(), "sh", "-ec", block(t, "<!-- "+program+" -->"))
		command.Dir, command.Env = dir, append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
		if output, err := command.CombinedOutput(); err != nil || len(output) > 0 {
			t.Fatalf("%s: %v: %s", program, err, output)
		}
	}

	s.must(os.WriteFile(filepath.Join(dir, "policy.yml"), []byte(block(t, "### Images that no cluster runs")), 0o600))
	s.must(os.WriteFile(filepath.Join(dir, "plain.yml"), []byte("version: 1\nrules: [{name: not in use, older-than: 30d}]\n"), 0o600))
	preview := func(policy, input string, flags ...string) (r policyReport) {
		var stdout, stderr output
		args := append([]string{"gc", "-d", "--json", "--registry-stopped", "--policy", filepath.Join(dir, policy), s.tree.Root()}, flags...)
		if code := regsweepWith(s, strings.NewReader(input), &stdout, &stderr, args...); code != 0 {
			t.Fatalf("%s: exit code %d: %s", policy, code, stderr.String())
		}
		s.must(json.Unmarshal([]byte(stdout.String()), &r))
		return r
	}
	list, err := os.ReadFile(filepath.Join(dir, "in-use.txt"))
	s.must(err)
	if fromFile, fromPipe := preview("policy.yml", "").verdicts(), preview("plain.yml", string(list), "--keep-digests", "-").verdicts(); !slices.Equal(fromFile, fromPipe) {
		t.Errorf("with the list in the policy %q, and from a pipe %q", fromFile, fromPipe)
	}
	code, stdout, stderr := regsweep(s, "gc", "--yes", "--registry-stopped", "--policy", filepath.Join(dir, "policy.yml"), s.tree.Root())
	var left []string
	for path := range s.pushTimes() {
		left = append(left, filepath.Base(strings.TrimSuffix(path, "/current/link")))
	}
	slices.Sort(left)
	want := []string{
		"1.36", "busybox-newest", "cron", "init-newest", "latest", "local", "models-newest", "moved", "moved-away", "on-node", "pending", "sidecar", "v2", "v7", "web-newest", "zero", "zz-newest",
	}
	if code != 0 || !slices.Equal(left, want) {
		t.Errorf("exit code %d: %s%s\ngot  %q\nwant %q\nthe list:\n%s", code, stderr, stdout, left, want, list)
	}
}

// TestTheCacheOfTheDocumentation: of a pull-through cache the tags go that nobody has pulled for the longest time,
// until enough is freed.
func TestTheCacheOfTheDocumentation(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	for i := range 5 {
		tag := fmt.Sprint("1.", i)
		s.plant("library/nginx", tag, app(10+i))
		s.tree.Age(imagetest.TagPath("library/nginx", tag), time.Duration(i)*day)
	}
	policy := block(t, "### A pull-through cache, by size")
	all := s.withPolicy(policy, "--dry-run", "--free", "1TB")
	want := []string{
		"library/nginx:1.0 keep by cache, older-than", "library/nginx:1.1 remove by cache", "library/nginx:1.2 remove by cache",
		"library/nginx:1.3 remove by cache", "library/nginx:1.4 remove by cache",
	}
	if got := all.verdicts(); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	half := s.withPolicy(policy, "--free", fmt.Sprint(all.Garbage.Blobs.Bytes/2, "B"))
	want[1], want[2] = "library/nginx:1.1 keep by free, spared", "library/nginx:1.2 keep by free, spared"
	if got := half.verdicts(); !slices.Equal(got, want) || half.Removed.Blobs.Bytes < all.Garbage.Blobs.Bytes/2 {
		t.Errorf("%d of %d bytes were freed: %q", half.Removed.Blobs.Bytes, all.Garbage.Blobs.Bytes, got)
	}
}
