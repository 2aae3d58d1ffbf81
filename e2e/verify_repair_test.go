package e2e

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"regsweep/internal/imagetest"

	"github.com/opencontainers/go-digest"
)

// repairable is a registry with an image, an index and an image that shares layers, and a copy of its storage.
type repairable struct {
	*fixture
	backup string
	images []image
	whole  map[string]string // the contents before the damage, by path
}

func newRepairable(t *testing.T) *repairable {
	s := &repairable{fixture: newFixture(t), backup: t.TempDir()}
	index := imagetest.Index(imagetest.OCI, app(1, 2), app(1, 3))
	s.push("app:image", app(1, 2, 4))
	s.push("app:index", index)
	s.push("team/other:image", app(1, 2, 4))
	s.images = []image{{"app", []string{"image", "index"}}, {"team/other", []string{"image"}}}
	s.must(os.CopyFS(s.backup, os.DirFS(s.tree.Root())))
	s.whole = s.shape()
	return s
}

// damage changes files of the tree in the ways of the map: by the end of a path, with the new content, or removes
// them if it is "-".
func (s *repairable) damage(of map[string]string) {
	s.Helper()
	for end, content := range of {
		met := false
		for _, path := range slices.Sorted(maps.Keys(s.whole)) {
			if s.whole[path] == aDirectory || !strings.HasSuffix(path, end) {
				continue
			}
			met = true
			s.must(os.Remove(s.tree.Path(path)))
			if content != "-" {
				s.tree.Write(path, content)
			}
		}
		if !met {
			s.Fatalf("there is no %s", end)
		}
	}
}

// repair runs verify, first as a dry run that must change nothing.
func (s *repairable) repair(args ...string) (code int, findings []map[string]any) {
	s.Helper()
	s.must(s.registry.SetReadOnly(true))
	defer func() { s.must(s.registry.SetReadOnly(false)) }()
	args = append(slices.Clip(args), "--json", "--no-cache", "--registry", s.registry.URL(), s.target())
	before := s.files()
	if code, _, stderr := regsweep(s.fixture, append([]string{"verify", "--dry-run"}, args...)...); code != 4 {
		s.Errorf("a dry run ends with %d: %s", code, stderr)
	}
	if !maps.Equal(before, s.files()) {
		s.Error("a dry run changes the storage")
	}
	code, stdout, stderr := regsweep(s.fixture, append([]string{"verify", "--yes"}, args...)...)
	report := decode[struct{ Findings []map[string]any }](s.fixture, stdout)
	if code != 0 && code != 4 {
		s.Errorf("a repair ends with %d: %s", code, stderr)
	}
	return code, report.Findings
}

// target is the config.yml of the registry.
func (s *repairable) target() string { return s.config(s.registry.ConfigYAML()) }

var (
	sharedLayer = layer(1).Digest()
	ownLayer    = layer(4).Digest()
	child       = app(1, 3).Digest()
	tagged      = app(1, 2, 4).Digest()
)

func link(d digest.Digest) string { return d.Algorithm().String() + "/" + d.Encoded() + "/link" }

// TestVerifyRepairs: what is missing or damaged is put right from what is there and from a copy, and all images can
// be pulled. What is intact stays as it is.
func TestVerifyRepairs(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		damage map[string]string
		refill bool
		flags  []string
	}{
		{name: "links that are missing", damage: map[string]string{
			"app/_layers/" + link(sharedLayer): "-", "app/_manifests/revisions/" + link(child): "-", "other/_manifests/revisions/" + link(tagged): "-",
		}, flags: []string{"--repair=links"}},
		{name: "links that are damaged", damage: map[string]string{
			"app/_layers/" + link(sharedLayer): "", "app/_manifests/revisions/" + link(child): child.String() + "\n", "app/_manifests/revisions/" + link(tagged): child.String(),
		}, flags: []string{"--repair", "links"}},
		{name: "blobs that are missing", damage: map[string]string{
			imagetest.BlobPath(sharedLayer): "-", imagetest.BlobPath(child): "-", imagetest.BlobPath(configOf(app(1, 3))): "-",
		}, refill: true},
		{name: "blobs that are damaged", damage: map[string]string{
			imagetest.BlobPath(ownLayer): "short", imagetest.BlobPath(tagged): "{}",
		}, refill: true},
		{name: "content of the right size", damage: map[string]string{
			imagetest.BlobPath(ownLayer): strings.Repeat("x", len(layer(4).Content)),
		}, refill: true, flags: []string{"--read-data"}},
		{name: "all together", damage: map[string]string{
			imagetest.BlobPath(sharedLayer): "-", imagetest.BlobPath(child): "-", imagetest.BlobPath(tagged): "damaged",
			"app/_layers/" + link(sharedLayer): "-", "app/_manifests/revisions/" + link(child): "-", "other/_layers/" + link(ownLayer): "wrong",
		}, refill: true, flags: []string{"--repair=links,blobs"}},
	} {
		onEach(t, test.name, func(t *testing.T, on backend) {
			s := newRepairable(t)
			s.damage(test.damage)
			s.on(on)
			damaged := s.files()
			flags := test.flags
			if test.refill {
				flags = append(slices.Clip(flags), "--refill", s.backup)
			}
			code, findings := s.repair(flags...)
			if code != 0 || len(findings) == 0 {
				t.Errorf("it ends with %d, and there are %d findings: %v", code, len(findings), findings)
			}
			for _, f := range findings {
				if f["repaired"] != true {
					t.Errorf("not repaired: %v", f)
				}
			}
			for path, size := range damaged {
				if now, found := s.files()[path]; !found || now != size && !isDamaged(test.damage, path) {
					t.Errorf("%s had %d bytes and has %d now", path, size, now)
				}
			}
			s.pull("after the repair", s.client, s.images)
		})
	}
}

func isDamaged(damage map[string]string, path string) bool {
	for end := range damage {
		if strings.HasSuffix(path, end) {
			return true
		}
	}
	return false
}

// TestVerifyMovesDamagedBlobsAway: a push stores the blob again, and the quarantine does not put the damaged one back.
func TestVerifyMovesDamagedBlobsAway(t *testing.T) {
	t.Parallel()
	onEach(t, "", func(t *testing.T, on backend) {
		s := newRepairable(t)
		s.damage(map[string]string{imagetest.BlobPath(ownLayer): "short"})
		s.on(on)
		if code, _ := s.repair("--repair=blobs"); code != 4 {
			t.Errorf("it ends with %d", code)
		}
		if _, found := s.files()[imagetest.BlobPath(ownLayer)]; found {
			t.Error("the damaged blob is still there")
		}
		if code, _, _ := regsweep(s.fixture, "quarantine", "restore", "latest", s.target()); code != 4 {
			t.Errorf("a restoration ends with %d", code)
		}
		s.push("app:image", app(1, 2, 4))
		s.pull("after a push", s.client, s.images)
		if code, _, stderr := regsweep(s.fixture, "verify", "--read-data", "--no-cache", s.target()); code != 0 {
			t.Errorf("then verify ends with %d: %s", code, stderr)
		}
	})
}

// TestVerifyUntagsOnlyWhatIsLost: a tag stays if a link would cure it, or if a platform of it is whole. A restoration
// brings a tag back.
func TestVerifyUntagsOnlyWhatIsLost(t *testing.T) {
	t.Parallel()
	onEach(t, "", func(t *testing.T, on backend) {
		s := newRepairable(t)
		s.damage(map[string]string{
			imagetest.BlobPath(ownLayer): "-", imagetest.BlobPath(child): "-", "app/_layers/" + link(layer(2).Digest()): "-",
		})
		s.push("app:curable", app(5, 6))
		s.tree.Remove(imagetest.LayerPath("app", layer(5).Digest()))
		s.on(on)
		s.repair("--repair=untag-broken")
		files := s.files()
		for tag, stays := range map[string]bool{"app/_manifests/tags/image": false, "other/_manifests/tags/image": false, "app/_manifests/tags/index": true, "app/_manifests/tags/curable": true} {
			found := slices.ContainsFunc(slices.Collect(maps.Keys(files)), func(path string) bool { return strings.Contains(path, tag+"/") })
			if found != stays {
				t.Errorf("%s is there: %t", tag, found)
			}
		}
		if code, _, stderr := regsweep(s.fixture, "quarantine", "restore", "latest", s.target()); code != 0 {
			t.Errorf("a restoration ends with %d: %s", code, stderr)
		}
		if _, found := s.files()["repositories/app/_manifests/tags/image/current/link"]; !found {
			t.Error("the tag is not back")
		}
	})
}

// TestVerifyRepairsNothingWithoutProof: a registry that takes pushes refuses (4).
func TestVerifyRepairsNothingWithoutProof(t *testing.T) {
	t.Parallel()
	s := newRepairable(t)
	s.damage(map[string]string{"app/_layers/" + link(sharedLayer): "-", imagetest.BlobPath(ownLayer): "short"})
	s.tree.Age("", time.Hour)
	before := s.files()
	args := []string{"verify", "--repair=links,blobs,untag-broken", "--refill", s.backup, "--yes", "--registry", s.registry.URL(), s.tree.Root()}
	if code, _, stderr := regsweep(s.fixture, args...); code != 3 || !strings.Contains(stderr, "takes pushes") {
		t.Errorf("it ends with %d: %s", code, stderr)
	}
	if !maps.Equal(before, s.files()) {
		t.Error("it changes the storage")
	}
	s.must(s.registry.SetReadOnly(true))
	if code, _, stderr := regsweep(s.fixture, args...); code != 0 {
		t.Errorf("of a read-only registry it ends with %d: %s", code, stderr)
	}
	s.pull("after the repair", s.client, s.images)
}
