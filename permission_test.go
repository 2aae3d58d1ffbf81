package main

import (
	"os"
	"strings"
	"testing"
)

// TestARootOfAnotherUser: the message says that the permission is missing, and which user has it.
func TestARootOfAnotherUser(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{"", "docker", "docker/registry/v2", "docker/registry/v2/blobs"} {
		for _, byConfig := range []bool{false, true} {
			s := newSite(t)
			s.plant("app", "v1", app(1))
			give(t, s.tree.Root())
			path := strings.TrimSuffix(s.tree.Root()+"/"+dir, "/")
			s.must(os.Chown(path, 12345, 12345))
			s.must(os.Chmod(path, 0o700))
			target := s.tree.Root()
			if byConfig {
				target = s.config(s.registry.ConfigYAML())
				s.must(os.Chmod(target, 0o644))
			}
			code, stderr := asNobody(t, "gc", "--registry-stopped", "-d", target)
			s.must(os.Chmod(path, 0o755))
			if code == 0 || !strings.Contains(stderr, "permission denied") {
				t.Errorf("%q, by config: %t: ends with %d, %s", dir, byConfig, code, stderr)
			}
			if dir != "docker/registry/v2/blobs" && !strings.Contains(stderr, path+" belongs to user 12345") {
				t.Errorf("%q, by config: %t: %s", dir, byConfig, stderr)
			}
		}
	}
}
