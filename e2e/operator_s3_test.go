package e2e

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
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

// s3Report is what the report says beside gcReport on a bucket.
type s3Report struct {
	Requests struct {
		List   int `json:"list"`
		Get    int `json:"get"`
		Head   int `json:"head"`
		Put    int `json:"put"`
		Delete int `json:"delete"`
	} `json:"requests"`
	Garbage     tallies `json:"garbage"`
	Removed     tallies `json:"removed"`
	HiddenBytes int64   `json:"hidden_bytes"`
	Versions    *struct {
		Bucket  string `json:"bucket"`
		Purge   bool   `json:"purge"`
		Garbage tally  `json:"garbage"`
		Removed tally  `json:"removed"`
	} `json:"versions"`
}

// run runs gc with a report as JSON.
func (s *fixture) run(flags ...string) (r s3Report) {
	s.Helper()
	config := s.config(s.registry.ConfigYAML())
	code, stdout, stderr := regsweep(s, append([]string{"gc", config, "--json", "--no-cache", "--registry", s.registry.URL()}, flags...)...)
	if code != 0 {
		s.Fatalf("exit code %d: %s", code, stderr)
	}
	s.must(json.Unmarshal([]byte(stdout), &r))
	return r
}

// A run on a bucket lists it, and reads each manifest once. It reads no link: the ETags of links prove
// their content. It removes a thousand objects with one request, and sends no HEAD for them.
func TestRequestsOfARunOnS3(t *testing.T) {
	t.Parallel()
	manyAlike(t)
	s := newFixture(t)
	const repositories, images = 40, 8
	for r := range repositories {
		for i := range images {
			n := 100 * (1 + r*images + i)
			tag := "v" + string(rune('a'+i))
			if i%2 == 1 {
				tag = ""
			}
			s.plant("team/app"+string(rune('a'+r%26))+strings.Repeat("x", r/26), tag, app(n, n+1, n+2, n+3, n+4))
		}
	}
	s.moveToBucket()
	s.must(s.registry.SetReadOnly(true))
	keys, manifests := len(s.files()), repositories*images
	dry := s.run("--dry-run", "-m").Requests
	t.Logf("%d keys, %d manifests: %+v", keys, manifests, dry)
	if dry.Get != manifests || dry.Head != 0 || dry.Put != 0 || dry.Delete != 0 {
		t.Errorf("a dry run on %d manifests: %+v", manifests, dry)
	}
	// Pages; the uploads of two directories; whether there are versions.
	if most := keys/1000 + 16; dry.List > most {
		t.Errorf("%d keys are listed with %d requests, want at most %d", keys, dry.List, most)
	}
	real := s.run("-m")
	removed := 0
	for _, n := range real.Removed.counts() {
		removed += n
	}
	t.Logf("%d removed: %+v", removed, real.Requests)
	if removed < 2000 {
		t.Errorf("%d removed: the test has too little to remove", removed)
	}
	// One request for what is left of each of the three kinds, and one for the lock.
	if most := removed/1000 + 4; real.Requests.Delete > most {
		t.Errorf("%d are removed with %d requests, want at most %d", removed, real.Requests.Delete, most)
	}
	// The lock sends a HEAD before each write.
	if most := 2 + 2*real.Requests.Put; real.Requests.Head > most {
		t.Errorf("%d requests HEAD, want at most %d", real.Requests.Head, most)
	}
}

// A bucket that keeps versions only hides what is removed, and the report says so; with
// --purge-versions all of it goes, and the bytes of the dry run are those of the run.
func TestVersionedBucket(t *testing.T) {
	t.Parallel()
	s := newBucketFixture(t)
	_, err := s.s3.Client().PutBucketVersioning(t.Context(), &s3.PutBucketVersioningInput{
		Bucket: &s.bucket, VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled},
	})
	s.must(err)
	kept, gone, later := app(1, 2), app(3, 4), app(5, 6)
	s.push("team/app:kept", kept)
	s.push("team/app:gone", gone)
	s.push("team/app:later", later)
	s.delete("team/app", gone.Digest().String())
	s.must(s.registry.SetReadOnly(true))

	dry := s.run("--dry-run", "-m")
	if v := dry.Versions; v == nil || v.Bucket != "enabled" || v.Purge || dry.Garbage.Blobs.Bytes == 0 {
		t.Errorf("the dry run: %+v, %+v", v, dry)
	}
	real := s.run("-m")
	if real.HiddenBytes != dry.Garbage.Blobs.Bytes || real.Removed.Blobs.Count != dry.Garbage.Blobs.Count || real.Removed.Blobs.Bytes != 0 {
		t.Errorf("the run hides %d bytes of %+v, removed %+v", real.HiddenBytes, dry.Garbage.Blobs, real.Removed.Blobs)
	}

	s.must(s.registry.SetReadOnly(false))
	s.delete("team/app", later.Digest().String())
	path := "blobs/sha256/" + later.Blobs[0].Digest().Encoded()[:2] + "/" + later.Blobs[0].Digest().Encoded() + "/data"
	s.write(path, string(later.Blobs[0].Content)) // a second version
	s.must(s.registry.SetReadOnly(true))
	size := int64(len(later.Blobs[0].Content))
	_, text, _ := regsweep(s, "gc", s.config(s.registry.ConfigYAML()), "-dm", "--no-cache")
	if !strings.Contains(text, "; 0 B would be freed.") || !strings.Contains(text, "--purge-versions removes them") {
		t.Errorf("the dry run says: %s", text)
	}
	dry = s.run("--dry-run", "-m", "--purge-versions")
	if v := dry.Versions; !v.Purge || v.Garbage.Bytes < size || v.Garbage.Count == 0 {
		t.Errorf("the dry run: %+v", v)
	}
	real = s.run("-m", "--purge-versions")
	if real.HiddenBytes != 0 || real.Removed != dry.Garbage || real.Versions.Removed != dry.Versions.Garbage {
		t.Errorf("the run removed %+v and %+v, of %+v and %+v", real.Removed, real.Versions.Removed, dry.Garbage, dry.Versions.Garbage)
	}
	out, err := s.s3.Client().ListObjectVersions(t.Context(), &s3.ListObjectVersionsInput{Bucket: &s.bucket})
	s.must(err)
	hidden := 0
	for _, v := range out.Versions {
		for _, d := range later.Digests() {
			if strings.Contains(*v.Key, "blobs/") && strings.Contains(*v.Key, d.Encoded()) {
				t.Errorf("left: %s", *v.Key)
			}
		}
		for _, d := range gone.Digests() {
			if strings.Contains(*v.Key, "blobs/") && strings.Contains(*v.Key, d.Encoded()) {
				hidden++
			}
		}
	}
	if hidden == 0 {
		t.Error("what an earlier run hid is gone too, which nobody promised")
	}
	s.pull("after the runs", s.client, []image{pulls("team/app", kept, "kept")})
}

// TestWrongStorageSectionIsAUsageError: the run ends with 2 and names the file and the key.
func TestWrongStorageSectionIsAUsageError(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	for section, want := range map[string]string{
		"s3: {region: x}":                                     "set storage.s3.bucket",
		"s3: {bucket: b}":                                     "set storage.s3.region",
		"s3: {bucket: registry/folder, region: x}":            "set bucket: registry and rootdirectory: /folder",
		"s3: {bucket: b, region: x, secure: perhaps}":         "secure is not a boolean",
		"s3: {bucket: b, region: x, chunksize: many}":         "chunksize is not a number",
		"s3: {bucket: b, regionendpoint: 'ftp://there'}":      "regionendpoint is not an http or https address",
		"filesystem: {rootdirectory: /tmp, maxthreads: many}": "maxthreads is not a number: many",
		"filesystem: {rootdirectory: /tmp, maxthreads: 1.5}":  "maxthreads is not a number: 1.5",
	} {
		file := s.config("version: 0.1\nstorage: {" + section + "}\nhttp: {addr: ':5000'}\n")
		code, _, stderr := regsweep(s, "gc", file, "-d", "--registry-stopped", "--no-cache")
		if code != 2 || !strings.Contains(stderr, file) || !strings.Contains(stderr, want) {
			t.Errorf("%s: ends with %d: %s", section, code, stderr)
		}
	}
	if code, _, stderr := regsweep(s, "gc", "s3://bucket/prefix", "-d"); code != 2 || stderr != "regsweep: s3://bucket/prefix: no region: add ?region=…, or ?endpoint=… for a server that is not Amazon's\n" {
		t.Errorf("ends with %d: %s", code, stderr)
	}
	if code, _, stderr := regsweep(s, "gc", "s3://bucket?endpoint=ftp://there", "-d", "--registry-stopped"); code != 2 || !strings.Contains(stderr, "regionendpoint") {
		t.Errorf("ends with %d: %s", code, stderr)
	}
}

// cachedRun is what a dry run in a process of its own has told.
type cachedRun struct {
	code     int
	stderr   string
	plan     []string
	requests struct{ List, Get, Head, Put, Delete int }
	cache    *struct{ Hits, Reads int }
	problems []string       // of the cache, their kinds
	rest     map[string]any // of the report: what a cache has nothing to do with
}

// cachedSite is a registry in a bucket that has what must be read to know what lives.
func cachedSite(t *testing.T) (s *fixture, config string, app *faultyApp) {
	t.Helper()
	s = newFixture(t)
	_, app = faulty(s)
	s.moveToBucket()
	return s, s.config(s.registry.ConfigYAML()), app
}

// dryRun starts a dry run that has the user's cache directory from where, and returns
// what waits for it.
func (s *fixture) dryRun(where string, args ...string) (wait func() cachedRun) {
	s.Helper()
	planFile := filepath.Join(s.TempDir(), "plan")
	process := startIn(s.T, []string{"XDG_CACHE_HOME=" + where, "HOME=" + where},
		append([]string{"gc", "-d", "-m", "--json", "--plan", planFile}, args...)...)
	return func() cachedRun {
		s.Helper()
		run := cachedRun{code: process.exit(s.T), stderr: process.stderr.String()}
		output := []byte(process.stdout.String())
		var known struct {
			Requests *struct{ List, Get, Head, Put, Delete int }
			Cache    **struct{ Hits, Reads int }
		}
		known.Requests, known.Cache = &run.requests, &run.cache
		if err := json.Unmarshal(output, &known); err != nil {
			s.Fatalf("%v\n%s\n%s", err, output, run.stderr)
		}
		s.must(json.Unmarshal(output, &run.rest))
		for _, key := range []string{"requests", "cache", "seconds"} {
			delete(run.rest, key)
		}
		var problems []any
		for _, p := range run.rest["problems"].([]any) {
			kind := p.(map[string]any)["kind"].(string)
			if !strings.HasPrefix(kind, "cache_") {
				problems = append(problems, p)
				continue
			}
			run.problems = append(run.problems, kind)
			if effect := p.(map[string]any)["effect"]; effect != "note" {
				s.Errorf("%s has the effect %v", kind, effect)
			}
		}
		run.rest["problems"] = problems
		run.plan = s.readPlan(planFile)
		return run
	}
}

// A run that finds all manifests in the cache lists the bucket, asks nothing else, and
// finds the same. A cache that somebody has poisoned costs a read and is reported.
func TestCacheSparesAllButTheListing(t *testing.T) {
	t.Parallel()
	s, config, app := cachedSite(t)
	dir := t.TempDir()
	without := s.dryRun(dir, "--no-cache", config)()
	if without.cache != nil || without.requests.Get == 0 || len(without.plan) < 3 {
		t.Fatalf("without a cache: %+v", without)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) > 0 {
		t.Errorf("--no-cache has left %v, %v", files, err)
	}
	same := func(what string, run cachedRun) {
		t.Helper()
		if run.code != without.code || !reflect.DeepEqual(run.rest, without.rest) || !slices.Equal(run.plan, without.plan) {
			t.Errorf("%s: another result than without a cache:\n%+v\n%+v", what, run, without)
		}
		if run.requests.Put+run.requests.Delete > 0 {
			t.Errorf("%s: it wrote to the storage: %+v", what, run.requests)
		}
	}
	gets := without.requests.Get
	check := func(what string, run cachedRun, hits, reads int, problems ...string) {
		t.Helper()
		same(what, run)
		if run.cache == nil || run.cache.Hits != hits || run.cache.Reads != reads || run.requests.Get != reads || run.requests.Head != 0 {
			t.Errorf("%s: %+v %+v, want %d hits and %d reads", what, run.cache, run.requests, hits, reads)
		}
		if !slices.Equal(run.problems, problems) || strings.Count(run.stderr, "warning") != len(problems) {
			t.Errorf("%s: %v, want %v, and said\n%s", what, run.problems, problems, run.stderr)
		}
	}
	check("the first run", s.dryRun(dir, config)(), 0, gets)
	check("the second", s.dryRun(dir, config)(), gets, 0)

	files, err := filepath.Glob(filepath.Join(dir, "regsweep", "*", "*", "*"))
	if err != nil || len(files) != gets {
		t.Fatalf("the cache is %v, %v, not %d files", files, err, gets)
	}
	file := files[0]
	whole, err := os.ReadFile(file)
	s.must(err)
	flipped := bytes.Clone(whole)
	flipped[len(flipped)-1] ^= 1
	s.must(os.WriteFile(file, flipped, 0o600))
	check("poisoned", s.dryRun(dir, config)(), gets-1, 1, "cache_damaged")
	check("after that", s.dryRun(dir, config)(), gets, 0)
	s.must(os.WriteFile(file, whole[:len(whole)/2], 0o600))
	check("cut in half", s.dryRun(dir, config)(), gets-1, 1, "cache_damaged")
	s.must(os.WriteFile(file, flipped, 0o600))
	if run := s.dryRun(dir, "-q", config)(); !strings.HasPrefix(run.stderr, "regsweep: warning: ") || strings.Count(run.stderr, "\n") != 1 {
		t.Errorf("poisoned, -q: %q", run.stderr)
	}

	// Damage to the storage shows, of the size that it was: as without a cache.
	content := bytes.Clone(app.arm.Content)
	content[len(content)/2] ^= 1
	s.write(imagetest.BlobPath(app.arm.Digest()), string(content))
	without = s.dryRun(dir, "--no-cache", config)()
	if without.code != 4 {
		t.Fatalf("a damaged manifest: %+v", without)
	}
	check("damaged in the bucket", s.dryRun(dir, config)(), gets-1, 1)
}

// Processes at the same time share a cache without waiting for each other.
func TestCacheIsSharedByProcesses(t *testing.T) {
	t.Parallel()
	s, config, _ := cachedSite(t)
	other, otherConfig, _ := cachedSite(t)
	dir := filepath.Join(t.TempDir(), "cache")
	gets := s.dryRun(dir, "--no-cache", config)().requests.Get
	var waits []func() cachedRun
	for range 3 {
		waits = append(waits, s.dryRun(dir, "--cache", dir, config), other.dryRun(dir, "--cache", dir, otherConfig))
	}
	for _, wait := range waits {
		if run := wait(); run.code != 0 || len(run.problems) > 0 || run.cache.Hits+run.cache.Reads != gets {
			t.Errorf("ends with %d, %v, %+v\n%s", run.code, run.problems, run.cache, run.stderr)
		}
	}
	for _, wait := range []func() cachedRun{s.dryRun(dir, "--cache", dir, config), other.dryRun(dir, "--cache", dir, otherConfig)} {
		if run := wait(); run.requests.Get != 0 || run.cache.Hits != gets {
			t.Errorf("afterwards: %+v", run)
		}
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 2 {
		t.Errorf("the cache is %v, %v, not a directory for each registry", files, err)
	}
}

// A default that can't be had is no reason to stop; what somebody asked for is.
func TestCacheDirectoryThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	s, config, _ := cachedSite(t)
	gets := s.dryRun(t.TempDir(), "--no-cache", config)().requests.Get

	homeless := s.dryRun("", config)()
	if homeless.code != 0 || homeless.cache != nil || homeless.requests.Get != gets || strings.Contains(homeless.stderr, "warning") {
		t.Errorf("without a home: %+v", homeless)
	}
	file := filepath.Join(t.TempDir(), "file")
	s.must(os.WriteFile(file, nil, 0o600))
	run := s.dryRun(file, config)()
	if run.code != 0 || run.cache != nil || run.requests.Get != gets || !slices.Equal(run.problems, []string{"cache_unusable"}) ||
		strings.Count(run.stderr, "warning: ") != 1 || !strings.Contains(run.stderr, "not a directory") {
		t.Errorf("a file in the place of the directory: %+v", run)
	}
	for _, dir := range []string{file, filepath.Join(file, "below")} {
		planFile := filepath.Join(t.TempDir(), "plan")
		refused := startIn(t, nil, "gc", "-d", "--plan", planFile, "--cache", dir, config)
		if code := refused.exit(t); code != 2 || refused.stderr.String() != "regsweep: --cache: "+dir+" can't be written: not a directory\n" {
			t.Errorf("--cache %s ends with %d: %s", dir, code, &refused.stderr)
		}
		if left, err := filepath.Glob(planFile + "*"); err != nil || len(left) > 0 {
			t.Errorf("it has left %v, %v", left, err)
		}
	}
}

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
func (s *fixture) policy(statements []statement, without string) string {
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
func s3Garbage(t *testing.T) (s *fixture, alive image) {
	s = newFixture(t)
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
func (s *fixture) beginUpload() {
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
func (s *fixture) runsOf(config string) (runs []string) {
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
func (s *fixture) unlock() {
	s.Helper()
	key := s.key(".regsweep/lock")
	_, err := s.s3.Client().DeleteObject(s.Context(), &s3.DeleteObjectInput{Bucket: &s.bucket, Key: &key})
	s.must(err)
}

// asUser is the config.yml of the registry in a bucket, for somebody who may do what the
// policy says and no more: a session of MinIO's own token service, which the environment
// has to hold since config.yml can't.
func (s *fixture) asUser(t *testing.T, policy string) string {
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
