package e2e

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"regsweep/internal/registrytest"
)

// conformance is a registry that the conformance tests of the OCI distribution-spec run on.
// Distribution v3.1.2 does not pass all of them.
type conformance struct {
	*site
	program string
}

// results are the tests and how each ended.
func (c *conformance) results(env ...string) []string {
	c.Helper()
	dir := c.TempDir()
	command := exec.Command(c.program)
	command.Dir = dir
	command.Env = append(command.Environ(), append([]string{"OCI_RESULTS_DIR=" + dir, "OCI_TLS=disabled",
		"OCI_REGISTRY=" + strings.TrimPrefix(c.registry.URL(), "http://"), "OCI_REPO1=first/one", "OCI_REPO2=second/two",
		// What it pushes stays.
		"OCI_API_BLOBS_DELETE=false", "OCI_API_MANIFESTS_DELETE=false", "OCI_API_TAGS_DELETE=false"}, env...)...)
	output, err := command.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		c.Fatal(err)
	}
	var found []string
	for line := range strings.Lines(string(output)) {
		// The report in XML is not written if nothing was pushed: the program fails before.
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "OCI Conformance Test") {
			found = append(found, line)
		}
	}
	slices.Sort(found)
	return found
}

// TestConformanceIsTheSameAfterACollection: the conformance tests push images, indexes and
// artifacts. A collection changes neither what they find when they pull these, nor what they
// find when they push again (1).
func TestConformanceIsTheSameAfterACollection(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("the conformance tests take half a minute")
	}
	program, err := registrytest.ConformanceBinary(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c := &conformance{newSite(t), program}
	pushed := c.results()
	passes := func(results []string) int {
		return len(slices.DeleteFunc(slices.Clone(results), func(r string) bool { return !strings.HasSuffix(r, ": Pass") }))
	}
	if n := passes(pushed); n < 100 {
		t.Fatalf("only %d of %d tests pass", n, len(pushed))
	}
	pulls := []string{"OCI_API_PUSH=false",
		"OCI_RO_DATA_TAGS=" + c.names("repositories/first/one/_manifests/tags/*", ""),
		"OCI_RO_DATA_MANIFESTS=" + c.names("repositories/first/one/_manifests/revisions/sha256/*", "sha256:")}
	pulled := c.results(pulls...)
	if n := passes(pulled); n < 10 {
		t.Fatalf("only %d of %d tests pass", n, len(pulled))
	}
	// The tests that pull read no blob, and those that push push it again.
	before := map[string]string{}
	for path := range c.files() {
		content, err := os.ReadFile(c.tree.Path(path))
		c.must(err)
		before[path] = string(content)
	}
	needed := neededByTags(before)
	if len(needed) < 50 {
		t.Fatalf("the oracle finds only %d files", len(needed))
	}
	for _, flags := range [][]string{{}, {"-m"}} {
		run := c.gcOn(c.tree.Root(), append([]string{"--registry-stopped"}, flags...)...)
		if run.code != 0 || run.report.Removed.Blobs.Count == 0 {
			t.Errorf("gc %v ends with %d and removes %+v: %s", flags, run.code, run.report.Removed, run.stderr)
		}
		for _, path := range needed {
			if !c.tree.Exists(path) {
				t.Errorf("after gc %v %s is gone", flags, path)
			}
		}
		if len(flags) == 0 {
			c.same("pulls after a collection", c.results(pulls...), pulled)
		}
	}
	c.same("tests after a collection of untagged manifests", c.results(), pushed)
}

// names are the last parts of paths.
func (c *conformance) names(pattern, prefix string) string {
	c.Helper()
	found, err := filepath.Glob(c.tree.Path(pattern))
	c.must(err)
	if len(found) == 0 {
		c.Fatalf("nothing is %s", pattern)
	}
	for i, path := range found {
		found[i] = prefix + filepath.Base(path)
	}
	return strings.Join(found, " ")
}
