package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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
			if strings.Count(stderr, path+" belongs to user 12345") != 1 {
				t.Errorf("%q, by config: %t: %s", dir, byConfig, stderr)
			}
		}
	}
}

// TestPermissionsThatTheOwnerLacks: a user who owns a directory is not told to run as its owner, but
// which permissions it has.
func TestPermissionsThatTheOwnerLacks(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{"docker", "docker/registry/v2", "docker/registry/v2/blobs", "docker/registry/v2/repositories/app"} {
		for _, mode := range []os.FileMode{0o555, 0o311, 0o600} {
			s := newSite(t)
			s.plant("app", "v1", app(1))
			s.plant("app", "", app(2))
			give(t, s.tree.Root())
			path := s.tree.Root() + "/" + dir
			s.must(os.Chmod(path, mode))
			code, stderr := asNobody(t, "gc", "-m", "--registry-stopped", "--yes", s.tree.Root())
			s.must(os.Chmod(path, 0o755))
			if strings.Contains(stderr, "run regsweep as that user") || strings.Count(stderr, "runs as its owner") > 1 {
				t.Errorf("%s %o: ends with %d, %s", dir, mode, code, stderr)
			}
			if says := fmt.Sprintf("%s has the permissions %04o, and regsweep runs as its owner", path, mode); code != 0 && !strings.Contains(stderr, says) {
				t.Errorf("%s %o: ends with %d, %s", dir, mode, code, stderr)
			}
		}
	}
}

// TestBlobsOfAnotherUser: a user who may remove links and no blob is told so before anything is
// removed, and a user who may make no lock as well.
func TestBlobsOfAnotherUser(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{"blobs", ".", "repositories"} {
		s := newSite(t)
		s.plant("app", "v1", app(1))
		s.plant("app", "", app(2))
		give(t, s.tree.Root())
		path := s.tree.Path(dir)
		s.must(filepath.WalkDir(path, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.IsDir() {
				return err
			}
			return errors.Join(os.Chown(path, 12345, 12345), os.Chmod(path, 0o755))
		}))
		before := s.shape()
		code, stderr := asNobody(t, "gc", "-m", "--registry-stopped", s.tree.Root())
		if code != 1 || strings.Count(stderr, " belongs to user 12345: run regsweep as that user") != 1 || !strings.Contains(stderr, path) {
			t.Errorf("%s: ends with %d, %s", dir, code, stderr)
		}
		if d := difference(s.shape(), before); d != "" {
			t.Errorf("%s: %s", dir, d)
		}
	}
}
