package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"regsweep/internal/imagetest"

	"github.com/opencontainers/go-digest"
)

// hardLinks is what a report tells of garbage with other hard links.
type hardLinks struct {
	Garbage, Removed tallies
	HardLinked       struct {
		Count int
		Bytes int64
	} `json:"hard_linked"`
	HiddenBytes int64 `json:"hidden_bytes"`
}

// linkedSite has a tagged image, and two blobs of 1000 and 20 bytes that are garbage.
func linkedSite(t *testing.T) (s *site, large, small digest.Digest) {
	s = newSite(t)
	s.plant("app", "v1", app(1, 2))
	large = s.tree.Blob([]byte(strings.Repeat("x", 1000)))
	small = s.tree.Blob([]byte("twenty bytes of text"))
	s.must(s.registry.SetReadOnly(true))
	return s, large, small
}

// copyLinked copies the whole registry with hard links.
func (s *site) copyLinked() (copied string) {
	s.Helper()
	copied = filepath.Join(s.TempDir(), "copy")
	s.must(exec.CommandContext(s.Context(), "cp", "-al", s.tree.Root(), copied).Run())
	return copied
}

// runLinked runs gc without a prompt. The figures are those of the report.
func (s *site) runLinked(flags ...string) (run hardLinks) {
	s.Helper()
	code, stdout, stderr := regsweep(s, append([]string{"gc", s.config(s.registry.ConfigYAML()), "--registry", s.registry.URL(), "--json"}, flags...)...)
	if err := json.Unmarshal([]byte(stdout), &run); err != nil || code != 0 {
		s.Fatalf("ends with %d, %v: %s", code, err, stderr)
	}
	return run
}

// TestHardLinkedFilesFreeNothing: what a copy made with cp -al has too is removed, and its bytes
// do not count as freed, in the dry run as in the real run and in a purge.
func TestHardLinkedFilesFreeNothing(t *testing.T) {
	t.Parallel()
	s, _, small := linkedSite(t)
	s.tree.Upload("app", "left", time.Now().Add(-1000*time.Hour), []byte("half an upload"))
	s.copyLinked()
	alone := s.tree.Blob([]byte("pushed after the copy"))
	dry := s.runLinked("--dry-run")
	all := dry.Garbage.Blobs.Bytes + dry.Garbage.Uploads.Bytes
	freed := int64(len("pushed after the copy"))
	if dry.Garbage.Blobs.Count != 3 || dry.HardLinked.Count != 3 || dry.HardLinked.Bytes != all-freed {
		t.Errorf("the dry run counts %+v", dry)
	}
	config := s.config(s.registry.ConfigYAML())
	_, text, _ := regsweep(s, "gc", "-d", config)
	if !strings.Contains(text, "; 21 B would be freed.") || !strings.Contains(text, "with other hard links") {
		t.Errorf("the dry run says: %s", text)
	}

	s.runLinked("--quarantine")
	run := onlyRun(s)
	if _, text, _ = regsweep(s, "quarantine", "purge", "--dry-run", "--run", run, config); !strings.Contains(text, "; 21 B would be freed.") {
		t.Errorf("the dry run of the purge says: %s", text)
	}
	regsweep(s, "quarantine", "restore", run, config)
	if !s.tree.Exists(imagetest.BlobPath(small)) {
		t.Fatal("the blob was not restored")
	}

	real := s.runLinked()
	if real.Removed.Blobs.Count != 3 || real.Removed.Blobs.Bytes+real.Removed.Uploads.Bytes != freed || real.HardLinked != dry.HardLinked ||
		real.Garbage != dry.Garbage || real.HiddenBytes != 0 {
		t.Errorf("the run counts %+v, the dry run %+v", real, dry)
	}
	if s.tree.Exists(imagetest.BlobPath(small)) || s.tree.Exists(imagetest.BlobPath(alone)) {
		t.Error("a blob is still there")
	}
}

// TestAPurgeDoesNotFreeHardLinkedFiles counts what it has removed, and the bytes that it freed.
func TestAPurgeDoesNotFreeHardLinkedFiles(t *testing.T) {
	t.Parallel()
	s, _, _ := linkedSite(t)
	s.copyLinked()
	s.tree.Blob([]byte("pushed after the copy"))
	s.runLinked("--quarantine")
	_, text, _ := regsweep(s, "quarantine", "purge", "--yes", "--run", onlyRun(s), s.config(s.registry.ConfigYAML()))
	if !strings.Contains(text, "3 objects removed, 21 B freed") {
		t.Errorf("the purge says: %s", text)
	}
}

// TestHardLinksCountAtTheRemoval: a copy that was removed after the plan was made keeps nothing.
func TestHardLinksCountAtTheRemoval(t *testing.T) {
	t.Parallel()
	s, _, _ := linkedSite(t)
	copied := s.copyLinked()
	plan, dry := s.savePlan()
	s.must(os.RemoveAll(copied))
	run := s.apply(plan)
	if run.code != 0 || run.report.Removed != dry.report.Garbage || run.report.Removed.Blobs.Bytes != 1020 {
		t.Errorf("ends with %d, removed %+v", run.code, run.report.Removed)
	}
}

// TestTwoBlobsInOneFile: the space of a file is freed, and counted, with its last name.
func TestTwoBlobsInOneFile(t *testing.T) {
	t.Parallel()
	s, large, small := linkedSite(t)
	path := s.tree.Path(imagetest.BlobPath(small))
	s.must(os.Remove(path))
	s.must(os.Link(s.tree.Path(imagetest.BlobPath(large)), path))
	if dry := s.runLinked("--dry-run"); dry.Garbage.Blobs.Bytes != 2000 || dry.HardLinked.Count != 2 || dry.HardLinked.Bytes != 2000 {
		t.Errorf("the dry run counts %+v", dry)
	}
	if run := s.runLinked(); run.Removed.Blobs.Count != 2 || run.Removed.Blobs.Bytes != 1000 || run.HardLinked.Count != 1 || run.HardLinked.Bytes != 1000 {
		t.Errorf("the run counts %+v", run)
	}
}
