package e2e

import (
	"io"
	"strings"
	"testing"

	"regsweep/internal/imagetest"
	"regsweep/internal/miniotest"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// newVersionedQuarantine puts an untagged manifest and what only it needs into a quarantine
// of a bucket that keeps versions. It returns the run's name and the files before it.
func newVersionedQuarantine(t *testing.T) (q *quarantineSite, run string, before map[string]string) {
	t.Helper()
	q = newQuarantineSite(t, miniotest.SharedMinIO(t), types.BucketVersioningStatusEnabled)
	before = q.snapshot()
	return q, q.take(), before
}

// pushAgain pushes the manifest that lies in the quarantine, and deletes it again.
func (q *quarantineSite) pushAgain(m *imagetest.Manifest) {
	q.Helper()
	q.must(q.registry.SetReadOnly(false))
	q.push("team/app:again", m)
	q.delete("team/app", m.Digest().String())
	q.must(q.registry.SetReadOnly(true))
}

// gcPurging runs gc -m --purge-versions.
func (q *quarantineSite) gcPurging() s3Report {
	q.Helper()
	return q.run("-m", "--purge-versions")
}

// TestPurgeVersionsSparesTheQuarantine: gc --purge-versions removes the versions of an object
// that was pushed again, but not the version that a quarantine records. A restore then puts
// everything back.
func TestPurgeVersionsSparesTheQuarantine(t *testing.T) {
	t.Parallel()
	q, run, before := newVersionedQuarantine(t)
	q.pushAgain(q.old)
	before3 := q.versions()[imagetest.BlobPath(q.old.Digest())]
	got := q.gcPurging()
	q.wantFiles("after gc --purge-versions", q.swept)
	if freed := got.Removed.Blobs; freed.Count == 0 || freed.Bytes == 0 {
		t.Errorf("nothing of the second push was freed: %+v", got)
	}
	if after3 := q.versions()[imagetest.BlobPath(q.old.Digest())]; after3 > before3 {
		t.Errorf("the manifest had %d versions and markers before the run, and has %d after it", before3, after3)
	}
	if again := q.gcPurging(); again.Garbage != (tallies{}) {
		t.Errorf("a second run finds %+v", again.Garbage)
	}
	q.command("restore", run)
	q.wantFiles("after everything was restored", before)
	q.wantNoQuarantine("after everything was restored")
}

// TestPurgeVersionsHidesWhatAQuarantineRecords: the object whose current version is the
// recorded one (it was restored while the rest of the run was not) is hidden, not purged.
func TestPurgeVersionsHidesWhatAQuarantineRecords(t *testing.T) {
	t.Parallel()
	q, run, before := newVersionedQuarantine(t)
	q.command("restore", run, "--digest", q.old.Digest().String())
	got := q.gcPurging()
	q.wantFiles("after gc --purge-versions", q.swept)
	if got.Removed.Blobs.Bytes != 0 || got.HiddenBytes == 0 {
		t.Errorf("the report says that recorded versions were freed: %+v", got)
	}
	q.command("restore", run)
	q.wantFiles("after everything was restored", before)
}

// TestPurgeVersionsStopsAtADamagedRecord: nobody knows which versions it records.
func TestPurgeVersionsStopsAtADamagedRecord(t *testing.T) {
	t.Parallel()
	q, run, _ := newVersionedQuarantine(t)
	q.pushAgain(q.old)
	q.write(".regsweep/quarantine/"+run+"/versions.jsonl", "{\"path\":\n")
	code, _, stderr := regsweep(q.site, "gc", q.target, "-m", "--purge-versions", "--no-cache", "--json", "--registry", q.registry.URL())
	if code != 1 || !strings.Contains(stderr, "quarantine "+run) || !strings.Contains(stderr, "without --purge-versions") {
		t.Errorf("ends with %d: %s", code, stderr)
	}
}

// TestPurgeOfOneQuarantineSparesAnother: two runs record the same version where the first was
// killed before it hid it. A purge of the first leaves what the second records.
func TestPurgeOfOneQuarantineSparesAnother(t *testing.T) {
	t.Parallel()
	q, first, before := newVersionedQuarantine(t)
	// What a killed run leaves: its record, and the objects where they were.
	record := q.content(".regsweep/quarantine/" + first + "/versions.jsonl")
	plan := q.content(".regsweep/quarantine/" + first + "/plan.jsonl")
	killed := "20200102T030405Z-00000001"
	q.write(".regsweep/quarantine/"+killed+"/versions.jsonl", record)
	q.write(".regsweep/quarantine/"+killed+"/plan.jsonl", plan)
	q.command("purge", "--run", killed)
	q.command("restore", first)
	q.wantFiles("after everything was restored", before)
}

// content reads an object of the layout.
func (q *quarantineSite) content(path string) string {
	q.Helper()
	key := q.key(path)
	object, err := q.s3.Client().GetObject(q.Context(), &s3.GetObjectInput{Bucket: &q.bucket, Key: &key})
	q.must(err)
	content, err := io.ReadAll(object.Body)
	q.must(err)
	q.must(object.Body.Close())
	return string(content)
}
