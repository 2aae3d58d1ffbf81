package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"regsweep/internal/imagetest"
	"regsweep/internal/registrytest"

	"github.com/opencontainers/go-digest"
)

// TestAPolicyOnSignedImages: cosign signs images in its two layouts, with a tag and as a referrer. oras attaches a
// file to each image. After a policy each survivor can be pulled, its signature verifies, and its file is found.
// Nothing is left of the signatures and files of removed images.
func TestAPolicyOnSignedImages(t *testing.T) {
	t.Parallel()
	cosign, oras := registrytest.ProgramT(t, registrytest.Cosign), registrytest.ProgramT(t, registrytest.ORAS)
	s := newFixture(t)
	dir := t.TempDir()
	run := func(program string, args ...string) (string, error) {
		command := exec.CommandContext(t.Context(), program, args...)
		command.Dir = dir
		command.Env = append(os.Environ(), "HOME="+dir, "COSIGN_PASSWORD=", "DOCKER_CONFIG="+dir)
		output, err := command.CombinedOutput()
		return string(output), err
	}
	do := func(program string, args ...string) string {
		t.Helper()
		output, err := run(program, args...)
		if err != nil {
			t.Fatalf("%s %q: %v\n%s", filepath.Base(program), args, err, output)
		}
		return output
	}
	reference := func(d digest.Digest) string { return s.registry.Host() + "/team/app@" + string(d) }
	type signed struct {
		*imagetest.Manifest
		layout string // a flag of cosign
	}
	const withTag, asReferrer = "--new-bundle-format=false", "--new-bundle-format=true"
	images := map[string]signed{
		"latest": {app(1, 2), withTag}, "pr-1": {app(1, 10), withTag},
		"pr-2": {imagetest.Index(imagetest.OCI, app(1, 11), app(1, 12)), asReferrer}, "pr-3": {app(1, 13), asReferrer},
	}

	do(cosign, "generate-key-pair")
	const noRoots = `{"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1"}` // or cosign fetches some
	s.must(os.WriteFile(filepath.Join(dir, "roots.json"), []byte(noRoots), 0o600))
	for tag, m := range images {
		s.push("team/app:"+tag, m.Manifest)
		s.must(os.WriteFile(filepath.Join(dir, "sbom.json"), []byte(`{"of":"`+tag+`"}`), 0o600))
		do(cosign, "sign", "--key", "cosign.key", "--tlog-upload=false", "--allow-http-registry", "--yes", m.layout, reference(m.Digest()))
		do(oras, "attach", "--plain-http", "--artifact-type", "application/vnd.example.sbom", reference(m.Digest()), "sbom.json")
	}
	s.tree.Age(imagetest.TagPath("team/app", "pr-1"), 50*day)
	s.tree.Age(imagetest.TagPath("team/app", "pr-2"), 40*day)
	before := s.files()

	s.must(s.registry.SetReadOnly(true)) // the proof
	policy := filepath.Join(dir, "policy.yml")
	s.must(os.WriteFile(policy, []byte("version: 1\nrules:\n  - tags: [\"pr-*\"]\n    keep-within: 30d\n"), 0o600))
	code, stdout, stderr := regsweep(s, "gc", "--json", "--policy", policy, s.config(s.registry.ConfigYAML()))
	var report policyReport
	s.must(json.Unmarshal([]byte(stdout), &report))
	want := []string{"team/app:pr-1 remove by rule 1", "team/app:pr-2 remove by rule 1", "team/app:pr-3 keep by rule 1, keep-within"}
	if got := report.verdicts(); code != 0 || !slices.Equal(got, want) {
		t.Fatalf("exit code %d: %q: %s", code, got, stderr)
	}

	after := s.files()
	for tag, m := range images {
		verified, err := run(cosign, "verify", "--key", "cosign.pub", "--insecure-ignore-tlog", "--allow-http-registry", "--trusted-root", "roots.json", m.layout, reference(m.Digest()))
		if tag == "latest" || tag == "pr-3" {
			s.pull("after a policy", s.client, []image{{repository: "team/app", references: []string{tag, string(m.Digest())}}})
			if err != nil {
				t.Errorf("cosign verify %s: %v\n%s", tag, err, verified)
			}
			if found := do(oras, "discover", "--plain-http", reference(m.Digest())); !strings.Contains(found, "application/vnd.example.sbom") {
				t.Errorf("oras finds of %s: %s", tag, found)
			}
			continue
		}
		if err == nil {
			t.Errorf("the signature of %s still verifies", tag)
		}
		for path := range after {
			if strings.Contains(path, m.Digest().Encoded()) { // as its tags for referrers
				t.Errorf("%s: %s is left", tag, path)
			}
		}
	}
	// What is left: for each survivor its manifest, its signature and its file, and three indexes of referrers.
	if was, is := manifestsIn(before), manifestsIn(after); is != 9 {
		t.Errorf("%d of %d manifests are left", is, was)
	}
}

// manifestsIn counts the revision links.
func manifestsIn(files map[string]int64) (n int) {
	for path := range files {
		if strings.Contains(path, "/_manifests/revisions/") {
			n++
		}
	}
	return n
}
