package e2e

import (
	"net/http"
	"strings"
	"testing"

	"regsweep/internal/imagetest"
)

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
			s := newSite(t)
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
