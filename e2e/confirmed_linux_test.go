package e2e

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"regsweep/internal/imagetest"
	"regsweep/internal/system"
	"regsweep/internal/system/systemtest"
)

// TestAnUploadOfWhichAFileIsLeftHasNotGone: a directory of an upload is listed as empty and is not.
// The upload is reported as left, and the run goes on (2, 6).
func TestAnUploadOfWhichAFileIsLeftHasNotGone(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"", "--quarantine"} {
		for _, dated := range []bool{true, false} {
			for _, hidden := range []string{"/hashstates/sha256", "/hashstates"} {
				s := newFixture(t)
				s.plant("app", "v1", app(1))
				s.plant("app", "", app(1, 2))
				s.tree.Upload("app", "old", time.Now().Add(-1000*time.Hour), []byte("half an upload"))
				s.tree.Upload("app", "other", time.Now().Add(-1000*time.Hour), []byte("half an upload"))
				upload := "repositories/app/_uploads/old"
				file := upload + "/hashstates/sha256/14"
				if !dated {
					s.tree.Remove(upload + "/startedat")
				}
				stop := systemtest.FailBelow(t, s.tree.Path(""), func(op, path string) error {
					if op == "getdents" && path == upload+hidden {
						return system.ErrEmpty
					}
					return nil
				})
				args := []string{"gc", "-m", "--registry-stopped", "--json", s.tree.Root()}
				if how != "" {
					args = append(args, how)
				}
				code, stdout, stderr := regsweep(s, args...)
				stop()
				var report gcReport
				s.must(json.Unmarshal([]byte(stdout), &report))
				what := how + " " + hidden
				if !s.tree.Exists(file) {
					t.Errorf("%s: the file is gone", what)
				}
				if hidden == "/hashstates" { // the directory's link count tells, and the upload is kept
					if code != 4 {
						t.Errorf("%s: it ends with %d: %s", what, code, stderr)
					}
					continue
				}
				if code != 4 || len(report.Failed) != 1 || !strings.Contains(report.Failed[0].Error, "still holds what was not listed") {
					t.Errorf("%s: it ends with %d: %s %+v", what, code, stderr, report.Failed)
				}
				if report.Removed.Uploads.Count != 1 || s.tree.Exists("repositories/app/_uploads/other/data") {
					t.Errorf("%s: it reports %d uploads", what, report.Removed.Uploads.Count)
				}
				if s.tree.Exists(imagetest.BlobPath(layer(2).Digest())) {
					t.Errorf("%s: the run has stopped", what)
				}
				if code, _, stderr := regsweep(s, args...); code != 0 || s.tree.Exists(upload) {
					t.Errorf("%s: the next run ends with %d: %s", what, code, stderr)
				}
			}
		}
	}
}
