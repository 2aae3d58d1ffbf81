package main

import (
	"errors"
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
