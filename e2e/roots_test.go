package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"regsweep/internal/imagetest"

	"github.com/opencontainers/go-digest"
)

// list writes a list of what is in use, and returns its path.
func (s *site) list(lines ...string) string {
	s.Helper()
	path := filepath.Join(s.TempDir(), "in-use.txt")
	s.must(os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600))
	return path
}

func tagsGo(repository string, tags ...string) (lines []string) {
	for _, tag := range tags {
		lines = append(lines, "tag "+imagetest.TagPath(repository, tag))
	}
	return lines
}

// With --roots only what the list names is alive, whatever tags there are. A tag whose
// manifest is removed is removed too, and never dangles.
func TestRootsReplaceTags(t *testing.T) {
	t.Parallel()
	tellAll(t, []story{
		{
			name: "digests and tags, with and without a host name",
			tell: func(s *site) outcome {
				used, tagged, stale, old := app(1, 2), app(1, 3), app(1, 4), app(1, 5)
				signature := imagetest.Referrer(used, "application/vnd.example.signature", []byte("signed"))
				s.push("team/app:stale", old)
				s.push("team/app:stale", stale)
				s.push("team/app:used", used)
				s.push("team/app:v1", tagged)
				s.push("team/app", signature)
				s.push("lib/other:v1", stale)
				s.delete("team/app", "used")
				return outcome{
					flags: []string{"--roots", s.list(
						"# what kubectl says", "",
						"registry.example.com:5000/team/app@"+used.Digest().String(),
						"team/app:v1",
						"docker.io/library/nginx:1.27")},
					goes: slices.Concat(
						tagEntriesGo("team/app", "stale", old, stale), tagEntriesGo("lib/other", "v1", stale),
						revisionsGo("team/app", old, stale), revisionsGo("lib/other", stale),
						tagsGo("team/app", "stale"), tagsGo("lib/other", "v1"),
						layersGo("team/app", layer(4).Digest(), layer(5).Digest(), configOf(old), configOf(stale)),
						layersGo("lib/other", content(stale)...),
						blobsGo(old.Digest(), stale.Digest(), layer(4).Digest(), layer(5).Digest(), configOf(old), configOf(stale))),
					alive: []image{pulls("team/app", "v1", used, signature)},
				}
			},
		},
		{
			// The tag's index has another manifest, which is in use: the tag is removed as a whole.
			name: "a stale tag that once was what is in use",
			tell: func(s *site) outcome {
				used, stale := app(1, 2), app(1, 3)
				s.push("app:latest", used)
				s.push("app:latest", stale)
				return outcome{
					flags: []string{"--roots", s.list("app@" + used.Digest().String())},
					goes: slices.Concat(
						tagEntriesGo("app", "latest", used, stale), revisionsGo("app", stale), tagsGo("app", "latest"),
						layersGo("app", layer(3).Digest(), configOf(stale)), blobsGo(stale.Digest(), layer(3).Digest(), configOf(stale))),
					alive: []image{pulls("app", used)},
				}
			},
		},
		{
			// What an index in use leads to is alive, and so is the tag of it.
			name: "the tag of one platform of an index",
			tell: func(s *site) outcome {
				child, other, gone := app(1, 2), app(1, 3), app(1, 4)
				index := imagetest.Index(imagetest.OCI, child, other)
				s.push("app:amd64", child)
				s.push("app:multi", index)
				s.push("app:gone", gone)
				return outcome{
					flags: []string{"--roots", s.list(index.Digest().String())}, // alone
					goes: slices.Concat(
						tagEntriesGo("app", "gone", gone), revisionsGo("app", gone), tagsGo("app", "gone"),
						layersGo("app", layer(4).Digest(), configOf(gone)), blobsGo(gone.Digest(), layer(4).Digest(), configOf(gone))),
					alive: []image{pulls("app", "amd64", "multi", other)},
				}
			},
		},
		{
			// --keep-digests adds roots, and tags are roots as they were.
			name: "digests to keep",
			tell: func(s *site) outcome {
				tagged, used, gone := app(1, 2), app(1, 3), app(1, 4)
				s.push("app:v1", tagged)
				s.push("app:used", used)
				s.push("app:gone", gone)
				s.delete("app", "used")
				s.delete("app", "gone")
				return outcome{
					flags: []string{"-m", "--keep-digests", s.list("app@"+used.Digest().String(), "app:gone", "nothing@"+digest.FromString("x").String())},
					goes: slices.Concat(
						revisionsGo("app", gone),
						layersGo("app", layer(4).Digest(), configOf(gone)), blobsGo(gone.Digest(), layer(4).Digest(), configOf(gone))),
					alive: []image{pulls("app", "v1", used)},
				}
			},
		},
		{
			// A registry may keep its links in a database: the blob is all that there is.
			name: "no repository has a link",
			tell: func(s *site) outcome {
				used, gone := app(1, 2), app(1, 3)
				s.push("group/app:v1", used)
				s.push("group/app:v2", gone)
				s.push("lib:v1", app(9))
				s.tree.Remove("repositories/group")
				return outcome{
					flags: []string{"--roots", s.list("group/app@"+used.Digest().String(), "lib:v1")},
					goes:  blobsGo(gone.Digest(), layer(3).Digest(), configOf(gone)),
					alive: []image{pulls("lib", "v1")},
					after: func(s *site) {
						for _, d := range used.Digests() {
							if _, found := s.files()[imagetest.BlobPath(d)]; !found {
								s.Errorf("%s is gone", s.readable(d.String()))
							}
						}
					},
				}
			},
		},
	})
}

// If nothing on a list is stored, it is most likely the wrong list.
func TestAListOfNothingIsRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	image := app(1, 2)
	s.push("app:v1", image)
	s.must(s.registry.SetReadOnly(true))
	before := s.files()
	for what, list := range map[string]string{
		"empty":            s.list(),
		"of others":        s.list("quay.io/other/app:v1", digest.FromString("x").String()),
		"without this tag": s.list("app:v2"),
	} {
		for _, flags := range [][]string{{"--roots", list}, {"--roots", list, "-d"}, {"-m", "--keep-digests", list}} {
			run := s.gc(flags...)
			if run.code != 3 || !strings.Contains(run.report.Error, "--allow-empty") {
				t.Errorf("%s, %v: it ends with %d, %s", what, flags, run.code, run.report.Error)
			}
		}
	}
	s.same("the files", keys(s.files()), keys(before))

	run := s.gc("--roots", s.list("app:v1", "gone/app:v1", "app:gone", "app@"+digest.FromString("x").String()))
	if run.code != 0 || run.report.Roots.Entries != 4 || run.report.Roots.Found != 1 {
		t.Errorf("it ends with %d: %+v", run.code, run.report.Roots)
	}
	var reasons []string
	for _, e := range run.report.Roots.NotStored {
		reasons = append(reasons, fmt.Sprint(e.Line, " ", e.Reason, " ", e.Kept))
	}
	s.same("what is not stored", reasons, []string{"2 no_repository false", "3 no_tag false", "4 no_manifest false"})
	s.same("the files", keys(s.files()), keys(before))

	target := s.config(s.registry.ConfigYAML())
	s.must(s.registry.Stop())
	if run := s.gcOn(target, "--roots", s.list(), "--allow-empty", "--registry-stopped"); run.code != 0 {
		t.Errorf("with --allow-empty: %d, %s", run.code, run.report.Error)
	}
	if left := s.files(); len(left) > 0 {
		t.Errorf("left: %v", keys(left))
	}
}

// A root that is damaged, and that no repository has a link to, ends the run: nothing tells
// what it needs. One that is linked keeps its repository.
func TestARootIsDamaged(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	used, other := app(1, 2), app(1, 3)
	s.push("app:v1", used)
	s.push("app:v2", other)
	s.push("lib:v1", app(9))
	s.must(s.registry.SetReadOnly(true))
	before := s.files()
	s.tree.Write(imagetest.BlobPath(used.Digest()), "spoilt")
	run := s.gc("--roots", s.list("app@"+used.Digest().String(), "lib:v1"))
	if run.code != 4 || run.report.Removed.Blobs.Count != 0 {
		t.Errorf("linked: it ends with %d, %d blobs removed: %s", run.code, run.report.Removed.Blobs.Count, run.report.Error)
	}
	run = s.gc("--roots", s.list("other@"+used.Digest().String(), "lib:v1"))
	if run.code != 1 || !strings.Contains(run.report.Error, used.Digest().String()) {
		t.Errorf("not linked: it ends with %d: %s", run.code, run.report.Error)
	}
	s.same("the files", keys(s.files()), keys(before))
}

// apply takes the list as it is now. What has come into use since the plan was made stays.
func TestApplyWithRoots(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	used, back, gone := app(1, 2), app(1, 3), app(1, 4)
	s.push("app:used", used)
	s.push("app:back", back)
	s.push("app:gone", gone)
	list := s.list("app:used")
	planFile, _ := s.savePlan("--roots", list)
	plain, _ := s.savePlan("-m")
	s.must(s.registry.SetReadOnly(true))
	for what, flags := range map[string][]string{planFile: nil, plain: {"--roots", list}} {
		if run := s.apply(what, flags...); run.code != 2 || !strings.Contains(run.report.Error, "--roots") {
			t.Errorf("it ends with %d: %s", run.code, run.report.Error)
		}
	}

	// Without the line of an index entry the tag stays, and so does its image.
	content, err := os.ReadFile(planFile)
	s.must(err)
	lines := strings.SplitAfter(string(content), "\n")
	before := s.files()
	s.strike(planFile, lines, func(line string) bool {
		return strings.Contains(line, `"tag_index_entry"`) && strings.Contains(line, `"gone"`)
	})
	run := s.apply(planFile, "--partial", "--roots", s.list("app:used", "app:back"))
	if run.code != 0 || len(run.report.Removed.counts()) > 0 {
		t.Errorf("it ends with %d, %v: %s", run.code, run.report.Removed.counts(), run.report.Error)
	}
	s.same("the files", keys(s.files()), keys(before))

	s.must(os.WriteFile(planFile, content, 0o600))
	run = s.apply(planFile, "--roots", s.list("app:used", "app:back"))
	goes := slices.Concat(tagEntriesGo("app", "gone", gone), revisionsGo("app", gone), tagsGo("app", "gone"),
		layersGo("app", layer(4).Digest(), configOf(gone)), blobsGo(gone.Digest(), layer(4).Digest(), configOf(gone)))
	if run.code != 0 {
		t.Errorf("it ends with %d: %s", run.code, run.report.Error)
	}
	s.same("the files", keys(s.files()), keys(without(before, goes)))
	s.pull("after it", s.client, []image{pulls("app", "used", "back")})
}

// A tag that goes to a quarantine comes back.
func TestATagIsRestored(t *testing.T) {
	t.Parallel()
	onEach(t, "with its image", func(t *testing.T, on backend) {
		s := newSite(t)
		used, gone := app(1, 2), app(1, 3)
		s.push("app:used", used)
		s.push("app:gone", gone)
		s.on(on)
		s.must(s.registry.SetReadOnly(true))
		before := s.files()
		run := s.gc("--quarantine", "--roots", s.list("app:used"))
		if run.code != 0 || run.report.Removed.Tags.Count != 1 {
			t.Fatalf("it ends with %d, %v: %s", run.code, run.report.Removed.counts(), run.stderr)
		}
		if restored := s.reported("quarantine", "restore", "latest", s.config(s.registry.ConfigYAML()), "--json"); restored.code != 0 {
			t.Errorf("restoring ends with %d: %s", restored.code, restored.report.Error)
		}
		s.same("the files", keys(s.files()), keys(before))
		s.pull("restored", s.client, []image{pulls("app", "used", "gone")})
	})
}
