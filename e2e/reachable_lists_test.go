package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"regsweep/internal/imagetest"
	"regsweep/internal/registrytest"
	"regsweep/storage"
	"regsweep/storage/layout"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/opencontainers/go-digest"
)

// list writes a list of what is in use, and returns its path.
func (s *fixture) list(lines ...string) string {
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
			tell: func(s *fixture) outcome {
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
			tell: func(s *fixture) outcome {
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
			tell: func(s *fixture) outcome {
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
			tell: func(s *fixture) outcome {
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
			tell: func(s *fixture) outcome {
				used, gone := app(1, 2), app(1, 3)
				s.push("group/app:v1", used)
				s.push("group/app:v2", gone)
				s.push("lib:v1", app(9))
				s.tree.Remove("repositories/group")
				return outcome{
					flags: []string{"--roots", s.list("group/app@"+used.Digest().String(), "lib:v1")},
					goes:  blobsGo(gone.Digest(), layer(3).Digest(), configOf(gone)),
					alive: []image{pulls("lib", "v1")},
					after: func(s *fixture) {
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
	s := newFixture(t)
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
	s := newFixture(t)
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
	s := newFixture(t)
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
		s := newFixture(t)
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

// A registry with GitLab's metadata database: its newer images have blobs and no links, so
// that they look like garbage. Promise 1.
func TestAMetadataDatabaseRefusesEveryRemoval(t *testing.T) {
	t.Parallel()
	onEach(t, "the file in the storage", func(t *testing.T, on backend) {
		s := newFixture(t)
		s.unrelated()
		s.on(on)
		s.must(s.registry.SetReadOnly(true))
		if code, stdout, _ := regsweep(s, "gc", "-dm", s.config(s.registry.ConfigYAML())); code != 0 || strings.Contains(stdout, "REFUSED") {
			t.Fatalf("without a sign it ends with %d: %s", code, stdout)
		}
		if on == bucket {
			key := s3Root + "/" + layout.GitLabDatabaseFile
			_, err := s.s3.Client().PutObject(t.Context(), &s3.PutObjectInput{Bucket: &s.bucket, Key: &key, Body: bytes.NewReader(nil)})
			s.must(err)
		} else {
			file := filepath.Join(s.tree.Root(), layout.GitLabDatabaseFile)
			must(t, os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, nil, 0o644))
		}
		s.refusesFor(layout.GitLabDatabaseFile, s.config(s.registry.ConfigYAML()), "other_truth")
	})
	for _, enabled := range []string{"true", `"prefer"`} {
		s := newFixture(t)
		s.unrelated()
		s.must(s.registry.SetReadOnly(true))
		s.refusesFor("database.enabled", s.config(s.registry.ConfigYAML()+"database:\n  enabled: "+enabled+"\n"), "other_truth")
	}
}

// With --unsafe-online pushes may run: they are no second reason to refuse.
func TestUnsafeOnlineIsNotRefusedForAPush(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	s.unrelated()
	s.tree.Upload("sound", "new", time.Now(), []byte("half a layer"))
	code, _, stderr := regsweep(s, "gc", "--unsafe-online", s.config(s.registry.ConfigYAML()+"database:\n  enabled: true\n"))
	if code != 3 || strings.Contains(stderr, "pushed just now") || strings.Contains(stderr, "wait, and run it again") {
		t.Errorf("ends with %d: %s", code, stderr)
	}
}

// refusesFor runs everything that removes, which must end with 3 and name a sign.
func (s *fixture) refusesFor(sign, target, by string) {
	s.Helper()
	before := s.files()
	for _, args := range [][]string{
		{"gc"}, {"gc", "-m"}, {"gc", "--registry-stopped"}, {"gc", "--unsafe-online"}, {"gc", "--quarantine"},
		{"gc", "--registry", s.registry.URL()}, {"check"}, {"check", "--registry-stopped"},
	} {
		code, stdout, stderr := regsweep(s, append(args, target)...)
		if code != 3 || !strings.Contains(stdout+stderr, sign) || !strings.Contains(stdout+stderr, "--roots FILE") {
			s.Errorf("%v ends with %d: %s%s", args, code, stdout, stderr)
		}
	}
	plan := filepath.Join(s.TempDir(), "plan")
	for _, flags := range [][]string{{"-d"}, {"-dq"}, {"-dm", "--plan", plan}, {"-d", "--json"}} {
		code, stdout, stderr := regsweep(s, append([]string{"gc", target}, flags...)...)
		if code != 3 || !strings.Contains(stdout+stderr, sign) || !strings.Contains(stderr, "regsweep: refused: ") && flags[len(flags)-1] != "--json" ||
			strings.Contains(stdout, "would be freed") {
			s.Errorf("gc %v ends with %d: %s%s", flags, code, stdout, stderr)
		}
		var report struct{ Guard struct{ By string } }
		if flags[len(flags)-1] == "--json" && (json.Unmarshal([]byte(stdout), &report) != nil || report.Guard.By != by) {
			s.Errorf("the report has %q", report.Guard.By)
		}
	}
	if code, stdout, stderr := regsweep(s, "apply", plan, target); code != 3 || !strings.Contains(stdout+stderr, sign) {
		s.Errorf("apply ends with %d: %s%s", code, stdout, stderr)
	}
	s.same("the files", filesAndSizes(s.files()), filesAndSizes(before))
}

func filesAndSizes(files map[string]int64) []string {
	var lines []string
	for name, size := range files {
		lines = append(lines, fmt.Sprint(name, size))
	}
	slices.Sort(lines)
	return lines
}

// Harbor has tags that the storage lacks. Their manifests look untagged.
func TestHarborsUntaggedManifestsAreNotRemoved(t *testing.T) {
	s := newFixture(t)
	s.damaged("project/app", 10) // -m removes the untagged half of it
	orphan := s.tree.Blob([]byte("what Harbor has forgotten"))
	s.must(s.registry.SetReadOnly(true))
	target := s.config(s.registry.ConfigYAML() + "auth:\n  htpasswd:\n    realm: harbor-registry-basic-realm\n    path: /etc/registry/passwd\n")
	s.tree.Age("", time.Hour)
	for flag, want := range map[string]int{"--json": 0, "-m": 3, "--delete-untagged": 3} {
		if code, stdout, _ := regsweep(s, "check", flag, target); code != want {
			t.Errorf("check %s ends with %d: %s", flag, code, stdout)
		}
	}
	plan := filepath.Join(t.TempDir(), "plan")
	if code, stdout, _ := regsweep(s, "gc", "-dm", "--plan", plan, target); code != 3 || !strings.Contains(stdout, "REFUSED") || !strings.Contains(stdout, "nothing would be: a run that removes would be refused.\n") {
		t.Errorf("a dry run ends with %d: %s", code, stdout)
	}
	for _, args := range [][]string{{"gc", "-m"}, {"gc", "-m", "--registry-stopped"}, {"gc", "-m", "--unsafe-online"}, {"apply", plan}} {
		code, stdout, stderr := regsweep(s, append(args, target)...)
		if code != 3 || !strings.Contains(stderr, "harbor-registry-basic-realm") || !strings.Contains(stderr, "--keep-digests FILE") {
			t.Errorf("%v ends with %d: %s%s", args, code, stdout, stderr)
		}
	}
	if !s.tree.Exists(imagetest.BlobPath(orphan)) {
		t.Error("a refused run has removed something")
	}
	if run := s.gcOn(target); run.code != 0 || run.report.Removed.Revisions.Count != 0 || s.tree.Exists(imagetest.BlobPath(orphan)) {
		t.Errorf("without -m: ends with %d, and %v is removed: %s", run.code, run.report.Removed.counts(), run.report.Error)
	}
}

// A pull-through cache writes in read-only mode too. A directory as the target does not say that
// the registry is one.
func TestAReadOnlyPullThroughCacheIsRefused(t *testing.T) {
	upstream := newFixture(t)
	upstream.push("team/app:v1", app(1, 2))
	upstream.push("team/app:v2", app(1, 3))
	root := t.TempDir()
	s := &fixture{T: t, tree: imagetest.NewTree(t, root), names: map[string]string{}}
	s.serve(registrytest.Config{Root: root, ReadOnly: true, ProxyOf: upstream.registry.URL()})
	s.must(s.client.PullAll(t.Context(), "team/app", "v1"))
	s.tree.Blob([]byte("garbage"))
	s.tree.Age("", time.Hour)
	before := s.files()
	for _, args := range [][]string{{"check"}, {"gc"}, {"gc", "-m"}, {"gc", "--registry-stopped"}} {
		code, stdout, stderr := regsweep(s, append(args, root, "--registry", s.registry.URL())...)
		if code != 3 || !strings.Contains(stdout+stderr, "is a pull-through cache") || !strings.Contains(stdout+stderr, "lists the tag v2") {
			t.Errorf("%v ends with %d: %s%s", args, code, stdout, stderr)
		}
	}
	s.same("the files", filesAndSizes(s.files()), filesAndSizes(before))
}

// The target is not what the registry serves: an empty volume, a slip in a prefix.
func TestAnEmptyStorageIsNotTheRegistrys(t *testing.T) {
	s := newFixture(t)
	s.unrelated()
	s.must(s.registry.SetReadOnly(true))
	empty := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(empty, storage.Root), 0o755))
	target := s.config(strings.ReplaceAll(s.registry.ConfigYAML(), s.tree.Root(), empty))
	for _, args := range [][]string{{"gc", target}, {"check", target}, {"gc", empty, "--registry", s.registry.URL()}} {
		code, stdout, stderr := regsweep(s, args...)
		if code != 3 || !strings.Contains(stdout+stderr, "has repositories that this storage lacks") || !strings.Contains(stdout+stderr, "sound") {
			t.Errorf("%v ends with %d: %s%s", args[0], code, stdout, stderr)
		}
	}
	// A repository is missing here, as if its disk were not mounted.
	s.tree.Remove("repositories/sound")
	whole := newFixture(t)
	whole.unrelated()
	whole.plant("kept", "v1", app(1, 77))
	s.plant("kept", "v1", app(1, 77))
	s.tree.Blob([]byte("what a crash left"))
	whole.must(whole.registry.SetReadOnly(true))
	other := s.config(strings.ReplaceAll(s.registry.ConfigYAML(), s.registry.Host(), whole.registry.Host()))
	if run := s.gcOn(other); run.code != 3 || !strings.Contains(run.report.Error, "has repositories that this storage lacks") {
		t.Errorf("a missing repository: ends with %d: %s", run.code, run.report.Error)
	}
}
