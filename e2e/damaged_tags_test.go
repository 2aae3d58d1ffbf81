package e2e

import (
	"strings"
	"testing"

	"regsweep/internal/imagetest"
)

// A damaged repository is reported with the tags that can't be pulled, and with what to do.
func TestTagsThatCanNotBePulledAreNamed(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		damage func(s *site, image, untagged *imagetest.Manifest)
		tags   string
		advice string
	}{
		"a manifest that is missing": {
			func(s *site, image, _ *imagetest.Manifest) { s.tree.Remove(imagetest.BlobPath(image.Digest())) },
			"amd64 multi", "; tags can't be pulled: amd64, multi: push the image again, or delete the tags",
		},
		"a manifest that is spoilt": {
			func(s *site, image, _ *imagetest.Manifest) {
				s.tree.Write(imagetest.BlobPath(image.Digest()), "spoilt")
			},
			"amd64 multi", "; tags can't be pulled: amd64, multi: push the image again",
		},
		"a revision link": {
			func(s *site, image, _ *imagetest.Manifest) {
				s.tree.Write(imagetest.RevisionPath("app", image.Digest()), "")
			},
			"amd64 multi", "; tags can't be pulled: amd64, multi: push the image again",
		},
		"a tag's own link": {
			func(s *site, _, _ *imagetest.Manifest) { s.tree.Write(imagetest.TagPath("app", "amd64"), "") },
			"amd64", "; tag can't be pulled: amd64: push the image again, or delete the tag",
		},
		"a manifest that is spoilt and untagged": {
			func(s *site, _, untagged *imagetest.Manifest) {
				s.tree.Write(imagetest.BlobPath(untagged.Digest()), "spoilt")
			},
			"", "; no tag needs it: push it again, or delete it",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
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
