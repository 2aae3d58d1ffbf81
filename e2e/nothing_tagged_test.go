package e2e

import (
	"strings"
	"testing"
)

// A registry that is used by digest alone has no tags. Its manifests are alive without -m,
// and its garbage can be removed. With -m all of it would go, which is refused.
func TestARegistryWithoutTagsIsUsedByDigest(t *testing.T) {
	t.Parallel()
	onEach(t, "without tags", func(t *testing.T, on backend) {
		s := newSite(t)
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
