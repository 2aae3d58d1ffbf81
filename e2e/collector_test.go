package e2e

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"regsweep/internal/imagetest"

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
		make func(s *site) []*imagetest.Manifest
		// deleted are manifests among them that the API has deleted before.
		deleted func() []*imagetest.Manifest
	}{
		{name: "no deletion, no effect", make: func(s *site) []*imagetest.Manifest {
			list := imagetest.Index(imagetest.Docker, app(1), app(2))
			s.push(repository, list)
			s.push(repository, app(3))
			return []*imagetest.Manifest{list, app(3)}
		}},
		{name: "a manifest that lost its tag", flags: []string{"-m"}, make: func(s *site) []*imagetest.Manifest {
			s.push(repository+":test", app(1, 2, 3))
			s.push(repository+":test", app(4, 5, 6))
			return []*imagetest.Manifest{app(4, 5, 6)}
		}},
		{name: "an index that has its tag", flags: []string{"-m"}, make: func(s *site) []*imagetest.Manifest {
			index := imagetest.Index(imagetest.OCI, app(1), app(2))
			s.push(repository+":test", index)
			return []*imagetest.Manifest{index}
		}},
		{name: "an index that lost its tag", flags: []string{"-m", "--allow-empty"}, make: func(s *site) []*imagetest.Manifest {
			s.push(repository+":test", imagetest.Index(imagetest.OCI, app(1), app(2)))
			s.delete(repository, "test")
			return nil
		}},
		// Distribution removes the layers of the deleted image.
		{name: "a tagged index that has a deleted image", flags: []string{"-m"}, make: func(s *site) []*imagetest.Manifest {
			index := imagetest.Index(imagetest.OCI, app(1), app(2))
			s.push(repository+":test", index)
			s.delete(repository, app(2).Digest().String())
			return []*imagetest.Manifest{index}
		}, deleted: func() []*imagetest.Manifest { return []*imagetest.Manifest{app(2)} }},
		{name: "layer links that nothing uses", flags: []string{"-m", "--allow-empty"}, make: func(s *site) []*imagetest.Manifest {
			s.push(repository, app(1, 2))
			return nil
		}},
		{name: "no directory of tags", flags: []string{"-m", "--allow-empty"}, make: func(s *site) []*imagetest.Manifest {
			s.push(repository+":image", app(1, 2))
			s.tree.Remove("repositories/" + repository + "/_manifests/tags")
			return nil
		}},
		{name: "no directory of manifests", flags: []string{"--allow-empty"}, make: func(s *site) []*imagetest.Manifest {
			s.push(repository, app(1, 2))
			s.tree.Remove("repositories/" + repository + "/_manifests")
			return nil
		}},
		{name: "deleted manifests", make: func(s *site) []*imagetest.Manifest {
			for n := 1; n <= 3; n++ {
				s.push(repository, app(n, n+10))
			}
			s.delete(repository, app(2, 12).Digest().String())
			s.delete(repository, app(3, 13).Digest().String())
			return []*imagetest.Manifest{app(1, 11)}
		}},
		{name: "a deleted manifest that shares a layer", make: func(s *site) []*imagetest.Manifest {
			s.push(repository, app(1, 2, 3))
			s.push(repository, app(3, 4, 5))
			s.delete(repository, app(3, 4, 5).Digest().String())
			return []*imagetest.Manifest{app(1, 2, 3)}
		}},
		{name: "a blob that no manifest refers to", make: func(s *site) []*imagetest.Manifest {
			s.must(s.client.PushBlob(s.Context(), repository, layer(9)))
			s.push(repository, app(1))
			return []*imagetest.Manifest{app(1)}
		}},
		{name: "a tagged list of untagged images", flags: []string{"-m"}, make: func(s *site) []*imagetest.Manifest {
			list := imagetest.Index(imagetest.Docker, formatted(imagetest.Docker, 1), formatted(imagetest.Docker, 2))
			s.push(repository+":test", list)
			return []*imagetest.Manifest{list}
		}},
		{name: "an untagged list of untagged images", flags: []string{"-m", "--allow-empty"}, make: func(s *site) []*imagetest.Manifest {
			s.push(repository, imagetest.Index(imagetest.Docker, formatted(imagetest.Docker, 1), formatted(imagetest.Docker, 2)))
			return nil
		}},
		{name: "an untagged list of tagged images", flags: []string{"-m"}, make: func(s *site) []*imagetest.Manifest {
			images := []*imagetest.Manifest{formatted(imagetest.Docker, 1), formatted(imagetest.Docker, 2)}
			s.push(repository+":image1", images[0])
			s.push(repository+":image2", images[1])
			s.push(repository, imagetest.Index(imagetest.Docker, images...))
			return images
		}},
		{name: "an untagged list of deleted images", flags: []string{"-m", "--allow-empty"}, make: func(s *site) []*imagetest.Manifest {
			images := []*imagetest.Manifest{formatted(imagetest.Docker, 1), formatted(imagetest.Docker, 2)}
			s.push(repository, imagetest.Index(imagetest.Docker, images...))
			s.delete(repository, images[0].Digest().String())
			s.delete(repository, images[1].Digest().String())
			return nil
		}},
		// Distribution removes it: only revisions are roots there.
		{name: "a tag without a revision link", flags: []string{"-m"}, make: func(s *site) []*imagetest.Manifest {
			s.push(repository+":test", app(1, 2))
			s.push(repository+":other", app(3))
			s.tree.Remove(imagetest.RevisionPath(repository, app(1, 2).Digest()))
			return []*imagetest.Manifest{app(1, 2), app(3)}
		}, deleted: func() []*imagetest.Manifest { return []*imagetest.Manifest{app(1, 2)} }},
		// Distribution removes the signature: it has no tag.
		{name: "a referrer of a tagged image", flags: []string{"-m"}, make: func(s *site) []*imagetest.Manifest {
			signature := imagetest.Referrer(app(1), "application/vnd.example.signature", []byte("signed"))
			s.push(repository+":test", app(1))
			s.push(repository, signature)
			return []*imagetest.Manifest{app(1), signature}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
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
