package e2e

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"regsweep/internal/imagetest"
	"regsweep/storage"

	"github.com/opencontainers/go-digest"
)

// TestWhatGarbageCollectIsTestedFor has the cases that Distribution v3.1.2 tests its own
// collector with (registry/storage/garbagecollect_test.go). Each says which blobs and which
// manifests of the repository are left. Where regsweep differs on purpose, docs/DESIGN.md
// says so, and so does the case.
func TestWhatGarbageCollectIsTestedFor(t *testing.T) {
	const repository = "foo/bar"
	for _, c := range []struct {
		name  string
		flags []string
		// make returns the manifests whose blobs are all left.
		make func(s *fixture) []*imagetest.Manifest
		// deleted are manifests among them that the API has deleted before.
		deleted func() []*imagetest.Manifest
	}{
		{name: "no deletion, no effect", make: func(s *fixture) []*imagetest.Manifest {
			list := imagetest.Index(imagetest.Docker, app(1), app(2))
			s.push(repository, list)
			s.push(repository, app(3))
			return []*imagetest.Manifest{list, app(3)}
		}},
		{name: "a manifest that lost its tag", flags: []string{"-m"}, make: func(s *fixture) []*imagetest.Manifest {
			s.push(repository+":test", app(1, 2, 3))
			s.push(repository+":test", app(4, 5, 6))
			return []*imagetest.Manifest{app(4, 5, 6)}
		}},
		{name: "an index that has its tag", flags: []string{"-m"}, make: func(s *fixture) []*imagetest.Manifest {
			index := imagetest.Index(imagetest.OCI, app(1), app(2))
			s.push(repository+":test", index)
			return []*imagetest.Manifest{index}
		}},
		{name: "an index that lost its tag", flags: []string{"-m", "--allow-empty"}, make: func(s *fixture) []*imagetest.Manifest {
			s.push(repository+":test", imagetest.Index(imagetest.OCI, app(1), app(2)))
			s.delete(repository, "test")
			return nil
		}},
		// Distribution removes the layers of the deleted image.
		{name: "a tagged index that has a deleted image", flags: []string{"-m"}, make: func(s *fixture) []*imagetest.Manifest {
			index := imagetest.Index(imagetest.OCI, app(1), app(2))
			s.push(repository+":test", index)
			s.delete(repository, app(2).Digest().String())
			return []*imagetest.Manifest{index}
		}, deleted: func() []*imagetest.Manifest { return []*imagetest.Manifest{app(2)} }},
		{name: "layer links that nothing uses", flags: []string{"-m", "--allow-empty"}, make: func(s *fixture) []*imagetest.Manifest {
			s.push(repository, app(1, 2))
			return nil
		}},
		{name: "no directory of tags", flags: []string{"-m", "--allow-empty"}, make: func(s *fixture) []*imagetest.Manifest {
			s.push(repository+":image", app(1, 2))
			s.tree.Remove("repositories/" + repository + "/_manifests/tags")
			return nil
		}},
		{name: "no directory of manifests", flags: []string{"--allow-empty"}, make: func(s *fixture) []*imagetest.Manifest {
			s.push(repository, app(1, 2))
			s.tree.Remove("repositories/" + repository + "/_manifests")
			return nil
		}},
		{name: "deleted manifests", make: func(s *fixture) []*imagetest.Manifest {
			for n := 1; n <= 3; n++ {
				s.push(repository, app(n, n+10))
			}
			s.delete(repository, app(2, 12).Digest().String())
			s.delete(repository, app(3, 13).Digest().String())
			return []*imagetest.Manifest{app(1, 11)}
		}},
		{name: "a deleted manifest that shares a layer", make: func(s *fixture) []*imagetest.Manifest {
			s.push(repository, app(1, 2, 3))
			s.push(repository, app(3, 4, 5))
			s.delete(repository, app(3, 4, 5).Digest().String())
			return []*imagetest.Manifest{app(1, 2, 3)}
		}},
		{name: "a blob that no manifest refers to", make: func(s *fixture) []*imagetest.Manifest {
			s.must(s.client.PushBlob(s.Context(), repository, layer(9)))
			s.push(repository, app(1))
			return []*imagetest.Manifest{app(1)}
		}},
		{name: "a tagged list of untagged images", flags: []string{"-m"}, make: func(s *fixture) []*imagetest.Manifest {
			list := imagetest.Index(imagetest.Docker, formatted(imagetest.Docker, 1), formatted(imagetest.Docker, 2))
			s.push(repository+":test", list)
			return []*imagetest.Manifest{list}
		}},
		{name: "an untagged list of untagged images", flags: []string{"-m", "--allow-empty"}, make: func(s *fixture) []*imagetest.Manifest {
			s.push(repository, imagetest.Index(imagetest.Docker, formatted(imagetest.Docker, 1), formatted(imagetest.Docker, 2)))
			return nil
		}},
		{name: "an untagged list of tagged images", flags: []string{"-m"}, make: func(s *fixture) []*imagetest.Manifest {
			images := []*imagetest.Manifest{formatted(imagetest.Docker, 1), formatted(imagetest.Docker, 2)}
			s.push(repository+":image1", images[0])
			s.push(repository+":image2", images[1])
			s.push(repository, imagetest.Index(imagetest.Docker, images...))
			return images
		}},
		{name: "an untagged list of deleted images", flags: []string{"-m", "--allow-empty"}, make: func(s *fixture) []*imagetest.Manifest {
			images := []*imagetest.Manifest{formatted(imagetest.Docker, 1), formatted(imagetest.Docker, 2)}
			s.push(repository, imagetest.Index(imagetest.Docker, images...))
			s.delete(repository, images[0].Digest().String())
			s.delete(repository, images[1].Digest().String())
			return nil
		}},
		// Distribution removes it: only revisions are roots there.
		{name: "a tag without a revision link", flags: []string{"-m"}, make: func(s *fixture) []*imagetest.Manifest {
			s.push(repository+":test", app(1, 2))
			s.push(repository+":other", app(3))
			s.tree.Remove(imagetest.RevisionPath(repository, app(1, 2).Digest()))
			return []*imagetest.Manifest{app(1, 2), app(3)}
		}, deleted: func() []*imagetest.Manifest { return []*imagetest.Manifest{app(1, 2)} }},
		// Distribution removes the signature: it has no tag.
		{name: "a referrer of a tagged image", flags: []string{"-m"}, make: func(s *fixture) []*imagetest.Manifest {
			signature := imagetest.Referrer(app(1), "application/vnd.example.signature", []byte("signed"))
			s.push(repository+":test", app(1))
			s.push(repository, signature)
			return []*imagetest.Manifest{app(1), signature}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newFixture(t)
			left := c.make(s)
			before := keys(s.files())
			if dry := s.gcOn(s.tree.Root(), append([]string{"-d", "--registry-stopped"}, c.flags...)...); dry.code != 0 && dry.code != 4 {
				t.Errorf("the dry run ends with %d: %s", dry.code, dry.stderr)
			}
			s.same("the files after a dry run", keys(s.files()), before)
			if run := s.gcOn(s.tree.Root(), append([]string{"--registry-stopped"}, c.flags...)...); run.code != 0 && run.code != 4 {
				t.Errorf("it ends with %d: %s", run.code, run.stderr)
			}

			blobs, revisions := map[digest.Digest]bool{}, map[digest.Digest]bool{}
			var count func(m *imagetest.Manifest)
			count = func(m *imagetest.Manifest) {
				revisions[m.Digest()] = true
				for _, child := range m.Manifests {
					count(child)
				}
				for _, d := range m.Digests() {
					blobs[d] = true
				}
			}
			for _, m := range left {
				count(m)
			}
			if c.deleted != nil {
				for _, m := range c.deleted() {
					delete(revisions, m.Digest())
				}
			}
			want := slices.Concat(paths(blobs, imagetest.BlobPath), paths(revisions, func(d digest.Digest) string { return imagetest.RevisionPath(repository, d) }))
			var got []string
			for path := range s.files() {
				if isBlob(path) || strings.Contains(path, "/revisions/") {
					got = append(got, path)
				}
			}
			slices.Sort(got)
			slices.Sort(want)
			s.same("the blobs and manifests that are left", got, want)
		})
	}
}

func paths(digests map[digest.Digest]bool, path func(digest.Digest) string) (found []string) {
	for d := range maps.Keys(digests) {
		found = append(found, path(d))
	}
	return found
}

// neededByTags is an oracle: the files that a registry needs to serve every tagged image
// completely. It reads links and manifests itself, and shares no code with what it judges.
// files has the content of each file of the layout, by path. The manifests must be intact.
func neededByTags(files map[string]string) (needed []string) {
	seen := map[string]bool{}
	need := func(path string) bool {
		if _, there := files[path]; !there || seen[path] {
			return false
		}
		seen[path] = true
		needed = append(needed, path)
		return true
	}
	var pull func(repository, digest string)
	pull = func(repository, digest string) {
		place := strings.Replace(digest, ":", "/", 1)
		blob := "blobs/sha256/" + digest[len("sha256:"):][:2] + "/" + digest[len("sha256:"):] + "/data"
		need(blob)
		need("repositories/" + repository + "/_layers/" + place + "/link")
		if !need("repositories/" + repository + "/_manifests/revisions/" + place + "/link") {
			return // a layer, or a manifest that was seen
		}
		var manifest struct {
			Config    struct{ Digest string }
			Layers    []struct{ Digest string }
			Manifests []struct{ Digest string }
			FSLayers  []struct{ BlobSum string }
		}
		if err := json.Unmarshal([]byte(files[blob]), &manifest); err != nil {
			panic("the oracle can't read the manifest " + digest)
		}
		to := []string{manifest.Config.Digest}
		for _, entry := range slices.Concat(manifest.Layers, manifest.Manifests) {
			to = append(to, entry.Digest)
		}
		for _, entry := range manifest.FSLayers {
			to = append(to, entry.BlobSum)
		}
		for _, digest := range to {
			if digest != "" {
				pull(repository, digest)
			}
		}
		// What is attached to a manifest lives as long as it.
		for path, content := range files {
			if match := revisionOf.FindStringSubmatch(path); match != nil && match[1] == repository {
				other := strings.TrimPrefix(content, "sha256:")
				if strings.Contains(files["blobs/sha256/"+other[:2]+"/"+other+"/data"], `"subject":{`) &&
					strings.Contains(files["blobs/sha256/"+other[:2]+"/"+other+"/data"], digest) {
					pull(repository, content)
				}
			}
		}
	}
	for path, content := range files {
		if match := currentOf.FindStringSubmatch(path); match != nil {
			need(path)
			pull(match[1], content)
		}
	}
	slices.Sort(needed)
	return needed
}

var (
	currentOf  = regexp.MustCompile(`^repositories/(.+)/_manifests/tags/[^/]+/current/link$`)
	revisionOf = regexp.MustCompile(`^repositories/(.+)/_manifests/revisions/sha256/[0-9a-f]{64}/link$`)
)

// One platform of an index was deleted through the registry's API. Its blobs are kept, since
// the index still has it; the report says so, and --delete-unlinked-children lets them go.
func TestADeletedPlatformOfAnIndex(t *testing.T) {
	t.Parallel()
	make := func(s *fixture) (live, deleted, index *imagetest.Manifest) {
		live, deleted = app(1, 2), app(1, 3)
		index = imagetest.Index(imagetest.OCI, live, deleted)
		s.push("app:v1", index)
		s.delete("app", deleted.Digest().String())
		return live, deleted, index
	}
	tellAll(t, []story{
		{
			name: "is kept",
			tell: func(s *fixture) outcome {
				live, deleted, _ := make(s)
				return outcome{
					flags: []string{"-m"},
					alive: []image{pulls("app", live)},
					after: func(s *fixture) {
						run := s.gc("-m")
						var kept []string
						for _, row := range run.report.Kept {
							kept = append(kept, fmt.Sprint(row.Reason, " ", row.Repository, " ", row.Blobs, " ", row.Links))
						}
						s.same("kept", kept, []string{"unlinked_child app 3 2"})
						for _, row := range run.report.Kept {
							if row.Bytes <= int64(len(deleted.Content)) {
								s.Errorf("%d bytes are kept", row.Bytes)
							}
						}
					},
				}
			},
		},
		{
			name: "goes",
			tell: func(s *fixture) outcome {
				live, deleted, _ := make(s)
				return outcome{
					flags: []string{"-m", "--delete-unlinked-children"},
					goes: slices.Concat(
						layersGo("app", layer(3).Digest(), configOf(deleted)),
						blobsGo(deleted.Digest(), layer(3).Digest(), configOf(deleted))),
					alive:    []image{pulls("app", live)},
					problems: []string{},
				}
			},
		},
		{
			// What a tag, or a revision in another repository, needs as well is not affected.
			name: "is tagged, or linked elsewhere",
			tell: func(s *fixture) outcome {
				live, deleted, index := make(s)
				s.push("app:arm", deleted)
				s.push("lib:v1", index)
				return outcome{
					flags: []string{"-m", "--delete-unlinked-children"},
					alive: []image{pulls("app", "v1", "arm", live), pulls("lib", "v1", live, deleted)},
				}
			},
		},
		{
			// The tag is a root though its revision link is missing, and so is what it needs.
			name: "a tag whose revision link is missing",
			tell: func(s *fixture) outcome {
				live, deleted, _ := make(s)
				s.push("app:arm", deleted)
				s.tree.Remove(imagetest.RevisionPath("app", deleted.Digest()))
				return outcome{
					flags: []string{"-m", "--delete-unlinked-children"},
					alive: []image{pulls("app", live)},
					after: func(s *fixture) {
						s.write(imagetest.RevisionPath("app", deleted.Digest()), deleted.Digest().String())
						s.pull("once the link is back", s.client, []image{pulls("app", "v1", "arm")})
					},
				}
			},
		},
	})
}

// referrerLinks are the links by which newer registries find a referrer of a subject, in
// both of the layouts that there are.
func referrerLinks(repository string, subject, referrer digest.Digest) []string {
	tail := "sha256/" + referrer.Encoded() + "/link"
	return []string{
		path.Dir(imagetest.RevisionPath(repository, subject)) + "/_referrers/_application%2Fvnd.example.signature/" + tail,
		"repositories/" + repository + "/_refs/subjects/sha256/" + subject.Encoded() + "/" + tail,
	}
}

// isReferrerLink reports whether a file is a referrer link to the revision whose
// directory is given.
func isReferrerLink(file, revision string) bool {
	repository, hex, _ := strings.Cut(strings.TrimSuffix(revision, "/signatures/"), "/_manifests/revisions/")
	return strings.HasPrefix(file, repository+"/_") && strings.HasSuffix(file, "/"+hex+"/link") &&
		(strings.Contains(file, "/_refs/") || strings.Contains(file, "/_referrers/"))
}

// Referrer links are kept with their referrer, and go with it.
func TestReferrerLinks(t *testing.T) {
	t.Parallel()
	refer := func(s *fixture, subject, referrer digest.Digest) {
		for _, link := range referrerLinks("app", subject, referrer) {
			s.tree.Write(link, referrer.String())
		}
	}
	orphansGo := func(links ...string) (lines []string) {
		for _, link := range links {
			lines = append(lines, "orphan_link "+link)
		}
		return lines
	}
	tellAll(t, []story{
		{
			name: "of what is alive, and of what is removed",
			tell: func(s *fixture) outcome {
				current, old := app(1, 2), app(1, 3)
				signature := imagetest.Referrer(current, "application/vnd.example.signature", []byte("signed"))
				gone := imagetest.Referrer(old, "application/vnd.example.signature", []byte("signed long ago"))
				s.push("app:v1", current)
				s.push("app:v0", old)
				s.push("app", signature)
				s.push("app", gone)
				s.delete("app", "v0")
				refer(s, current.Digest(), signature.Digest())
				refer(s, old.Digest(), gone.Digest())
				return outcome{
					flags: []string{"-m"},
					goes: slices.Concat(
						revisionsGo("app", old, gone),
						layersGo("app", layer(3).Digest(), configOf(old), configOf(gone)),
						blobsGo(old.Digest(), gone.Digest(), layer(3).Digest(), configOf(old), configOf(gone))),
					alive: []image{pulls("app", "v1", signature)},
				}
			},
		},
		{
			// The subject is removed. The link lies in its directory, and stays.
			name: "a tagged referrer of what is removed",
			tell: func(s *fixture) outcome {
				current, old := app(1, 2), app(1, 3)
				signature := imagetest.Referrer(old, "application/vnd.example.signature", []byte("signed"))
				s.push("app:v1", current)
				s.push("app:v0", old)
				s.push("app:signature", signature)
				s.delete("app", "v0")
				refer(s, old.Digest(), signature.Digest())
				return outcome{
					flags: []string{"-m"},
					goes: slices.Concat(
						revisionsGo("app", old), layersGo("app", layer(3).Digest(), configOf(old)),
						blobsGo(old.Digest(), layer(3).Digest(), configOf(old))),
					alive: []image{pulls("app", "v1", "signature")},
				}
			},
		},
		{
			// A deletion through the API removes the revision's link and nothing else.
			name: "of manifests that were deleted",
			tell: func(s *fixture) outcome {
				current := app(1, 2)
				gone := imagetest.Referrer(current, "application/vnd.example.signature", []byte("signed"))
				s.push("app:v1", current)
				s.push("app", gone)
				refer(s, current.Digest(), gone.Digest())
				s.delete("app", gone.Digest().String())
				old := digest.FromString("a manifest of schema 1 that was deleted")
				signature := s.tree.Blob([]byte("a signature"))
				s.tree.Write(imagetest.SignaturePath("app", old, signature), signature.String())
				return outcome{
					goes: slices.Concat(
						orphansGo(referrerLinks("app", current.Digest(), gone.Digest())...),
						orphansGo(imagetest.SignaturePath("app", old, signature)),
						layersGo("app", content(gone)...),
						blobsGo(append(gone.Digests(), signature)...)),
					alive: []image{pulls("app", "v1", current)},
				}
			},
		},
		{
			// The tag is a root, and so the manifest is alive: nothing of it is an orphan.
			name: "a signature of a tag whose revision link is missing",
			tell: func(s *fixture) outcome {
				current := app(1, 2)
				s.push("app:v1", app(9))
				s.push("app:v2", current)
				signature := s.tree.Blob([]byte("a signature"))
				s.tree.Write(imagetest.SignaturePath("app", current.Digest(), signature), signature.String())
				s.tree.Remove(imagetest.RevisionPath("app", current.Digest()))
				return outcome{
					alive: []image{pulls("app", "v1")},
					after: func(s *fixture) {
						s.write(imagetest.RevisionPath("app", current.Digest()), current.Digest().String())
						s.pull("once the link is back", s.client, []image{pulls("app", "v2")})
					},
				}
			},
		},
	})
}

// A line of a plan that is struck stays, and keeps what the link leads to.
func TestAnOrphanLinkIsStruckFromAPlan(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	s.push("app:v1", app(1, 2))
	old := digest.FromString("a manifest of schema 1 that was deleted")
	var links []string
	for _, text := range []string{"a signature", "another"} {
		signature := s.tree.Blob([]byte(text))
		links = append(links, imagetest.SignaturePath("app", old, signature))
		s.tree.Write(links[len(links)-1], signature.String())
	}
	planFile, run := s.savePlan()
	if got := run.report.Garbage.counts(); got["orphan_link"] != 2 || got["blob"] != 2 {
		t.Fatalf("the plan has %v", got)
	}
	s.must(s.registry.SetReadOnly(true))
	before := s.files()
	content, err := os.ReadFile(planFile)
	s.must(err)
	s.strike(planFile, strings.SplitAfter(string(content), "\n"), func(line string) bool { return strings.Contains(line, links[0]) })
	run = s.apply(planFile, "--partial")
	if run.code != 0 {
		t.Fatalf("%d: %s", run.code, run.stderr)
	}
	gone := []string{"orphan_link " + links[1], "blob " + imagetest.BlobPath(digest.FromString("another"))}
	s.same("the files", keys(s.files()), keys(without(before, gone)))
	s.same("what was left out", run.leftOut(), []string{"blob linked 1"})
}

// The store of another product is named, and nothing of it is removed.
func TestAnotherProductsStoreIsRefused(t *testing.T) {
	t.Parallel()
	link := `{"target":"` + digest.FromString("x").String() + `"}`
	alg := "sha256/" + digest.FromString("x").Encoded() + "/link"
	for name, path := range map[string]string{
		"referrers": "repositories/app/_manifests/referrers/sha256/" + digest.FromString("y").Encoded() + "/" + alg,
		"blobs":     "repositories/team/app/_blobs/" + alg,
		"configs":   "repositories/app/_config/" + alg,
	} {
		onEach(t, name, func(t *testing.T, on backend) {
			s := newFixture(t)
			s.push("app:v1", app(1, 2))
			s.tree.Blob([]byte("garbage"))
			s.tree.Write(path, link)
			s.on(on)
			s.must(s.registry.SetReadOnly(true))
			before := s.files()
			for _, flags := range [][]string{{"-m"}, {"-d"}} {
				run := s.gc(flags...)
				if run.code != 3 || !strings.Contains(run.report.Error, "angos") || !strings.Contains(run.report.Error, path) {
					t.Errorf("%v ends with %d: %s", flags, run.code, run.report.Error)
				}
			}
			s.same("the files", keys(s.files()), keys(before))
		})
	}
	// A stray that only looks like one is a stray.
	s := newFixture(t)
	s.push("app:v1", app(1, 2))
	s.tree.Write("repositories/app/_config/notes/link", "mine")
	s.must(s.registry.SetReadOnly(true))
	if run := s.gc("-m"); run.code != 0 {
		t.Errorf("a stray: %d, %s", run.code, run.report.Error)
	}
}

// TestBlobsUnderOtherAlgorithmsAreKept: a registry serves an image whose blobs are stored under
// sha512. A run keeps them, collects all else, and does what its dry run says (1, 5).
func TestBlobsUnderOtherAlgorithmsAreKept(t *testing.T) {
	t.Parallel()
	for _, of := range []struct{ manifest, blobs digest.Algorithm }{
		{digest.SHA512, digest.SHA512}, {digest.SHA256, digest.SHA512}, {digest.SHA384, digest.SHA384}, {digest.SHA512, digest.SHA256},
	} {
		for _, tagged := range []bool{true, false} {
			what := fmt.Sprintf("a manifest under %s with blobs under %s, tagged: %t", of.manifest, of.blobs, tagged)
			s := newFixture(t)
			s.plant("app", "v1", app(1))
			s.plant("app", "", app(1, 2))
			s.tree.Blob([]byte("garbage"))
			blob := func(content string, algorithm digest.Algorithm) digest.Digest {
				d := algorithm.FromString(content)
				s.write(imagetest.BlobPath(d), content)
				return d
			}
			config, data := blob("{}", of.blobs), blob("a layer under another algorithm", of.blobs)
			s.tree.LayerLink("other", config)
			s.tree.LayerLink("other", data)
			manifest, err := json.Marshal(map[string]any{
				"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
				"config": map[string]any{"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2},
				"layers": []any{map[string]any{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": data, "size": 31}},
			})
			s.must(err)
			image := blob(string(manifest), of.manifest)
			s.tree.Revision("other", image)
			flags := []string{"gc", "--registry-stopped", "--json", s.tree.Root()}
			if tagged {
				s.tree.Tag("other", "v1", image)
				flags = append(flags, "-m")
			}
			s.tree.Age("", 1000*3600*1e9)
			before := s.files()
			var dry, real gcReport
			for _, run := range []struct {
				dry    string
				report *gcReport
			}{{"-d", &dry}, {"--yes", &real}} {
				code, stdout, stderr := regsweep(s, append(flags, run.dry)...)
				if err := json.Unmarshal([]byte(stdout), run.report); err != nil || code != 0 {
					t.Errorf("%s: %s ends with %d, %v: %s", what, run.dry, code, err, stderr)
				}
			}
			if dry.Garbage != real.Removed || dry.Garbage.Blobs.Count == 0 {
				t.Errorf("%s: a dry run has %+v, and removed were %+v", what, dry.Garbage, real.Removed)
			}
			after := s.files()
			for _, path := range []string{
				imagetest.BlobPath(image), imagetest.BlobPath(config), imagetest.BlobPath(data), imagetest.RevisionPath("other", image),
				imagetest.LayerPath("other", config), imagetest.LayerPath("other", data),
			} {
				if after[path] != before[path] || before[path] == 0 {
					t.Errorf("%s: %s is gone", what, path)
				}
			}
		}
	}
}

// tagDirectories are the directories in those of tags.
func (s *fixture) tagDirectories() (dirs []string) {
	s.Helper()
	s.must(filepath.WalkDir(s.tree.Path("repositories"), func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && strings.Contains(path, "/_manifests/tags/") {
			_, tag, _ := strings.Cut(path, "/repositories/")
			dirs = append(dirs, tag)
		}
		return err
	}))
	slices.Sort(dirs)
	return dirs
}

// A tag that --roots removes is gone as a whole: a registry lists a tag that is only an empty
// directory. What an older run or a kill has left of a tag is removed too.
func TestARemovedTagLeavesNoDirectory(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	used, stale := app(1, 2), app(1, 3)
	s.push("app:used", used)
	s.push("app:stale", app(1, 4))
	s.push("app:stale", stale)
	s.push("other:stale", stale)
	s.push("other:used", used)
	roots := s.list("app:used", "other:used")
	// An older run has left these.
	s.tree.Mkdir("repositories/app/_manifests/tags/left/current")
	s.tree.Mkdir("repositories/app/_manifests/tags/left/index")
	s.tree.Mkdir("repositories/app/_manifests/tags/cut/index/sha256/" + stale.Digest().Encoded())
	s.tree.Mkdir("repositories/other/_manifests/tags/empty")
	s.must(s.registry.SetReadOnly(true))
	if run := s.gc("--roots", roots); run.code != 0 {
		t.Fatalf("it ends with %d: %s", run.code, run.report.Error)
	}
	hex := used.Digest().Encoded()
	var want []string
	for _, repository := range []string{"app", "other"} {
		for _, dir := range []string{"", "/current", "/index", "/index/sha256", "/index/sha256/" + hex} {
			want = append(want, repository+"/_manifests/tags/used"+dir)
		}
	}
	s.same("the directories of tags", s.tagDirectories(), want)
	for _, repository := range []string{"app", "other"} {
		answer, err := s.ask(repository + "/tags/list")
		s.must(err)
		var listed struct{ Tags []string }
		s.must(json.Unmarshal(answer, &listed))
		s.same("the tags that the registry lists of "+repository, listed.Tags, []string{"used"})
	}
	s.pull("after it", s.client, []image{pulls("app", "used"), pulls("other", "used")})
}

// A tag's directory stays if anything is in it but directories.
func TestATagsDirectoryWithAFileStays(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	s.push("app:used", app(1, 2))
	s.push("app:stale", app(1, 3))
	damaged := app(1, 4)
	s.push("app:damaged", damaged)
	s.tree.Remove(imagetest.TagPath("app", "damaged"))
	s.tree.Mkdir("repositories/app/_manifests/tags/damaged/current")
	s.tree.Mkdir("repositories/app/_manifests/tags/emptied")
	s.tree.Write("repositories/app/_manifests/tags/stale/note", "somebody's own")
	s.must(s.registry.SetReadOnly(true))
	before := s.tagDirectories()
	if run := s.gc("-m"); run.code != 0 && run.code != 4 {
		t.Fatalf("it ends with %d: %s", run.code, run.report.Error)
	}
	s.same("the directories of tags", s.tagDirectories(), slices.DeleteFunc(before, func(dir string) bool { return strings.HasSuffix(dir, "/emptied") }))
	if run := s.gc("--roots", s.list("app:used", "app@"+damaged.Digest().String())); run.code != 0 && run.code != 4 {
		t.Fatalf("it ends with %d: %s", run.code, run.report.Error)
	}
	if !s.tree.Exists("repositories/app/_manifests/tags/stale/note") || !s.tree.Exists("repositories/app/_manifests/tags/damaged/current") {
		t.Errorf("left: %v", s.tagDirectories())
	}
}

// A registry that is used by digest alone has no tags. Its manifests are alive without -m,
// and its garbage can be removed. With -m all of it would go, which is refused.
func TestARegistryWithoutTagsIsUsedByDigest(t *testing.T) {
	t.Parallel()
	onEach(t, "without tags", func(t *testing.T, on backend) {
		s := newFixture(t)
		live, dead := app(1, 2), app(1, 3)
		s.push("app:v1", live)
		s.push("app:v2", dead)
		s.delete("app", dead.Digest().String())
		s.tree.Remove("repositories/app/_manifests/tags")
		s.on(on)
		before := s.files()
		s.must(s.registry.SetReadOnly(true))
		target := s.config(s.registry.ConfigYAML())
		if code, stdout, _ := regsweep(s, "check", target); code != 0 {
			t.Errorf("a read-only registry: check ends with %d: %s", code, stdout)
		}
		s.must(s.registry.Stop())

		run := s.gcOn(target, "-m", "--registry-stopped")
		if run.code != 3 || !strings.Contains(run.report.Error, "--allow-empty") {
			t.Errorf("with -m it ends with %d, %q", run.code, run.report.Error)
		}
		s.same("the files", keys(s.files()), keys(before))

		run = s.gcOn(target, "--registry-stopped")
		if run.code != 0 || run.report.Removed.Blobs.Count != 3 {
			t.Errorf("it ends with %d, %d blobs removed: %s", run.code, run.report.Removed.Blobs.Count, run.report.Error)
		}
		if again := s.gcOn(target, "--registry-stopped"); again.code != 0 || again.report.Garbage.Blobs.Count != 0 {
			t.Errorf("a second run ends with %d, %d blobs are garbage", again.code, again.report.Garbage.Blobs.Count)
		}
	})
}

// Links without any blob: the disk of the blobs is not mounted. An empty registry is none of that.
func TestEmptyBlobsAskForTheirDisk(t *testing.T) {
	t.Parallel()
	const asks = "blobs is empty, and repositories name blobs: is its disk mounted?"
	for _, links := range []bool{true, false} {
		tree := imagetest.NewTree(t, t.TempDir())
		if links {
			tree.Tag("team/app", "v1", app(1, 2).Digest())
		}
		must(t, os.MkdirAll(filepath.Join(tree.Root(), storage.Root, "blobs"), 0o755))
		out, _ := program(t, "gc", "-d", tree.Root()).CombinedOutput() // exit code 4: a tag can't be pulled
		if strings.Contains(string(out), asks) != links {
			t.Errorf("links %v:\n%s", links, out)
		}
	}
}
