package e2e

import (
	"encoding/json"
	"strings"
	"testing"
)

// A prefix of a bucket at which there is no registry is refused, and not collected in vain.
func TestAPrefixWithoutARegistryIsRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t)
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
	s := newSite(t)
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
