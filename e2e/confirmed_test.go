package e2e

import (
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"regsweep/internal/imagetest"
	"regsweep/internal/miniotest"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/opencontainers/go-digest"
)

// hardLinks is what a report tells of garbage with other hard links.
type hardLinks struct {
	Garbage, Removed tallies
	HardLinked       struct {
		Count int
		Bytes int64
	} `json:"hard_linked"`
	HiddenBytes int64 `json:"hidden_bytes"`
}

// hardLinkedFixture has a tagged image, and two blobs of 1000 and 20 bytes that are garbage.
func hardLinkedFixture(t *testing.T) (s *fixture, large, small digest.Digest) {
	s = newFixture(t)
	s.plant("app", "v1", app(1, 2))
	large = s.tree.Blob([]byte(strings.Repeat("x", 1000)))
	small = s.tree.Blob([]byte("twenty bytes of text"))
	s.must(s.registry.SetReadOnly(true))
	return s, large, small
}

// copyLinked copies the whole registry with hard links.
func (s *fixture) copyLinked() (copied string) {
	s.Helper()
	copied = filepath.Join(s.TempDir(), "copy")
	s.must(exec.CommandContext(s.Context(), "cp", "-al", s.tree.Root(), copied).Run())
	return copied
}

// runHardLinked runs gc without a prompt. The figures are those of the report.
func (s *fixture) runHardLinked(flags ...string) (run hardLinks) {
	s.Helper()
	code, stdout, stderr := regsweep(s, append([]string{"gc", s.config(s.registry.ConfigYAML()), "--registry", s.registry.URL(), "--json"}, flags...)...)
	if err := json.Unmarshal([]byte(stdout), &run); err != nil || code != 0 {
		s.Fatalf("ends with %d, %v: %s", code, err, stderr)
	}
	return run
}

// TestHardLinkedFilesFreeNothing: what a copy made with cp -al has too is removed, and its bytes
// do not count as freed, in the dry run as in the real run and in a purge.
func TestHardLinkedFilesFreeNothing(t *testing.T) {
	t.Parallel()
	s, _, small := hardLinkedFixture(t)
	s.tree.Upload("app", "left", time.Now().Add(-1000*time.Hour), []byte("half an upload"))
	s.copyLinked()
	alone := s.tree.Blob([]byte("pushed after the copy"))
	dry := s.runHardLinked("--dry-run")
	all := dry.Garbage.Blobs.Bytes + dry.Garbage.Uploads.Bytes
	freed := int64(len("pushed after the copy"))
	if dry.Garbage.Blobs.Count != 3 || dry.HardLinked.Count != 3 || dry.HardLinked.Bytes != all-freed {
		t.Errorf("the dry run counts %+v", dry)
	}
	config := s.config(s.registry.ConfigYAML())
	_, text, _ := regsweep(s, "gc", "-d", config)
	if !strings.Contains(text, "; 21 B would be freed.") || !strings.Contains(text, "with other hard links") {
		t.Errorf("the dry run says: %s", text)
	}

	s.runHardLinked("--quarantine")
	run := onlyRun(s)
	if _, text, _ = regsweep(s, "quarantine", "purge", "--dry-run", "--run", run, config); !strings.Contains(text, "; 21 B would be freed.") {
		t.Errorf("the dry run of the purge says: %s", text)
	}
	regsweep(s, "quarantine", "restore", run, config)
	if !s.tree.Exists(imagetest.BlobPath(small)) {
		t.Fatal("the blob was not restored")
	}

	real := s.runHardLinked()
	if real.Removed.Blobs.Count != 3 || real.Removed.Blobs.Bytes+real.Removed.Uploads.Bytes != freed || real.HardLinked != dry.HardLinked ||
		real.Garbage != dry.Garbage || real.HiddenBytes != 0 {
		t.Errorf("the run counts %+v, the dry run %+v", real, dry)
	}
	if s.tree.Exists(imagetest.BlobPath(small)) || s.tree.Exists(imagetest.BlobPath(alone)) {
		t.Error("a blob is still there")
	}
}

// TestAPurgeDoesNotFreeHardLinkedFiles counts what it has removed, and the bytes that it freed.
func TestAPurgeDoesNotFreeHardLinkedFiles(t *testing.T) {
	t.Parallel()
	s, _, _ := hardLinkedFixture(t)
	s.copyLinked()
	s.tree.Blob([]byte("pushed after the copy"))
	s.runHardLinked("--quarantine")
	_, text, _ := regsweep(s, "quarantine", "purge", "--yes", "--run", onlyRun(s), s.config(s.registry.ConfigYAML()))
	if !strings.Contains(text, "3 objects removed, 21 B freed") {
		t.Errorf("the purge says: %s", text)
	}
}

// TestHardLinksCountAtTheRemoval: a copy that was removed after the plan was made keeps nothing.
func TestHardLinksCountAtTheRemoval(t *testing.T) {
	t.Parallel()
	s, _, _ := hardLinkedFixture(t)
	copied := s.copyLinked()
	plan, dry := s.savePlan()
	s.must(os.RemoveAll(copied))
	run := s.apply(plan)
	if run.code != 0 || run.report.Removed != dry.report.Garbage || run.report.Removed.Blobs.Bytes != 1020 {
		t.Errorf("ends with %d, removed %+v", run.code, run.report.Removed)
	}
}

// TestTwoBlobsInOneFile: the space of a file is freed, and counted, with its last name.
func TestTwoBlobsInOneFile(t *testing.T) {
	t.Parallel()
	s, large, small := hardLinkedFixture(t)
	path := s.tree.Path(imagetest.BlobPath(small))
	s.must(os.Remove(path))
	s.must(os.Link(s.tree.Path(imagetest.BlobPath(large)), path))
	if dry := s.runHardLinked("--dry-run"); dry.Garbage.Blobs.Bytes != 2000 || dry.HardLinked.Count != 2 || dry.HardLinked.Bytes != 2000 {
		t.Errorf("the dry run counts %+v", dry)
	}
	if run := s.runHardLinked(); run.Removed.Blobs.Count != 2 || run.Removed.Blobs.Bytes != 1000 || run.HardLinked.Count != 1 || run.HardLinked.Bytes != 1000 {
		t.Errorf("the run counts %+v", run)
	}
}

// TestSuspendedVersioning: what was pushed while the bucket kept versions is hidden, and what
// was pushed before or since is destroyed. The report says how much is freed.
func TestSuspendedVersioning(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		states []types.BucketVersioningStatus // of the bucket before each push, and at the run
		frees  int                            // of the two manifests
	}{
		"pushed before versioning":    {[]types.BucketVersioningStatus{"", "", types.BucketVersioningStatusEnabled, types.BucketVersioningStatusSuspended}, 2},
		"pushed while it was enabled": {[]types.BucketVersioningStatus{types.BucketVersioningStatusEnabled, "", types.BucketVersioningStatusSuspended}, 0},
		"one of each":                 {[]types.BucketVersioningStatus{types.BucketVersioningStatusEnabled, types.BucketVersioningStatusSuspended}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			q := &quarantineBucket{fixture: newBucketFixture(t)}
			gone := []*imagetest.Manifest{app(1, 2), app(3, 4)}
			q.push("team/app:kept", app(5, 6))
			for i, state := range test.states {
				if state != "" {
					q.setVersioning(state)
				}
				if i < len(gone) {
					q.push("team/app:gone", gone[i])
					q.delete("team/app", gone[i].Digest().String())
				}
			}
			q.must(q.registry.SetReadOnly(true))
			config := q.config(q.registry.ConfigYAML())
			_, text, _ := regsweep(q.fixture, "gc", config, "-dm", "--no-cache")
			dry := q.run("--dry-run", "-m")
			run := q.run("-m")
			all, freed := dry.Garbage.Blobs.Bytes, run.Removed.Blobs.Bytes
			if all == 0 || run.Removed.Blobs.Count != dry.Garbage.Blobs.Count || freed+run.HiddenBytes != all {
				t.Errorf("freed %d and hidden %d of %d bytes", freed, run.HiddenBytes, all)
			}
			if (freed == 0) != (test.frees == 0) || (run.HiddenBytes == 0) != (test.frees == 2) {
				t.Errorf("freed %d and hidden %d of %d bytes", freed, run.HiddenBytes, all)
			}
			if strings.Contains(text, "; 0 B would be freed.") != (test.frees == 0) || strings.Contains(text, "Versioning of the bucket is suspended") != (test.frees > 0) {
				t.Errorf("the dry run says: %s", text)
			}
		})
	}
}

// newVersionedQuarantine puts an untagged manifest and what only it needs into a quarantine
// of a bucket that keeps versions. It returns the run's name and the files before it.
func newVersionedQuarantine(t *testing.T) (q *quarantineBucket, run string, before map[string]string) {
	t.Helper()
	q = newQuarantineBucket(t, miniotest.SharedMinIO(t), types.BucketVersioningStatusEnabled)
	before = q.snapshot()
	return q, q.take(), before
}

// pushAgain pushes the manifest that lies in the quarantine, and deletes it again.
func (q *quarantineBucket) pushAgain(m *imagetest.Manifest) {
	q.Helper()
	q.must(q.registry.SetReadOnly(false))
	q.push("team/app:again", m)
	q.delete("team/app", m.Digest().String())
	q.must(q.registry.SetReadOnly(true))
}

// gcPurging runs gc -m --purge-versions.
func (q *quarantineBucket) gcPurging() s3Report {
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
	code, _, stderr := regsweep(q.fixture, "gc", q.target, "-m", "--purge-versions", "--no-cache", "--json", "--registry", q.registry.URL())
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
func (q *quarantineBucket) content(path string) string {
	q.Helper()
	key := q.key(path)
	object, err := q.s3.Client().GetObject(q.Context(), &s3.GetObjectInput{Bucket: &q.bucket, Key: &key})
	q.must(err)
	content, err := io.ReadAll(object.Body)
	q.must(err)
	q.must(object.Body.Close())
	return string(content)
}

// TestARunWithoutItsRecordOfVersionsIsDamaged: what it has hidden stays in the bucket. A purge by age
// leaves the run and names it, a restoration says what it can't put back, and a purge by its name says
// which objects are kept (6).
func TestARunWithoutItsRecordOfVersionsIsDamaged(t *testing.T) {
	t.Parallel()
	for name, cut := range map[string]func(lines []string) []string{
		"no record":       nil,
		"an empty record": func([]string) []string { return nil },
		"half a record":   func(lines []string) []string { return lines[:len(lines)/2] },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			q, run, _ := newVersionedQuarantine(t)
			dir := ".regsweep/quarantine/" + run
			lines := strings.SplitAfter(strings.TrimSuffix(q.content(dir+"/versions.jsonl"), "\n"), "\n")
			var left []string
			if cut == nil {
				q.must(q.removeKey(q.key(dir + "/versions.jsonl")))
			} else {
				left = cut(lines)
				q.write(dir+"/versions.jsonl", strings.Join(left, ""))
			}
			lost := map[string]int{}
			for _, line := range lines[len(left):] {
				var v struct{ Path string }
				q.must(json.Unmarshal([]byte(line), &v))
				if strings.HasPrefix(v.Path, "blobs/") || strings.HasSuffix(v.Path, "/data") {
					lost[v.Path] = q.versions()[v.Path]
				}
			}
			_, text, _ := regsweep(q.fixture, "quarantine", "list", q.target)
			if !strings.Contains(strings.Join(strings.Fields(text), " "), "its record of versions is missing or too short") {
				t.Errorf("the list says %s", text)
			}
			passed := q.ofRuns(4, "purge", "--yes", "--older-than", "0s", q.target).PassedOver
			if len(passed) != 1 || passed[0].Run != run || !strings.Contains(passed[0].Problem, "is missing or too short") {
				t.Errorf("a purge by age leaves %+v", passed)
			}
			if n := q.versions()[dir+"/plan.jsonl"]; n == 0 {
				t.Error("the plan is gone")
			}
			code, text, stderr := regsweep(q.fixture, "quarantine", "restore", "-d", run, q.target)
			if code != 4 || strings.Contains(text, "neither in this quarantine") || !strings.Contains(text, "its versions stay in the bucket") {
				t.Errorf("a dry run of restore ends with %d: %s%s", code, text, stderr)
			}
			code, text, stderr = regsweep(q.fixture, "quarantine", "purge", "--yes", "--run", run, q.target)
			if code != 4 || !strings.Contains(text, "their versions stay in the bucket") {
				t.Errorf("a purge by name ends with %d: %s%s", code, text, stderr)
			}
			for path, n := range lost {
				if q.versions()[path] != n {
					t.Errorf("of %s there were %d versions, and there are %d", path, n, q.versions()[path])
				}
			}
			q.wantNoQuarantine("after it was purged by its name")
		})
	}
}

// TestARunThatHasHiddenNothingIsNotDamaged: it was killed before it had a record of versions, and
// another run took what it was to take.
func TestARunThatHasHiddenNothingIsNotDamaged(t *testing.T) {
	t.Parallel()
	q, run, _ := newVersionedQuarantine(t)
	killed := "20200102T030405Z-00000001"
	q.write(".regsweep/quarantine/"+killed+"/plan.jsonl", q.content(".regsweep/quarantine/"+run+"/plan.jsonl"))
	for _, runs := range [][]string{{killed, run}, {killed}} {
		for _, listed := range q.ofRuns(0, "list", q.target).Runs {
			if listed.Damage != "" {
				t.Errorf("of %v, %s has the damage %q", runs, listed.Run, listed.Damage)
			}
		}
		q.ofRuns(0, "purge", "--yes", "--run", runs[len(runs)-1], q.target)
	}
	q.wantNoQuarantine("after both were purged")
}
