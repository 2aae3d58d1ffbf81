package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A prefix of a bucket at which there is no registry is refused, and not collected in vain.
func TestAPrefixWithoutARegistryIsRefused(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	s.unrelated()
	s.moveToBucket()
	s.must(s.registry.SetReadOnly(true))
	typo := s.config(strings.ReplaceAll(s.registry.ConfigYAML(), s3Root, "/pord"))
	first := strings.Trim(strings.SplitAfter(strings.Trim(s3Root, "/"), "/")[0], "/") + "/"
	for _, args := range [][]string{
		{"gc", "-d", typo}, {"gc", "--registry-stopped", typo}, {"gc", "--registry", s.registry.URL(), typo}, {"check", typo},
	} {
		code, stdout, stderr := regsweep(s, args...)
		if code != 2 || stdout != "" || !strings.Contains(stderr, "holds no docker/registry/v2") || !strings.Contains(stderr, first) || !strings.Contains(stderr, "set by storage.s3.rootdirectory in "+typo) {
			t.Errorf("%s: exit code %d: %s%s", args, code, stdout, stderr)
		}
	}
	if code, _, stderr := regsweep(s, "gc", "-d", "--allow-empty", typo); code != 0 {
		t.Errorf("--allow-empty: exit code %d: %s", code, stderr)
	}
	if code, _, stderr := regsweep(s, "gc", "-d", s.config(s.registry.ConfigYAML())); code != 0 {
		t.Errorf("without the typo: exit code %d: %s", code, stderr)
	}
}

// The report says which config.yml was read.
func TestTheReportNamesTheConfig(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	s.unrelated()
	s.must(s.registry.SetReadOnly(true))
	config := s.config(s.registry.ConfigYAML())
	for _, args := range [][]string{{"gc", "-d"}, {"gc"}, {"check"}} {
		_, stdout, _ := regsweep(s, append(args, config)...)
		if !strings.Contains(stdout, "\nconfig "+config+"\n") {
			t.Errorf("%s: %s", args, stdout)
		}
		_, stdout, _ = regsweep(s, append(args, "--json", config)...)
		var report struct{ Config string }
		s.must(json.Unmarshal([]byte(stdout), &report))
		if report.Config != config {
			t.Errorf("%s: %q", args, report.Config)
		}
	}
	_, stdout, _ := regsweep(s, "gc", "-d", s.tree.Root())
	if strings.Contains(stdout, "config") {
		t.Errorf("a directory: %s", stdout)
	}
}

// TestARootOfAnotherUser: the message says that the permission is missing, and which user has it.
func TestARootOfAnotherUser(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{"", "docker", "docker/registry/v2", "docker/registry/v2/blobs"} {
		for _, byConfig := range []bool{false, true} {
			s := newFixture(t)
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
			s := newFixture(t)
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
		s := newFixture(t)
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
