package e2e

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"regsweep/internal/imagetest"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/opencontainers/go-digest"
)

// statement is one of an IAM policy.
type statement struct {
	Effect   string
	Action   actions
	Resource string
}

// actions are written as one string, or as a list of them.
type actions []string

func (a *actions) UnmarshalJSON(content []byte) error {
	var one string
	if json.Unmarshal(content, &one) == nil {
		*a = actions{one}
		return nil
	}
	return json.Unmarshal(content, (*[]string)(a))
}

var jsonBlock = regexp.MustCompile("(?s)```json\n(.*?)```")

// documentedPolicies are what README.md gives to copy, for what is done on S3: for looking
// alone, for removing, for removing all versions, and for a quarantine.
func documentedPolicies(t *testing.T) (audit, gc, purge, quarantine []statement) {
	t.Helper()
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(readme), "\n### On S3\n")
	section, _, _ = strings.Cut(section, "\n### ")
	blocks := jsonBlock.FindAllStringSubmatch(section, -1)
	if len(blocks) != 4 {
		t.Fatalf("README.md has %d policies", len(blocks))
	}
	var whole struct{ Statement []statement }
	for i, into := range []any{&whole, &gc, &purge, &quarantine} {
		if err := json.Unmarshal([]byte(blocks[i][1]), into); err != nil {
			t.Fatalf("policy %d of README.md: %v", i+1, err)
		}
	}
	audit = whole.Statement
	gc = slices.Concat(audit, gc)
	return audit, gc, slices.Concat(gc, purge), slices.Concat(gc, quarantine)
}

// policy writes statements down, for this bucket and without one of the actions.
func (s *site) policy(statements []statement, without string) string {
	s.Helper()
	fill := strings.NewReplacer("BUCKET", s.bucket, "ROOT", strings.Trim(s3Root, "/"))
	var left []statement
	for _, next := range statements {
		next.Resource = fill.Replace(next.Resource)
		next.Action = slices.DeleteFunc(slices.Clone(next.Action), func(action string) bool { return action == without })
		if len(next.Action) > 0 {
			left = append(left, next)
		}
	}
	if without != "" { // some servers take one permission for another, but for this
		left = append(left, statement{Effect: "Deny", Action: actions{without}, Resource: "arn:aws:s3:::" + s.bucket + "/*"})
	}
	document, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": left})
	s.must(err)
	return string(document)
}

// s3Garbage is a registry in a bucket that keeps versions, with something to remove of
// every kind that is in a bucket: links, blobs, an upload, and a multipart upload.
func s3Garbage(t *testing.T) (s *site, alive image) {
	s = newSite(t)
	_, alive = s.unrelated()
	s.tree.Upload("sound", "old", time.Now().Add(-1000*time.Hour), []byte("half a layer"))
	s.moveToBucket()
	s.must(s.registry.SetReadOnly(true))
	_, err := s.s3.Client().PutBucketVersioning(t.Context(), &s3.PutBucketVersioningInput{
		Bucket: &s.bucket, VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled},
	})
	s.must(err)
	s.beginUpload()
	return s, alive
}

// beginUpload leaves a multipart upload unfinished.
func (s *site) beginUpload() {
	s.Helper()
	key := s.key(imagetest.BlobPath(digest.FromString("never finished")))
	_, err := s.s3.Client().CreateMultipartUpload(s.Context(), &s3.CreateMultipartUploadInput{Bucket: &s.bucket, Key: &key})
	s.must(err)
}

// TestLookingTakesNoPermissionToWrite: with a policy that can list and get, and nothing
// else, all goes that is promised to change nothing; a run that is to remove something
// stops at its lock.
func TestLookingTakesNoPermissionToWrite(t *testing.T) {
	s, _ := s3Garbage(t)
	audit, _, _, _ := documentedPolicies(t)
	config := s.asUser(t, s.policy(audit, ""))
	before, err := s.s3.Snapshot(t.Context(), s.bucket, s3Root)
	s.must(err)
	for _, args := range readOnlyCommands(t, config, s.registry.URL()) {
		if code, stdout, stderr := regsweep(s, args...); code != 0 {
			t.Errorf("%v ends with %d: %s%s", args, code, stdout, stderr)
		}
	}
	run := s.gcOn(config, "-m", "--registry", s.registry.URL())
	if run.code != 1 || !strings.Contains(run.report.Error, "it takes the permission s3:PutObject") {
		t.Errorf("a run that removes ends with %d, %q", run.code, run.report.Error)
	}
	after, err := s.s3.Snapshot(t.Context(), s.bucket, s3Root)
	s.must(err)
	if !maps.Equal(after, before) || len(s.multiparts()) != 1 {
		t.Errorf("there was %v, and now there is %v, and %v", before, after, s.multiparts())
	}
}

// TestDocumentedPoliciesSuffice for removing, of a bucket's versions too.
func TestDocumentedPoliciesSuffice(t *testing.T) {
	_, gc, purge, _ := documentedPolicies(t)
	for _, use := range []struct {
		name   string
		policy []statement
		flags  []string
	}{
		{"gc", gc, nil},
		{"purge", purge, []string{"--purge-versions"}},
	} {
		t.Run(use.name, func(t *testing.T) {
			s, alive := s3Garbage(t)
			config := s.asUser(t, s.policy(use.policy, ""))
			flags := append([]string{"-m", "--upload-age", "0s", "--registry", s.registry.URL()}, use.flags...)
			dry := s.gcOn(config, append(flags, "-d")...)
			run := s.gcOn(config, flags...)
			if run.code != 0 || run.report.Removed != dry.report.Garbage && use.flags != nil || len(run.report.Removed.counts()) < 5 {
				t.Errorf("it ends with %d, %q, and removed %v of %v", run.code, run.report.Error, run.report.Removed.counts(), dry.report.Garbage.counts())
			}
			snapshot, err := s.s3.Snapshot(t.Context(), s.bucket, s3Root)
			s.must(err)
			if snapshot[layoutRoot+".regsweep/lock"] != "" || len(s.multiparts()) > 0 {
				t.Errorf("it leaves %v and %v", slices.Sorted(maps.Keys(snapshot)), s.multiparts())
			}
			if again := s.gc("-m", "--upload-age", "0s"); len(again.report.Garbage.counts()) > 0 {
				t.Errorf("it leaves %v", again.lines())
			}
			s.pull("after the run", s.client, []image{alive})
		})
	}
}

// TestTheQuarantinesPolicySuffices for taking, restoring and purging, whether the bucket
// keeps versions or not. With that of gc alone nothing is taken.
func TestTheQuarantinesPolicySuffices(t *testing.T) {
	_, gc, _, policy := documentedPolicies(t)
	for _, status := range []types.BucketVersioningStatus{types.BucketVersioningStatusEnabled, types.BucketVersioningStatusSuspended} {
		t.Run(string(status), func(t *testing.T) {
			s, alive := s3Garbage(t)
			_, err := s.s3.Client().PutBucketVersioning(t.Context(), &s3.PutBucketVersioningInput{
				Bucket: &s.bucket, VersioningConfiguration: &types.VersioningConfiguration{Status: status},
			})
			s.must(err)
			before := s.files()
			take := []string{"-m", "--quarantine", "--registry", s.registry.URL()}
			denied := s.gcOn(s.asUser(t, s.policy(gc, "")), take...)
			if denied.code != 1 || !strings.Contains(denied.report.Error, "it takes the permission s3:") {
				t.Errorf("with the policy of gc it ends with %d, %q", denied.code, denied.report.Error)
			}
			s.same("the files", keys(s.files()), keys(before))

			config := s.asUser(t, s.policy(policy, ""))
			if run := s.gcOn(config, take...); run.code != 0 || len(run.report.Removed.counts()) < 4 {
				t.Fatalf("taking ends with %d, %q, and took %v", run.code, run.report.Error, run.report.Removed.counts())
			}
			runs := s.runsOf(config)
			if code, _, stderr := regsweep(s, "quarantine", "restore", runs[0], config); code != 0 {
				t.Fatalf("restoring ends with %d, %q", code, stderr)
			}
			s.same("the files", keys(s.files()), keys(before))
			s.gcOn(config, take...)
			if code, _, stderr := regsweep(s, "quarantine", "purge", "--older-than", "0h", config); code != 0 {
				t.Errorf("purging ends with %d, %q", code, stderr)
			}
			if left := s.runsOf(config); len(left) > 0 {
				t.Errorf("%v are left", left)
			}
			s.pull("after all that", s.client, []image{alive})
		})
	}
}

// runsOf are the runs in the quarantine.
func (s *site) runsOf(config string) (runs []string) {
	s.Helper()
	code, stdout, stderr := regsweep(s, "quarantine", "list", "--json", config)
	var report struct{ Runs []struct{ Run string } }
	if err := json.Unmarshal([]byte(stdout), &report); err != nil || code != 0 {
		s.Fatalf("list the quarantine: %d, %v, %s", code, err, stderr)
	}
	for _, run := range report.Runs {
		runs = append(runs, run.Run)
	}
	return runs
}

// TestAMissingPermissionIsNamed: in one line, with exit code 1. What a run finds out before
// it removes anything costs nothing (1); what it finds out while it removes stops it before
// what is left could lead to nothing (3). Who may read every object and not list them sees
// an empty registry, unless the denial stops the run.
func TestAMissingPermissionIsNamed(t *testing.T) {
	s, alive := s3Garbage(t)
	_, gc, purge, _ := documentedPolicies(t)
	before := s.files()
	blobs := func(files map[string]int64) (blobs []string) {
		return slices.DeleteFunc(keys(files), func(path string) bool { return !isBlob(path) })
	}
	needed := func(policy []statement) (actions []string) {
		for _, next := range policy {
			actions = append(actions, next.Action...)
		}
		return actions
	}
	deny := func(policy []statement, denied string, flags ...string) {
		t.Run(strings.Join(append(flags, denied), " "), func(t *testing.T) {
			config := s.asUser(t, s.policy(policy, denied))
			if denied == "s3:ListBucketVersions" {
				// MinIO lets who may list a bucket list its versions.
				config = s.behindFront(&faultyFront{status: http.StatusForbidden, code: "AccessDenied",
					matches: func(r *http.Request, _ string) bool { return r.URL.Query().Has("versions") }})
			}
			run := s.gcOn(config, append([]string{"-m", "--upload-age", "0s", "--registry", s.registry.URL()}, flags...)...)
			told := run.report.Error
			if run.code != 1 || !strings.Contains(told, "AccessDenied") || !strings.Contains(told, "it takes the permission "+denied) || strings.Contains(told, "\n") {
				t.Errorf("ends with %d, %q", run.code, told)
			}
			removed := run.report.Removed
			if denied == "s3:AbortMultipartUpload" { // links go before uploads, and blobs after
				s.same("the blobs", blobs(s.files()), blobs(before))
				if removed.Blobs.Count > 0 || removed.Uploads.Count > 1 {
					t.Errorf("it says that it removed %v", removed.counts())
				}
			} else {
				s.same("the files", keys(s.files()), keys(before))
				if counts := removed.counts(); len(counts) > 0 {
					t.Errorf("it says that it removed %v", counts)
				}
			}
			s.pull("after the run", s.client, []image{alive})
			s.unlock()
		})
	}
	for _, denied := range needed(purge) {
		if !slices.Contains(needed(gc), denied) {
			deny(purge, denied, "--purge-versions")
		}
	}
	last := "s3:AbortMultipartUpload" // which lets something go
	for _, denied := range needed(gc) {
		if denied != last {
			deny(gc, denied)
		}
	}
	deny(gc, last)
}

// unlock takes away a lock that its holder was not allowed to.
func (s *site) unlock() {
	s.Helper()
	key := s.key(".regsweep/lock")
	_, err := s.s3.Client().DeleteObject(s.Context(), &s3.DeleteObjectInput{Bucket: &s.bucket, Key: &key})
	s.must(err)
}

// asUser is the config.yml of the registry in a bucket, for somebody who may do what the
// policy says and no more: a session of MinIO's own token service, which the environment
// has to hold since config.yml can't.
func (s *site) asUser(t *testing.T, policy string) string {
	s.Helper()
	body := url.Values{"Action": {"AssumeRole"}, "Version": {"2011-06-15"}, "DurationSeconds": {"3600"}, "Policy": {policy}}.Encode()
	request, err := http.NewRequestWithContext(s.Context(), http.MethodPost, s.s3.Endpoint, strings.NewReader(body))
	s.must(err)
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	key := aws.Credentials{AccessKeyID: s.s3.AccessKey, SecretAccessKey: s.s3.SecretKey}
	sum := digest.FromString(body).Encoded()
	s.must(v4.NewSigner().SignHTTP(s.Context(), key, request, sum, "sts", s.s3.Region, time.Now()))
	response, err := http.DefaultClient.Do(request)
	s.must(err)
	answer, err := io.ReadAll(response.Body)
	s.must(errors.Join(err, response.Body.Close()))
	var session struct {
		Credentials struct{ AccessKeyId, SecretAccessKey, SessionToken string } `xml:"AssumeRoleResult>Credentials"`
	}
	s.must(xml.Unmarshal(answer, &session))
	if session.Credentials.SessionToken == "" {
		s.Fatalf("no session: %s: %s", response.Status, answer)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", session.Credentials.AccessKeyId)
	t.Setenv("AWS_SECRET_ACCESS_KEY", session.Credentials.SecretAccessKey)
	t.Setenv("AWS_SESSION_TOKEN", session.Credentials.SessionToken)
	lines := strings.SplitAfter(s.registry.ConfigYAML(), "\n")
	return s.config(strings.Join(slices.DeleteFunc(lines, func(line string) bool {
		return strings.Contains(line, "accesskey:") || strings.Contains(line, "secretkey:")
	}), ""))
}
