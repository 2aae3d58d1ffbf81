package e2e

import (
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"regsweep/internal/imagetest"
	"regsweep/internal/miniotest"
	"regsweep/internal/registrytest"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/opencontainers/go-digest"
)

// TestQuarantineOnS3: what gc --quarantine takes from a bucket can be put back byte for
// byte, all or a part, or be freed, whether the bucket keeps versions or not.
func TestQuarantineOnS3(t *testing.T) {
	t.Parallel()
	for name, bucket := range map[string]struct {
		server     func(testing.TB) *miniotest.S3
		versioning types.BucketVersioningStatus
	}{
		"MinIO":                       {miniotest.SharedMinIO, ""},
		"MinIO, versions kept":        {miniotest.SharedMinIO, types.BucketVersioningStatusEnabled},
		"MinIO, versions kept before": {miniotest.SharedMinIO, types.BucketVersioningStatusSuspended},
		"versitygw":                   {miniotest.SharedVersityGW, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			q := newQuarantineBucket(t, bucket.server(t), bucket.versioning)
			q.roundTrip()
			q.partly()
			q.deletedByAPI()
			q.purge()
		})
	}
}

// quarantineBucket is a registry in a bucket, with garbage and with images that are kept.
type quarantineBucket struct {
	*fixture
	versioning types.BucketVersioningStatus
	tree       string // what was uploaded
	target     string
	alive      []image
	old, other *imagetest.Manifest // untagged, of team/app and of team/other
	upload     string              // the directory of one
	swept      map[string]string
}

func newQuarantineBucket(t *testing.T, server *miniotest.S3, versioning types.BucketVersioningStatus) *quarantineBucket {
	q := &quarantineBucket{fixture: newFixture(t), versioning: versioning}
	kept := app(1, 2)
	q.old, q.other = app(2, 3), app(4, 5)
	q.plant("team/app", "kept", kept)
	q.plant("team/app", "", q.old)
	q.fixture.tree.TagIndex("team/app", "kept", q.old.Digest()) // which was its first
	q.plant("team/other", "", q.other)
	q.plant("team/other", "kept", kept)
	signed := q.plant("team/app", "", imagetest.Schema1("team/app", "old", layer(6)))
	signature := q.fixture.tree.Blob([]byte("a signature"))
	q.write(imagetest.SignaturePath("team/app", signed, signature), signature.String())
	q.upload = imagetest.UploadPath("team/app", "6fd5a5a8-93d9-4d48-a9a4-5d3e5d4f0001")
	q.fixture.tree.Upload("team/app", "6fd5a5a8-93d9-4d48-a9a4-5d3e5d4f0001", time.Now().Add(-1000*time.Hour), []byte("half of it"))
	q.write(q.upload+"/hashstates/sha256/10", "a state")
	q.alive = []image{pulls("team/app", kept, "kept"), pulls("team/other", kept, "kept")}
	q.tree = q.fixture.tree.Root()
	q.s3 = server
	q.fixture.tree = nil

	// What a plain gc leaves.
	q.newBucket("")
	if run := q.gc("-m"); run.code != 0 {
		t.Fatalf("a plain gc ends with %d: %s", run.code, run.stderr)
	}
	q.swept = q.snapshot()
	q.newBucket(versioning)
	q.target = q.config(q.registry.ConfigYAML())
	return q
}

// newBucket puts the registry into a bucket of its own.
func (q *quarantineBucket) newBucket(versioning types.BucketVersioningStatus) {
	q.Helper()
	q.bucket = q.s3.NewBucketT(q.T)
	if versioning != "" {
		q.setVersioning(types.BucketVersioningStatusEnabled)
	}
	q.must(miniotest.UploadTree(q.Context(), q.s3, q.bucket, s3Root, q.tree))
	if versioning == types.BucketVersioningStatusSuspended {
		q.setVersioning(versioning)
	}
	q.serve(registrytest.Config{Storage: q.s3.Storage(q.bucket, s3Root), ReadOnly: true})
}

func (q *quarantineBucket) setVersioning(status types.BucketVersioningStatus) {
	q.Helper()
	_, err := q.s3.Client().PutBucketVersioning(q.Context(), &s3.PutBucketVersioningInput{
		Bucket: &q.bucket, VersioningConfiguration: &types.VersioningConfiguration{Status: status},
	})
	q.must(err)
}

// snapshot is all that there is, but for the quarantine.
func (q *quarantineBucket) snapshot() map[string]string {
	q.Helper()
	files, err := q.s3.Snapshot(q.Context(), q.bucket, s3Root)
	q.must(err)
	maps.DeleteFunc(files, func(path, _ string) bool { return strings.HasPrefix(path, layoutRoot+".regsweep/quarantine/") })
	return files
}

func (q *quarantineBucket) wantFiles(when string, want map[string]string) {
	q.Helper()
	lines := func(files map[string]string) (lines []string) {
		for path, sum := range files {
			lines = append(lines, path+" "+sum)
		}
		slices.Sort(lines)
		return lines
	}
	q.same("the files "+when, lines(q.snapshot()), lines(want))
}

// wantNoQuarantine sees that the directory of the quarantine is gone, with all versions of
// what was in it.
func (q *quarantineBucket) wantNoQuarantine(when string) {
	q.Helper()
	for path := range q.versions() {
		if strings.HasPrefix(path, ".regsweep/quarantine/") {
			q.Errorf("%s there is %s", when, path)
		}
	}
}

// versions counts the versions of each object, markers too, by path.
func (q *quarantineBucket) versions() map[string]int {
	q.Helper()
	found := map[string]int{}
	prefix := q.key("")
	out, err := q.s3.Client().ListObjectVersions(q.Context(), &s3.ListObjectVersionsInput{Bucket: &q.bucket, Prefix: &prefix})
	q.must(err)
	for _, v := range out.Versions {
		found[strings.TrimPrefix(*v.Key, prefix)]++
	}
	for _, m := range out.DeleteMarkers {
		found[strings.TrimPrefix(*m.Key, prefix)]++
	}
	return found
}

// quarantineJSON is what the commands of the quarantine report.
type quarantineJSON struct {
	Runs []struct {
		Run     string `json:"run"`
		Objects tally  `json:"objects"`
		Hidden  tally  `json:"hidden"`

		StillHidden tally `json:"still_hidden"`
		Freed       tally `json:"freed"`
	} `json:"runs"`
	Restored struct {
		Back      tallies `json:"back"`
		There     tallies `json:"there"`
		LeftCount int     `json:"left_count"`
	} `json:"restored"`
}

// command runs a command of the quarantine.
func (q *quarantineBucket) command(args ...string) (got quarantineJSON) {
	q.Helper()
	code, stdout, stderr := regsweep(q.fixture, append(append([]string{"quarantine"}, args...), q.target, "--json")...)
	if code != 0 || strings.Contains(stderr, "warning") {
		q.Fatalf("quarantine %v ends with %d: %s", args, code, stderr)
	}
	q.must(json.Unmarshal([]byte(stdout), &got))
	return got
}

// take runs gc --quarantine and returns the run's name.
func (q *quarantineBucket) take() string {
	q.Helper()
	// What a restoration has written is no push: the registry was made read-only after it.
	q.must(os.Chtimes(q.target, time.Time{}, time.Now().Add(time.Second)))
	code, stdout, stderr := regsweep(q.fixture, "gc", q.target, "-m", "--quarantine", "--json", "--no-cache", "--registry", q.registry.URL())
	var report struct {
		s3Report
		Quarantine struct {
			Run    string `json:"run"`
			Hidden bool   `json:"hidden"`
		} `json:"quarantine"`
	}
	q.must(json.Unmarshal([]byte(stdout), &report))
	if code != 0 || report.Quarantine.Run == "" {
		q.Fatalf("gc --quarantine ends with %d: %s", code, stderr)
	}
	if hides := q.versioning == types.BucketVersioningStatusEnabled; report.Quarantine.Hidden != hides {
		q.Errorf("the run says that it hides: %t", report.Quarantine.Hidden)
	}
	if report.HiddenBytes != report.Garbage.Blobs.Bytes+report.Garbage.Uploads.Bytes || report.Removed.Blobs.Bytes != 0 {
		q.Errorf("%d bytes are out of sight of %+v, and removed are %+v", report.HiddenBytes, report.Garbage, report.Removed)
	}
	q.wantFiles("after a run with --quarantine", q.swept)
	q.pull("after a run with --quarantine", q.client, q.alive)
	return report.Quarantine.Run
}

// roundTrip takes and puts back.
func (q *quarantineBucket) roundTrip() {
	before := q.snapshot()
	want := " to a quarantine; .* would be freed "
	if q.versioning == types.BucketVersioningStatusEnabled {
		want = " behind delete markers; .* would be freed "
	}
	if _, text, _ := regsweep(q.fixture, "gc", q.target, "-dm", "--quarantine", "--no-cache"); !regexp.MustCompile(want).MatchString(text) {
		q.Errorf("a dry run says %s", text)
	}
	run := q.take()
	listed := q.command("list").Runs
	if len(listed) != 1 || listed[0].Run != run {
		q.Fatalf("the quarantine has %+v", listed)
	}
	// Nothing but links whose content the plan knows goes without a trace.
	if held := listed[0]; held.Objects.Count+held.Hidden.Count < 9 || (held.Objects.Count > 0) == (held.Hidden.Count > 0) {
		q.Errorf("the quarantine has %+v", held)
	}
	if dry := q.command("restore", run, "-d"); dry.Restored.Back.Blobs.Count == 0 || dry.Restored.LeftCount > 0 {
		q.Errorf("a dry run would restore %+v", dry.Restored)
	}
	q.wantFiles("after a dry run", q.swept)
	restored := q.command("restore", run).Restored
	if dry := q.command("list").Runs; len(dry) > 0 || restored.LeftCount > 0 {
		q.Errorf("restored %+v, left %+v", restored, dry)
	}
	q.wantFiles("after it was all restored", before)
	q.wantNoQuarantine("after it was all restored")
}

// deletedByAPI puts an image back whose revision link was deleted before the run.
func (q *quarantineBucket) deletedByAPI() {
	before := q.snapshot()
	q.must(q.removeKey(q.key(imagetest.RevisionPath("team/app", q.old.Digest()))))
	run := q.take()
	if code, shown := q.quarantine("show", run[:10], q.target); code != 0 || len(shown.Contents) < 9 {
		q.Errorf("show ends with %d, and has %+v", code, shown.Contents)
	}
	code, restored := q.quarantine("restore", "latest", "--digest", q.old.Digest().String(), q.target)
	if code != 0 || len(restored.Restored.Linked) != 1 || restored.Restored.Linked[0].Repository != "team/app" {
		q.Errorf("restoring the image ends with %d: %+v", code, restored.Restored)
	}
	q.pull("restored", q.client, []image{pulls("team/app", q.old)})
	if code, rest := q.quarantine("restore", "--all", q.target); code != 0 {
		q.Errorf("restoring the rest ends with %d: %+v", code, rest.Restored)
	}
	q.wantFiles("after it was all restored", before)
	q.wantNoQuarantine("after it was all restored")
}

// partly puts a part back, and then the rest.
func (q *quarantineBucket) partly() {
	before := q.snapshot()
	run := q.take()
	want := maps.Clone(q.swept)
	restored := func(when string, isBack func(path string) bool, args ...string) {
		q.Helper()
		for range 2 { // the second finds it there
			q.command(append([]string{"restore", run}, args...)...)
		}
		for path, sum := range before {
			if isBack(strings.TrimPrefix(path, layoutRoot)) {
				want[path] = sum
			}
		}
		q.wantFiles(when, want)
	}
	of := func(path string, digests ...digest.Digest) bool {
		return slices.ContainsFunc(digests, func(d digest.Digest) bool { return strings.Contains(path, d.Encoded()) })
	}
	restored("after an image was restored", func(path string) bool {
		return of(path, q.old.Digests()...) && !strings.Contains(path, "team/other")
	}, "--digest", q.old.Digest().String())
	q.pull("after it was restored", q.client, []image{pulls("team/app", q.old)})
	restored("after a repository was restored", func(path string) bool {
		return of(path, q.other.Digests()...) || strings.HasPrefix(path, "repositories/team/other/")
	}, "--repository", "team/other")
	q.pull("after it was restored", q.client, []image{pulls("team/other", q.other)})
	q.command("restore", run)
	q.wantFiles("after the rest was restored", before)
	q.wantNoQuarantine("after the rest was restored")
}

// purge frees what went, but for what was restored before.
func (q *quarantineBucket) purge() {
	run := q.take()
	q.command("restore", run, "--digest", q.old.Digest().String())
	back := q.snapshot()
	held := q.command("list").Runs[0]
	purged := q.command("purge", "--older-than", "0h").Runs
	if len(purged) != 1 || purged[0].Run != run {
		q.Fatalf("purged %+v", purged)
	}
	freed, left := purged[0].Freed, q.versions()
	want := held.Objects.Bytes + held.StillHidden.Bytes
	if freed.Bytes != want || freed.Bytes == 0 {
		q.Errorf("freed %+v, want %d bytes", freed, want)
	}
	q.wantFiles("after the purge", back)
	q.wantNoQuarantine("after the purge")
	q.pull("after the purge", q.client, append(q.alive, pulls("team/app", q.old)))
	if q.versioning == types.BucketVersioningStatusSuspended {
		return // there the versions of earlier times stay, as they would without us
	}
	for _, d := range q.other.Digests() {
		if n := left[imagetest.BlobPath(d)]; n > 0 {
			q.Errorf("of %s there are %d versions", d, n)
		}
	}
	for path := range left {
		if strings.HasPrefix(path, q.upload) {
			q.Errorf("left: %s", path)
		}
	}
}
