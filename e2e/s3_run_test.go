package e2e

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
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
func (s *site) run(flags ...string) (r s3Report) {
	s.Helper()
	config := s.config(s.registry.ConfigYAML())
	code, stdout, stderr := regsweep(s, append([]string{"gc", config, "--json", "--no-cache", "--registry", s.registry.URL()}, flags...)...)
	if code != 0 {
		s.Fatalf("exit code %d: %s", code, stderr)
	}
	s.must(json.Unmarshal([]byte(stdout), &r))
	return r
}

// A run on a bucket lists it, reads each manifest once, and no link: their ETags say that
// they are as they should be. What goes, goes a thousand at a time, and costs no look.
func TestRequestsOfARunOnS3(t *testing.T) {
	t.Parallel()
	manyAlike(t)
	s := newSite(t)
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
	// The lock looks before it writes.
	if most := 2 + 2*real.Requests.Put; real.Requests.Head > most {
		t.Errorf("%d looks, want at most %d", real.Requests.Head, most)
	}
}

// A bucket that keeps versions only hides what is removed, and the report says so; with
// --purge-versions all of it goes, and the bytes of the dry run are those of the run.
func TestVersionedBucket(t *testing.T) {
	t.Parallel()
	s := newBucketSite(t)
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
