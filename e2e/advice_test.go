package e2e

import (
	"path"
	"strings"
	"testing"

	"regsweep/internal/imagetest"
)

// Advice to give a flag is for a run without it.
func TestAFlagThatWasGivenIsNotAdvised(t *testing.T) {
	s := newSite(t)
	tagged, untagged := app(1, 11), app(1, 12)
	s.push("dangling:v1", tagged)
	s.push("dangling", untagged)
	s.tree.Remove(path.Dir(imagetest.BlobPath(untagged.Digest())))
	target := s.config(s.registry.ConfigYAML())
	for flags, advised := range map[string]bool{"-d": true, "-dm": false} {
		code, stdout, stderr := regsweep(s, "gc", flags, target)
		if code != 0 || !strings.Contains(stdout, "whose manifest is gone") || strings.Contains(stdout, "is removed with --delete-untagged") != advised {
			t.Errorf("gc %s ends with %d: %s%s", flags, code, stdout, stderr)
		}
	}
}
