package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"regsweep/internal/imagetest"
	"regsweep/internal/registrytest"
)

// TestRunbookWhenPullsFail breaks real registries in the ways that docs/runbook.md names, and follows it: from the
// image that can't be pulled to the cure.
func TestRunbookWhenPullsFail(t *testing.T) {
	t.Parallel()
	blocks := recipes(t)
	for _, test := range []struct {
		name   string
		cure   string // the recipe
		lost   []string
		damage func(s *fixture, m *imagetest.Manifest)
	}{
		{"manifest unknown: the revision link is lost", "verify refill", nil, func(s *fixture, m *imagetest.Manifest) {
			s.tree.Remove(imagetest.RevisionPath("app", m.Digest()))
		}},
		{"manifest unknown: the blob of the manifest is lost", "verify refill", nil, func(s *fixture, m *imagetest.Manifest) {
			s.tree.Remove(imagetest.BlobPath(m.Digest()))
		}},
		{"blob unknown: a layer link is lost", "verify refill", nil, func(s *fixture, m *imagetest.Manifest) {
			s.tree.Remove(imagetest.LayerPath("app", m.Blobs[0].Digest()))
		}},
		{"blob unknown: a layer is lost", "verify refill", nil, func(s *fixture, m *imagetest.Manifest) {
			s.tree.Remove(imagetest.BlobPath(m.Blobs[0].Digest()))
		}},
		{"another digest: a layer has changed", "verify refill", nil, func(s *fixture, m *imagetest.Manifest) {
			s.tree.Write(imagetest.BlobPath(m.Blobs[0].Digest()), strings.Repeat("\x00", len(m.Blobs[0].Content)))
		}},
		{"half of a backup", "verify refill", nil, func(s *fixture, m *imagetest.Manifest) {
			s.tree.Remove("blobs/sha256/" + m.Blobs[0].Digest().Encoded()[:2])
			s.tree.Remove("repositories/app/_layers")
			s.tree.Remove("repositories/app/_manifests/revisions")
		}},
		{"a layer has changed, and nobody else has it", "verify push", nil, func(s *fixture, m *imagetest.Manifest) {
			s.tree.Write(imagetest.BlobPath(m.Blobs[0].Digest()), "")
			s.tree.Remove(imagetest.LayerPath("app", m.Blobs[1].Digest()))
		}},
		{"the tag is damaged", "verify push", nil, func(s *fixture, m *imagetest.Manifest) {
			s.tree.Write(imagetest.TagPath("app", "v1"), m.Digest().String()[:60])
		}},
		{"the image is lost", "verify untag", []string{"v1"}, func(s *fixture, m *imagetest.Manifest) {
			s.tree.Remove(imagetest.BlobPath(m.Blobs[0].Digest()))
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newFixture(t)
			m, index := app(1, 2), imagetest.Index(imagetest.OCI, app(3), app(4))
			s.push("app:v1", m)
			s.push("app:other", index)
			s.push("team/app:v1", app(5))
			mirror := registrytest.StartT(t, registrytest.Config{Root: t.TempDir()})
			s.must(mirror.Client().Push(t.Context(), "app:v1", m))
			s.must(mirror.Client().Push(t.Context(), "app:other", index))
			test.damage(s, m)
			if failing, _, _ := s.failing([]string{"app:v1"}); len(failing) == 0 {
				t.Fatal("the image can be pulled")
			}

			dir := t.TempDir()
			s.must(os.WriteFile(filepath.Join(dir, "config.yml"), []byte(s.registry.ConfigYAML()), 0o600))
			follow := func(recipe string) {
				t.Helper()
				for _, block := range blocks[recipe] {
					command := exec.CommandContext(t.Context(), "sh", "-euxc", strings.ReplaceAll(block, "https://mirror.example.com", mirror.URL()))
					command.Dir = dir
					command.Env = append(command.Environ(), "XDG_CACHE_HOME="+t.TempDir())
					if output, err := command.CombinedOutput(); err != nil {
						t.Fatalf("%s: %v\n%s", recipe, err, output)
					}
				}
				if len(blocks[recipe]) == 0 {
					t.Fatalf("there is no recipe %q", recipe)
				}
			}
			follow("verify find")
			s.must(s.registry.SetReadOnly(true))
			s.tree.Age("repositories", time.Hour) // the last push was longer ago than ten minutes
			follow(test.cure)
			s.must(s.registry.SetReadOnly(false))
			if test.cure == "verify push" {
				list, err := os.ReadFile(filepath.Join(dir, "push-again.txt"))
				s.must(err)
				if string(list) != "app:v1\n" {
					t.Fatalf("it says that %q has to be pushed again", list)
				}
				s.push("app:v1", m)
				follow("verify pushed")
			}
			tags, err := tagsOf(s.tree)
			s.must(err)
			if len(tags)+len(test.lost) != 3 || len(test.lost) > 0 && slices.Contains(tags, "app:v1") {
				t.Errorf("the tags are %q", tags)
			}
			if _, _, reasons := s.failing(tags); len(reasons) > 0 {
				t.Errorf("still: %v", reasons)
			}
		})
	}
}
