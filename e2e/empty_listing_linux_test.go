package e2e

import (
	"maps"
	"os"
	"strings"
	"testing"

	"regsweep/internal/imagetest"
	"regsweep/internal/registrytest"
	"regsweep/internal/system"
	"regsweep/internal/system/systemtest"
)

// TestAFalselyEmptyDirectoryOfBtrfs: its link counts do not include directories, and its sizes tell.
func TestAFalselyEmptyDirectoryOfBtrfs(t *testing.T) {
	root := loopDisk(t, 120, "mkfs.btrfs", "-q")
	s := &site{T: t, tree: imagetest.NewTree(t, root), names: map[string]string{}}
	s.serve(registrytest.Config{Root: root})
	s.plant("app", "v1", app(1))
	s.plant("app", "", app(2))
	tags := "repositories/app/_manifests/tags"
	stop := systemtest.FailBelow(t, s.tree.Path(""), func(op, path string) error {
		if op == "getdents" && path == tags {
			return system.ErrEmpty
		}
		return nil
	})
	before := s.files()
	code, _, stderr := regsweep(s, "gc", "-m", "--allow-empty", "--registry-stopped", root)
	if code != 1 || !strings.Contains(stderr, tags) || !strings.Contains(stderr, "listed as empty") {
		t.Errorf("it ends with %d: %s", code, stderr)
	}
	if after := s.files(); !maps.Equal(after, before) {
		t.Errorf("there is %v, and there was %v", after, before)
	}
	stop()
	s.must(os.RemoveAll(s.tree.Path(tags + "/v1")))
	if code, _, stderr := regsweep(s, "gc", "-m", "--allow-empty", "--registry-stopped", root); code != 0 {
		t.Errorf("an emptied directory: it ends with %d: %s", code, stderr)
	}
}
