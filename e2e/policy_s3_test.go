package e2e

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"regsweep/internal/imagetest"
)

// s3PolicyReport is what a run with a policy on a bucket says.
type s3PolicyReport struct {
	s3Report
	policyReport
}

// bucketRun runs a command on a bucket.
func (s *fixture) bucketRun(args ...string) (r s3PolicyReport) {
	s.Helper()
	args = append(args, s.config(s.registry.ConfigYAML()), "--json", "--no-cache", "--yes", "--registry", s.registry.URL())
	code, stdout, stderr := regsweep(s, args...)
	if code != 0 {
		s.Fatalf("%q: exit code %d: %s", args, code, stderr)
	}
	s.must(json.Unmarshal([]byte(stdout), &r.s3Report))
	s.must(json.Unmarshal([]byte(stdout), &r.policyReport))
	return r
}

// policyFile writes a policy.
func (s *fixture) policyFile(yaml string) string {
	s.Helper()
	path := filepath.Join(s.TempDir(), "policy.yml")
	s.must(os.WriteFile(path, []byte(yaml), 0o600))
	return path
}

// newPullRequestsBucket has nine tags of pull requests, of which two have the same image, and their signatures.
func newPullRequestsBucket(t *testing.T) *fixture {
	s := newFixture(t)
	s.plant("team/app", "latest", app(1, 2))
	for i := range 9 {
		d := s.plant("team/app", "pr-"+string(rune('1'+i)), app(1, 10+i))
		s.plant("team/app", strings.Replace(string(d), ":", "-", 1)+".sig", app(20+i))
	}
	s.tree.Tag("team/app", "pr-again", app(1, 10).Digest())
	s.plant("team/other", "pr-1", app(1))
	s.moveToBucket()
	s.must(s.registry.SetReadOnly(true))
	return s
}

// TestRequestsOfAPolicyOnS3: the times of tags and the sizes of blobs are those of the listing. A policy that
// needs the creation times of images reads each config once.
func TestRequestsOfAPolicyOnS3(t *testing.T) {
	t.Parallel()
	s := newPullRequestsBucket(t)
	const rule = "rules: [{name: old, repositories: [team/app], tags: ['pr-*'], keep-within: 1h, keep-last: 3}]\n"
	without := s.bucketRun("gc", "-d").Requests
	pushed := s.bucketRun("gc", "-d", "--trust-times", "--policy", s.policyFile("version: 1\n"+rule))
	if pushed.Requests != without || len(pushed.Tags) != 10 {
		t.Errorf("%d verdicts take %+v, and a run without a policy %+v", len(pushed.Tags), pushed.Requests, without)
	}
	created := s.bucketRun("gc", "-d", "--policy", s.policyFile("version: 1\ntime: created\n"+rule)).Requests
	const configs = 10 // of latest and the pull requests
	if created.Get -= configs; created != without {
		t.Errorf("time: created takes %+v and %d reads, want %+v", created, configs, without)
	}
	free := s.bucketRun("gc", "-d", "--free", "1GB", "--trust-times", "--policy", s.policyFile("version: 1\n"+rule)).Requests
	if free != without {
		t.Errorf("--free takes %+v, want %+v", free, without)
	}
}

// TestAPolicyIsUndoneOnS3: what untag has moved to a quarantine comes back with all index entries. The time of a
// restored tag is that of the restore.
func TestAPolicyIsUndoneOnS3(t *testing.T) {
	t.Parallel()
	s := newPullRequestsBucket(t)
	s.write(imagetest.TagIndexPath("team/app", "pr-2", app(1, 10).Digest()), string(app(1, 10).Digest())) // it moved
	before, err := s.s3.Snapshot(t.Context(), s.bucket, s3Root)
	s.must(err)
	run := s.bucketRun("untag", "--quarantine", "team/app:pr-*", "--registry", s.registry.URL())
	if len(run.Tags) != 19 {
		t.Errorf("%d tags are removed: %q", len(run.Tags), run.verdicts())
	}
	s.pull("after untag", s.client, []image{pulls("team/app", "latest"), pulls("team/other", "pr-1")})
	code, _, stderr := regsweep(s, "quarantine", "restore", "latest", s.config(s.registry.ConfigYAML()))
	if code != 0 {
		t.Fatalf("restore: exit code %d: %s", code, stderr)
	}
	after, err := s.s3.Snapshot(t.Context(), s.bucket, s3Root)
	s.must(err)
	maps.DeleteFunc(after, func(path, _ string) bool { return strings.Contains(path, ".regsweep") })
	if !maps.Equal(before, after) {
		t.Errorf("restored are %q\nwant %q", slices.Sorted(maps.Keys(after)), slices.Sorted(maps.Keys(before)))
	}
}
