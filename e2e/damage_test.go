package e2e

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"regsweep/internal/imagetest"

	"github.com/opencontainers/go-digest"
)

// unrelated plants what every story of damage has beside it: a repository with nothing
// wrong in it, which is collected to the last byte whatever is damaged elsewhere (2).
// It shares its first layer with the images of the damaged repositories.
func (s *fixture) unrelated() (goes []string, alive image) {
	old, current := app(1, 901), app(1, 902)
	s.plant("sound", "v1", old)
	s.plant("sound", "v1", current)
	return slices.Concat(
		tagEntriesGo("sound", "v1", old), revisionsGo("sound", old),
		layersGo("sound", layer(901).Digest(), configOf(old)),
		blobsGo(old.Digest(), layer(901).Digest(), configOf(old))), pulls("sound", "v1", current)
}

// damaged plants a repository with garbage for a run with -m: a tag that moved, an image that was
// never tagged, and a blob that nothing names.
func (s *fixture) damaged(repository string, n int) (tagged, old, untagged *imagetest.Manifest) {
	tagged, old, untagged = app(1, n+1), app(1, n+2), app(1, n+3)
	s.plant(repository, "v1", old)
	s.plant(repository, "v1", tagged)
	s.plant(repository, "", untagged)
	s.tree.LayerLink(repository, s.tree.Blob(layer(n+4).Content))
	return tagged, old, untagged
}

// TestDamagedLinks: what a link says can be wrong in many ways, in any kind of link. The
// repository keeps all that it has, and the run says which link it is (2).
func TestDamagedLinks(t *testing.T) {
	t.Parallel()
	manyAlike(t)
	contents := []struct {
		name string
		of   func(d digest.Digest) string
	}{
		{"empty", func(digest.Digest) string { return "" }},
		{"newline", func(d digest.Digest) string { return d.String() + "\n" }},
		{"short", func(d digest.Digest) string { return d.String()[:40] }},
		{"long", func(d digest.Digest) string { return d.String() + "00" }},
		{"prose", func(digest.Digest) string { return "see the other disk" }},
		{"zeros", func(d digest.Digest) string { return strings.Repeat("\x00", len(d)) }},
		{"huge", func(d digest.Digest) string { return strings.Repeat(d.String(), 100) }},
	}
	links := []struct {
		name string
		// damage returns the path of the link and the digest that it should name.
		damage func(repository string, tagged, old *imagetest.Manifest) (string, digest.Digest)
	}{
		{"tag", func(r string, tagged, _ *imagetest.Manifest) (string, digest.Digest) {
			return imagetest.TagPath(r, "v1"), tagged.Digest()
		}},
		{"revision", func(r string, tagged, _ *imagetest.Manifest) (string, digest.Digest) {
			return imagetest.RevisionPath(r, tagged.Digest()), tagged.Digest()
		}},
		{"untagged-revision", func(r string, _, old *imagetest.Manifest) (string, digest.Digest) {
			return imagetest.RevisionPath(r, old.Digest()), old.Digest()
		}},
		{"dying-layer", func(r string, _, old *imagetest.Manifest) (string, digest.Digest) {
			return imagetest.LayerPath(r, old.Blobs[1].Digest()), old.Blobs[1].Digest()
		}},
	}
	var stories []story
	for _, link := range links {
		stories = append(stories, story{
			name: link.name,
			tell: func(s *fixture) outcome {
				want := outcome{flags: []string{"-m"}, exit: 4}
				goes, sound := s.unrelated()
				want.goes, want.alive = goes, []image{sound}
				for i, content := range contents {
					repository := "damaged/" + content.name
					tagged, old, untagged := s.damaged(repository, 10*(i+1))
					path, d := link.damage(repository, tagged, old)
					s.tree.Write(path, content.of(d))
					want.problems = append(want.problems, problem("damaged_link", repository, path))
					want.alive = append(want.alive, pulls(repository, untagged))
				}
				return want
			},
		})
	}
	tellAll(t, stories)
}

// TestDamage has a story for each row of the design's table of damage (2), but for those
// of links and of faults.
func TestDamage(t *testing.T) {
	t.Parallel()
	manyAlike(t)
	stories := []story{
		{
			// It could name anything, so what it names counts as well, and so does all
			// else that the repository has.
			name: "a revision link that names another manifest",
			tell: func(s *fixture) outcome {
				goes, sound := s.unrelated()
				tagged, old, untagged := s.damaged("damaged", 10)
				path := imagetest.RevisionPath("damaged", old.Digest())
				s.tree.Write(path, untagged.Digest().String())
				return outcome{
					flags: []string{"-m"}, goes: goes, exit: 4,
					alive:    []image{sound, pulls("damaged", "v1", tagged, untagged)},
					problems: []string{problem("damaged_link", "damaged", path)},
				}
			},
		},
		{
			// All that the tag ever had counts, and nothing but that is kept.
			name: "a tag without its current link",
			tell: func(s *fixture) outcome {
				goes, sound := s.unrelated()
				tagged, old, untagged := s.damaged("damaged", 10)
				s.tree.Remove(path.Dir(imagetest.TagPath("damaged", "v1")))
				s.push("damaged:v2", app(15))
				return outcome{
					flags: []string{"-m"}, exit: 4,
					goes: slices.Concat(goes,
						revisionsGo("damaged", untagged),
						layersGo("damaged", layer(13).Digest(), configOf(untagged), layer(14).Digest()),
						blobsGo(untagged.Digest(), layer(13).Digest(), configOf(untagged), layer(14).Digest())),
					alive:    []image{sound, pulls("damaged", "v2", tagged, old)},
					problems: []string{problem("tag_without_current", "damaged", imagetest.TagPath("damaged", "v1"))},
				}
			},
		},
		{
			// An index may name platforms that were never copied. It is whole as it is,
			// and keeps nothing for them.
			name: "a sparse index",
			tell: func(s *fixture) outcome {
				goes, sound := s.unrelated()
				here, absent := app(11), app(12)
				index := imagetest.Index(imagetest.OCI, here, absent)
				index.Manifests = index.Manifests[:1]
				old := app(13)
				s.push("sparse:v1", old)
				s.push("sparse:v1", index)
				return outcome{
					flags: []string{"-m"},
					goes: slices.Concat(goes, tagEntriesGo("sparse", "v1", old), revisionsGo("sparse", old),
						layersGo("sparse", content(old)...), blobsGo(old.Digests()...)),
					alive:    []image{sound, pulls("sparse", here)},
					problems: []string{problem("sparse_index", "sparse", imagetest.BlobPath(index.Digest()))},
				}
			},
		},
		{
			// An entry that another repository has is alive there, or not, for reasons of
			// that repository's own.
			name: "a sparse index whose entry lies in another repository",
			tell: func(s *fixture) outcome {
				here, there := app(11), app(12)
				index := imagetest.Index(imagetest.OCI, here, there)
				index.Manifests = index.Manifests[:1]
				s.push("sparse:v1", index)
				s.push("other:v1", there)
				s.push("other:v1", app(13))
				// The index names it, whatever the repository has links for: kept, though
				// only its links could bring it back.
				return outcome{
					flags: []string{"-m"},
					goes: slices.Concat(tagEntriesGo("other", "v1", there), revisionsGo("other", there),
						layersGo("other", content(there)...)),
					alive: []image{pulls("sparse", here), pulls("other", "v1")},
				}
			},
		},
		{
			// What it led to can't be known any more, and nobody can pull it.
			name: "an untagged revision whose manifest is gone, with -m",
			tell: func(s *fixture) outcome {
				goes, sound := s.unrelated()
				tagged, untagged := app(1, 11), app(1, 12)
				s.push("dangling:v1", tagged)
				s.push("dangling", untagged)
				s.tree.Remove(path.Dir(imagetest.BlobPath(untagged.Digest())))
				return outcome{
					flags: []string{"-m"},
					goes: slices.Concat(goes, revisionsGo("dangling", untagged),
						layersGo("dangling", layer(12).Digest(), configOf(untagged)), blobsGo(layer(12).Digest(), configOf(untagged))),
					alive:    []image{sound, pulls("dangling", "v1", tagged)},
					problems: []string{problem("dangling_revision", "dangling", imagetest.RevisionPath("dangling", untagged.Digest()))},
				}
			},
		},
		{
			name: "an untagged revision whose manifest is gone",
			tell: func(s *fixture) outcome {
				tagged, untagged := app(1, 11), app(1, 12)
				s.push("dangling:v1", tagged)
				s.push("dangling", untagged)
				s.tree.Remove(path.Dir(imagetest.BlobPath(untagged.Digest())))
				return outcome{
					goes: slices.Concat(
						layersGo("dangling", layer(12).Digest(), configOf(untagged)), blobsGo(layer(12).Digest(), configOf(untagged))),
					alive:    []image{pulls("dangling", "v1", tagged)},
					problems: []string{problem("dangling_revision", "dangling", imagetest.RevisionPath("dangling", untagged.Digest()))},
				}
			},
		},
		{
			// A link whose own path is not understood still names something.
			name: "a layer link by an algorithm that is not known",
			tell: func(s *fixture) outcome {
				goes, sound := s.unrelated()
				named, old := app(1, 11), app(1, 12)
				s.push("odd:v1", old)
				s.push("odd:v1", app(1, 13))
				s.push("odd", named)
				path := "repositories/odd/_layers/blake3/" + strings.Repeat("ab", 32) + "/link"
				s.tree.Write(path, named.Digest().String())
				return outcome{
					flags: []string{"-m"},
					goes: slices.Concat(goes, tagEntriesGo("odd", "v1", old), revisionsGo("odd", old),
						layersGo("odd", layer(12).Digest(), configOf(old)),
						blobsGo(old.Digest(), layer(12).Digest(), configOf(old))),
					alive:    []image{sound, pulls("odd", "v1", named)},
					problems: []string{problem("stray", "odd", path), problem("unknown_link_algorithm", "odd", path)},
				}
			},
		},
		{
			// Below _manifests it may be what a registry to come finds a manifest by.
			name: "a revision link by an algorithm that is not known",
			tell: func(s *fixture) outcome {
				goes, sound := s.unrelated()
				tagged, old, untagged := s.damaged("odd", 10)
				path := "repositories/odd/_manifests/revisions/blake3/" + strings.Repeat("ab", 32) + "/link"
				s.tree.Write(path, untagged.Digest().String())
				return outcome{
					flags: []string{"-m"}, goes: goes, exit: 4,
					alive:    []image{sound, pulls("odd", "v1", tagged, old, untagged)},
					problems: []string{problem("stray", "odd", path), problem("unknown_link_algorithm", "odd", path)},
				}
			},
		},
		{
			// Nothing wrong at all: what a repository does not have, it does not need.
			name: "directories that are missing",
			tell: func(s *fixture) outcome {
				goes, sound := s.unrelated()
				onlyLayers, untagged := layer(10), app(1, 11)
				s.must(s.client.PushBlob(s.Context(), "only/layers", onlyLayers))
				s.push("no/tags", untagged)
				s.tree.Tag("no/revisions", "v1", untagged.Digest())
				for _, d := range content(untagged) {
					s.tree.LayerLink("no/revisions", d)
				}
				return outcome{
					flags: []string{"-m"},
					goes: slices.Concat(goes, layersGo("only/layers", onlyLayers.Digest()), blobsGo(onlyLayers.Digest()),
						revisionsGo("no/tags", untagged), layersGo("no/tags", content(untagged)...)),
					alive:    []image{sound},
					problems: []string{problem("no_manifests", "only/layers", "repositories/only/layers")},
					after: func(s *fixture) {
						s.write(imagetest.RevisionPath("no/revisions", untagged.Digest()), untagged.Digest().String())
						s.pull("once the link is there", s.client, []image{pulls("no/revisions", "v1", untagged)})
					},
				}
			},
		},
		{
			// It looks like this when a disk of repositories is not mounted.
			name: "an empty directory where a repository could be",
			only: filesystem,
			tell: func(s *fixture) outcome {
				goes, sound := s.unrelated()
				s.tree.Mkdir("repositories/nothing/at/all")
				return outcome{goes: goes, alive: []image{sound}, flags: []string{"-m"}, problems: []string{problem("empty_directory", "", "repositories/nothing/at/all")}}
			},
		},
		{
			// Its last write is all that tells its age.
			name: "an upload that does not say when it began",
			only: filesystem, // where a test can make a file look old
			tell: func(s *fixture) outcome {
				s.push("app:v1", app(1))
				for id, startedat := range map[string]string{"nonsense": "yesterday", "empty": ""} {
					s.tree.Upload("app", id, time.Now(), []byte("half"))
					s.tree.Write(imagetest.UploadPath("app", id)+"/startedat", startedat)
					s.tree.Age(imagetest.UploadPath("app", id), 200*time.Hour)
				}
				s.tree.Write(imagetest.UploadPath("app", "young")+"/data", "half")
				var problems []string
				for _, id := range []string{"nonsense", "empty", "young"} {
					problems = append(problems, problem("undated_upload", "app", imagetest.UploadPath("app", id)))
				}
				return outcome{
					goes:     slices.Concat(uploadGoes("app", "nonsense"), uploadGoes("app", "empty")),
					alive:    []image{pulls("app", "v1")},
					problems: problems,
				}
			},
		},
	}
	// A live manifest that is not what it should be: what it leads to can't be known, but
	// it can only be what is linked in the repository.
	for _, damage := range []struct {
		name, kind string
		do         func(s *fixture, blob string)
	}{
		{"missing", "manifest_missing", func(s *fixture, blob string) { s.tree.Remove(path.Dir(blob)) }},
		{"empty", "manifest_damaged", func(s *fixture, blob string) { s.tree.Write(blob, "") }},
		{"cut off", "manifest_damaged", func(s *fixture, blob string) { s.tree.Write(blob, `{"schemaVersion":2,"layers":[{"di`) }},
		{"another one", "manifest_damaged", func(s *fixture, blob string) { s.tree.Write(blob, string(app(1).Content)) }},
		{"much too large", "manifest_damaged", func(s *fixture, blob string) { s.tree.Write(blob, strings.Repeat(" ", 9<<20)) }},
	} {
		stories = append(stories, story{
			name: "a tagged manifest that is " + damage.name,
			tell: func(s *fixture) outcome {
				goes, sound := s.unrelated()
				tagged, old, untagged := s.damaged("damaged", 10)
				damage.do(s, imagetest.BlobPath(tagged.Digest()))
				return outcome{
					flags: []string{"-m"}, goes: goes, exit: 4,
					alive:    []image{sound, pulls("damaged", old, untagged)},
					problems: []string{problem(damage.kind, "damaged", imagetest.BlobPath(tagged.Digest()))},
				}
			},
		}, story{
			// Deeper down, and in every repository that has it.
			name: "an entry of an index that is " + damage.name,
			tell: func(s *fixture) outcome {
				goes, sound := s.unrelated()
				broken, whole := app(1, 21), app(1, 22)
				index := imagetest.Index(imagetest.OCI, imagetest.Index(imagetest.OCI, broken), whole)
				want := outcome{flags: []string{"-m"}, goes: goes, exit: 4, alive: []image{sound}}
				for i, repository := range []string{"first", "second"} {
					tagged, old, untagged := s.damaged(repository, 30+10*i)
					s.push(repository+":index", index)
					want.alive = append(want.alive, pulls(repository, "v1", tagged, old, untagged, whole))
					want.problems = append(want.problems, problem(damage.kind, repository, imagetest.BlobPath(broken.Digest())))
				}
				damage.do(s, imagetest.BlobPath(broken.Digest()))
				return want
			},
		})
		if damage.kind == "manifest_missing" {
			continue // dangling: a story of its own
		}
		stories = append(stories, story{
			// It could have been the signature of something alive.
			name: "an untagged manifest that is " + damage.name,
			tell: func(s *fixture) outcome {
				goes, sound := s.unrelated()
				tagged, old, untagged := s.damaged("damaged", 10)
				damage.do(s, imagetest.BlobPath(untagged.Digest()))
				return outcome{
					flags: []string{"-m"}, goes: goes, exit: 4,
					alive:    []image{sound, pulls("damaged", "v1", tagged, old)},
					problems: []string{problem("manifest_damaged", "damaged", imagetest.BlobPath(untagged.Digest()))},
				}
			},
		})
	}
	tellAll(t, stories)
}

// TestManifestThatIsMalformed is what its digest says, and claims a type that it has not
// the form of.
func TestManifestThatIsMalformed(t *testing.T) {
	t.Parallel()
	manyAlike(t)
	const head = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",`
	tellAll(t, []story{{
		name: "malformed",
		tell: func(s *fixture) outcome {
			goes, sound := s.unrelated()
			want := outcome{flags: []string{"-m"}, goes: goes, exit: 4, alive: []image{sound}}
			for i, text := range []string{
				"", "null", "[]", `"sha256"`, "\xff\xfe{}", "<html>", strings.Repeat("[", 100_000),
				head + `"layers":{}}`, head + `"layers":[{"size":1}]}`, head + `"layers":[{"digest":"sha256:abc"}]}`,
				head + `"config":"none"}`, head + `"subject":{"digest":"latest"}}`, head + `"layers":[]} {}`,
			} {
				repository := fmt.Sprintf("malformed/%d", i)
				_, old, untagged := s.damaged(repository, 10*(i+1))
				broken := &imagetest.Manifest{Content: []byte(text)}
				s.plant(repository, "broken", broken)
				want.alive = append(want.alive, pulls(repository, "v1", old, untagged))
				want.problems = append(want.problems, problem("manifest_damaged", repository, imagetest.BlobPath(broken.Digest())))
			}
			return want
		},
	}})
}

// TestStrictRemovesNothing: with --strict, any problem but a note stops the run before
// it removes anything, even one that would have kept nothing.
func TestStrictRemovesNothing(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(s *fixture){
		"damaged link": func(s *fixture) { s.tree.Write(imagetest.TagPath("damaged", "v1"), "") },
		"dangling revision": func(s *fixture) {
			s.tree.Remove(path.Dir(imagetest.BlobPath(app(1, 13).Digest())))
		},
	} {
		onEach(t, name, func(t *testing.T, on backend) {
			s := newFixture(t)
			s.unrelated()
			s.damaged("damaged", 10)
			damage(s)
			s.on(on)
			s.must(s.registry.SetReadOnly(true))
			before := s.files()
			run := s.gc("-m", "--strict")
			if run.code != 1 || !strings.Contains(run.report.Error, "--strict") {
				t.Errorf("ends with %d, %q", run.code, run.report.Error)
			}
			s.same("the files", keys(s.files()), keys(before))
			if counts := run.report.Removed.counts(); len(counts) > 0 {
				t.Errorf("it says that it removed %v", counts)
			}
			if without := s.gc("-m"); len(without.report.Removed.counts()) == 0 {
				t.Error("without --strict nothing is removed either, so this shows nothing")
			}
		})
	}
}

// TestStrictAcceptsNotes: what keeps nothing that could have gone is no problem.
func TestStrictAcceptsNotes(t *testing.T) {
	t.Parallel()
	tellAll(t, []story{{
		name: "a stray",
		tell: func(s *fixture) outcome {
			goes, sound := s.unrelated()
			s.tree.Write("blobs/notes.txt", "x")
			return outcome{
				flags: []string{"-m", "--strict"}, goes: goes, alive: []image{sound},
				problems: []string{problem("stray", "", "blobs/notes.txt")},
			}
		},
	}})
}

// TestNothingStored: a root without a registry is most likely the wrong one. A registry that
// was never pushed to has the same files, and --allow-empty says that this is one.
func TestNothingStored(t *testing.T) {
	t.Parallel()
	onEach(t, "nothing", func(t *testing.T, on backend) {
		s := newFixture(t)
		s.on(on)
		s.must(s.registry.Stop())
		for _, flags := range [][]string{{"--dry-run"}, {}, {"--prune-empty"}} {
			flags = append(flags, "--registry-stopped")
			run := s.gcOn(s.config(s.registry.ConfigYAML()), flags...)
			if run.code != 2 || !strings.Contains(run.report.Error, "--allow-empty") {
				t.Errorf("%v ends with %d, %q", flags, run.code, run.report.Error)
			}
			run = s.gcOn(s.config(s.registry.ConfigYAML()), append(flags, "--allow-empty")...)
			if run.code != 0 || len(run.report.Garbage.counts()) > 0 {
				t.Errorf("%v with --allow-empty ends with %d, %+v\n%s", flags, run.code, run.report, run.stderr)
			}
		}
	})
}

// TestNothingTagged: blobs without any tag mean most likely that the root is wrong, or
// that somebody has taken the repositories away. Who means it can say so (1).
func TestNothingTagged(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(s *fixture){
		"no repositories": func(s *fixture) { s.tree.Remove("repositories") },
		"no tags":         func(s *fixture) { s.tree.Remove("repositories/app/_manifests/tags") },
	} {
		onEach(t, name, func(t *testing.T, on backend) {
			s := newFixture(t)
			image := app(1, 2)
			s.push("app:v1", image)
			damage(s)
			s.on(on)
			before := s.files()
			target := s.config(s.registry.ConfigYAML())
			s.must(s.registry.Stop())
			for _, flags := range [][]string{{"--registry-stopped"}, {"--registry-stopped", "--dry-run"}} {
				run := s.gcOn(target, append(flags, "-m")...)
				if run.code != 3 || !strings.Contains(run.report.Error, "--allow-empty") {
					t.Errorf("%v ends with %d, %q", flags, run.code, run.report.Error)
				}
			}
			s.same("the files", keys(s.files()), keys(before))

			run := s.gcOn(target, "-m", "--registry-stopped", "--allow-empty")
			if run.code != 0 {
				t.Errorf("--allow-empty ends with %d: %s", run.code, run.report.Error)
			}
			s.same("what --allow-empty leaves", keys(s.files()), nil)
		})
	}
}

// TestSymbolicLinksStopTheRun: a symbolic link where operators make none is not followed. What
// lies behind it could be all that keeps an image alive, so the run stops and names it (1). Other
// links are followed: see TestLinkedDirectories.
func TestSymbolicLinksStopTheRun(t *testing.T) {
	t.Parallel()
	old := imagetest.Schema1("old", "v1", layer(1), layer(2))
	for _, at := range []string{
		path.Dir(path.Dir(imagetest.BlobPath(old.Digest()))),
		"repositories/team/old/_layers",
		"repositories/team/old/_layers/sha256",
		path.Dir(imagetest.LayerPath("team/old", layer(1).Digest())),
		"repositories/team/old/_manifests",
		"repositories/team/old/_manifests/revisions",
		"repositories/team/old/_manifests/revisions/sha256",
		path.Dir(imagetest.RevisionPath("team/old", old.Digest())),
		path.Dir(imagetest.RevisionPath("team/old", old.Digest())) + "/signatures",
		path.Dir(imagetest.RevisionPath("team/old", old.Digest())) + "/signatures/sha256",
		"repositories/team/old/_manifests/tags",
		"repositories/team/old/_manifests/tags/v1",
		"repositories/team/old/_manifests/tags/v1/current",
		"repositories/team/old/_manifests/tags/v1/index",
		"repositories/team/old/_manifests/tags/v1/index/sha256",
		"repositories/team/old/_uploads",
	} {
		t.Run(strings.ReplaceAll(at, "/", "|"), func(t *testing.T) {
			t.Parallel()
			s := newFixture(t)
			_, sound := s.unrelated()
			s.plant("team/old", "v1", old)
			signature := s.tree.Blob([]byte("a signature"))
			s.tree.Write(imagetest.SignaturePath("team/old", old.Digest(), signature), signature.String())
			s.tree.Upload("team/old", "an-upload", time.Now(), []byte("half"))
			s.must(s.registry.SetReadOnly(true))
			elsewhere := s.TempDir() + "/moved"
			s.must(os.Rename(s.tree.Path(at), elsewhere))
			s.must(os.Symlink(elsewhere, s.tree.Path(at)))
			before := s.files()
			moved := imagetest.SnapshotT(t, elsewhere)

			run := s.gc("-m")
			if run.code != 1 || !strings.Contains(run.report.Error, at+": it is a symbolic link") {
				t.Errorf("ends with %d, %q", run.code, run.report.Error)
			}
			s.same("the files", keys(s.files()), keys(before))
			if !maps.Equal(imagetest.SnapshotT(t, elsewhere), moved) {
				t.Error("what lies behind the link was changed")
			}
			s.pull("after the run", s.client, []image{sound})
		})
	}
}

// TestSymbolicLinksInPlaceOfFiles: a link or a blob that is a symbolic link is one
// damaged file, and not followed.
func TestSymbolicLinksInPlaceOfFiles(t *testing.T) {
	t.Parallel()
	for name, at := range map[string]func(tagged, old *imagetest.Manifest) (path, kind string){
		"tag": func(*imagetest.Manifest, *imagetest.Manifest) (string, string) {
			return imagetest.TagPath("damaged", "v1"), "damaged_link"
		},
		"revision": func(_, old *imagetest.Manifest) (string, string) {
			return imagetest.RevisionPath("damaged", old.Digest()), "damaged_link"
		},
		"dying layer": func(_, old *imagetest.Manifest) (string, string) {
			return imagetest.LayerPath("damaged", old.Blobs[1].Digest()), "damaged_link"
		},
		"manifest": func(tagged, _ *imagetest.Manifest) (string, string) {
			return imagetest.BlobPath(tagged.Digest()), "manifest_damaged"
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newFixture(t)
			goes, sound := s.unrelated()
			tagged, old, untagged := s.damaged("damaged", 10)
			path, kind := at(tagged, old)
			elsewhere := s.TempDir() + "/moved"
			s.must(os.Rename(s.tree.Path(path), elsewhere))
			s.must(os.Symlink(elsewhere, s.tree.Path(path)))
			s.check(outcome{
				flags: []string{"-m"}, goes: goes, exit: 4,
				alive:    []image{sound, pulls("damaged", "v1", tagged, old, untagged)},
				problems: []string{problem(kind, "damaged", path)},
			})
			if _, err := os.Stat(elsewhere); err != nil {
				t.Error(err)
			}
		})
	}
}

// A damaged repository is reported with the tags that can't be pulled, and with what to do.
func TestTagsThatCanNotBePulledAreNamed(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		damage func(s *fixture, image, untagged *imagetest.Manifest)
		tags   string
		advice string
	}{
		"a manifest that is missing": {
			func(s *fixture, image, _ *imagetest.Manifest) { s.tree.Remove(imagetest.BlobPath(image.Digest())) },
			"amd64 multi", "; tags can't be pulled: amd64, multi: push the image again, or delete the tags",
		},
		"a manifest that is spoilt": {
			func(s *fixture, image, _ *imagetest.Manifest) {
				s.tree.Write(imagetest.BlobPath(image.Digest()), "spoilt")
			},
			"amd64 multi", "; tags can't be pulled: amd64, multi: push the image again",
		},
		"a revision link": {
			func(s *fixture, image, _ *imagetest.Manifest) {
				s.tree.Write(imagetest.RevisionPath("app", image.Digest()), "")
			},
			"amd64 multi", "; tags can't be pulled: amd64, multi: push the image again",
		},
		"a tag's own link": {
			func(s *fixture, _, _ *imagetest.Manifest) { s.tree.Write(imagetest.TagPath("app", "amd64"), "") },
			"amd64", "; tag can't be pulled: amd64: push the image again, or delete the tag",
		},
		"a manifest that is spoilt and untagged": {
			func(s *fixture, _, untagged *imagetest.Manifest) {
				s.tree.Write(imagetest.BlobPath(untagged.Digest()), "spoilt")
			},
			"", "; no tag needs it: push it again, or delete it",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newFixture(t)
			image, untagged := app(1, 2), app(1, 4)
			s.push("app:amd64", image)
			s.push("app:multi", imagetest.Index(imagetest.OCI, image, app(5)))
			s.push("app:whole", app(1, 3))
			s.push("app", untagged)
			test.damage(s, image, untagged)
			run := s.reported("gc", "-d", "--json", s.tree.Root())
			if run.code != 4 || len(run.report.Problems) != 1 || strings.Join(run.report.Problems[0].Tags, " ") != test.tags {
				t.Errorf("it ends with %d: %+v", run.code, run.report.Problems)
			}
			if _, stdout, _ := regsweep(s, "gc", "-d", s.tree.Root()); !strings.Contains(stdout, test.advice) {
				t.Errorf("it does not say %q: %s", test.advice, stdout)
			}
		})
	}
}

// TestUnreadableObjectKeepsItsRepository: a bucket has an object and does not hand out its
// content, since it is archived or since its key is disabled. That is damage of the
// repository. The others are collected.
func TestUnreadableObjectKeepsItsRepository(t *testing.T) {
	t.Parallel()
	kept, old, other, otherOld := app(1, 2), app(3, 4), app(5, 6), app(7, 8)
	for name, test := range map[string]struct {
		path   string
		status int
		code   string
		kind   string
	}{
		"an archived manifest":         {imagetest.BlobPath(kept.Digest()), 403, "InvalidObjectState", "manifest_damaged"},
		"a manifest of a disabled key": {imagetest.BlobPath(kept.Digest()), 400, "KMS.DisabledException", "manifest_damaged"},
		"an archived untagged one":     {imagetest.BlobPath(old.Digest()), 403, "InvalidObjectState", "manifest_damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newFixture(t)
			s.plant("team/app", "kept", kept)
			s.plant("team/app", "", old)
			s.plant("team/other", "kept", other)
			s.plant("team/other", "", otherOld)
			s.moveToBucket()
			s.must(s.registry.SetReadOnly(true))
			front := &spoiledFront{
				matches: func(r *http.Request, _ string) bool {
					return r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/"+test.path)
				},
				spoil: refused(test.status, test.code),
			}
			front.start(t, s.s3.Endpoint)
			run := s.gcOn(s.config(strings.ReplaceAll(s.registry.ConfigYAML(), s.s3.Endpoint, front.URL)), "-m", "--registry", s.registry.URL(), "--no-cache")
			if run.code != 4 || len(run.problems()) != 1 || !strings.HasPrefix(run.problems()[0], test.kind+" team/app") ||
				!strings.Contains(run.report.Problems[0].Detail, test.code) {
				t.Errorf("ends with %d, %s: %v", run.code, run.report.Error, run.report.Problems)
			}
			files := s.files()
			for _, m := range []*imagetest.Manifest{kept, old, other} {
				if _, stays := files[imagetest.BlobPath(m.Digest())]; !stays {
					t.Errorf("%s is gone", m.Digest())
				}
			}
			if _, stays := files[imagetest.BlobPath(otherOld.Digest())]; stays {
				t.Error("the garbage of the other repository is still there")
			}
			s.pull("after the run", s.client, []image{pulls("team/app", kept, old, "kept"), pulls("team/other", other, "kept")})
		})
	}
}

// TestLinkedDirectories: a registry whose directories were moved to another disk, with symbolic
// links in their place, is collected, quarantined and restored like any other (1).
func TestLinkedDirectories(t *testing.T) {
	t.Parallel()
	for _, dirs := range [][]string{
		{"blobs"}, {"blobs/sha256"}, {"repositories"}, {"repositories/team"}, {"repositories/team/old"},
		{"repositories/team/old", "repositories/app", "blobs/sha256", "blobs"}, {""},
	} {
		t.Run(strings.ReplaceAll(strings.Join(dirs, "+"), "/", "|"), func(t *testing.T) {
			t.Parallel()
			s := newFixture(t)
			tagged, untagged := app(1, 2), app(1, 3)
			schema1 := imagetest.Schema1("team/old", "v1", layer(8))
			s.plant("app", "v1", tagged)
			s.plant("app", "", untagged)
			s.plant("team/old", "v2", app(4, 5))
			s.plant("team/old", "v1", schema1)
			s.plant("team/old", "", app(4, 6))
			garbage := s.tree.Blob([]byte("an unreferenced blob"))
			for _, dir := range dirs {
				elsewhere := filepath.Join(s.TempDir(), "disk")
				s.must(os.Rename(s.tree.Path(dir), elsewhere))
				s.must(os.Symlink(elsewhere, strings.TrimSuffix(s.tree.Path(dir), "/")))
			}
			alive := []image{pulls("app", "v1", tagged), pulls("team/old", "v2")}
			s.pull("before", s.client, append(alive, pulls("app", untagged)))
			s.must(s.registry.SetReadOnly(true))

			if run := s.gc("-m", "--quarantine"); run.code != 0 || len(run.report.Problems) > 0 || s.tree.Exists(imagetest.BlobPath(garbage)) {
				t.Errorf("quarantine: ends with %d, %s %+v", run.code, run.report.Error, run.report.Problems)
			}
			s.pull("quarantined", s.client, alive)
			restored := s.reported("quarantine", "restore", onlyRun(s), s.tree.Root(), "--json")
			if restored.code != 0 || !s.tree.Exists(imagetest.BlobPath(garbage)) {
				t.Errorf("restore: ends with %d, %s", restored.code, restored.report.Error)
			}
			s.pull("restored", s.client, append(alive, pulls("app", untagged)))
			run := s.gc("-m", "--prune-empty")
			if run.code != 0 || len(run.report.Problems) > 0 || run.report.Removed != run.report.Garbage {
				t.Errorf("ends with %d, %s %+v", run.code, run.report.Error, run.report.Problems)
			}
			for _, path := range []string{imagetest.BlobPath(garbage), imagetest.BlobPath(untagged.Digest()), imagetest.RevisionPath("app", untagged.Digest())} {
				if s.tree.Exists(path) {
					t.Errorf("%s is still there", path)
				}
			}
			s.pull("after the run", s.client, alive)
			for _, dir := range dirs {
				if info, err := os.Lstat(strings.TrimSuffix(s.tree.Path(dir), "/")); err != nil || info.Mode()&os.ModeSymlink == 0 {
					t.Errorf("%q is not the link that it was: %v", dir, err)
				}
			}
		})
	}
}

// onlyRun is the name of the only run in the quarantine.
func onlyRun(s *fixture) string {
	s.Helper()
	entries, err := os.ReadDir(s.tree.Path(".regsweep/quarantine"))
	s.must(err)
	if len(entries) != 1 {
		s.Fatalf("the quarantine has %v", entries)
	}
	return entries[0].Name()
}
