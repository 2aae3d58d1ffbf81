package e2e

import (
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"regsweep/internal/imagetest"
	"regsweep/storage"
)

// TestRestoreAllCountsEachRemovalOnce: two runs that list the same removals put back each of them
// once. A dry run counts as the restoration does, and an image whose links are in one run and
// whose blobs are in the other can be pulled.
func TestRestoreAllCountsEachRemovalOnce(t *testing.T) {
	t.Parallel()
	loose := app(1, 7)
	for _, moves := range []int{1, 5, 9, 12} {
		g := &quarantineFixture{variedFixture: newVariedFixture(t, false)}
		g.first = g.before
		g.interrupted(moves)
		if run := g.reported(append(g.gc(), "--json")...); run.code != 0 {
			t.Fatalf("the run that finishes ends with %d: %s", run.code, run.report.Error)
		}
		root := g.tree.Root()
		restored := func(args ...string) shown {
			code, report := g.quarantine(append([]string{"restore", "--all", root}, args...)...)
			if code != 0 || report.Restored.Unlinked != "" {
				t.Errorf("after %d moves, %v ends with %d: %+v", moves, args, code, report)
			}
			return report
		}
		image := []string{"--digest", loose.Digest().String()}
		for _, args := range [][]string{image, image, nil} {
			dry := restored(append([]string{"-d"}, args...)...)
			now := restored(args...)
			if !reflect.DeepEqual(dry.Restored.Back, now.Restored.Back) || !reflect.DeepEqual(dry.Restored.There, now.Restored.There) {
				t.Errorf("after %d moves, %v puts back %v, with %v there; the dry run has %v, with %v", moves, args,
					now.Restored.Back, now.Restored.There, dry.Restored.Back, dry.Restored.There)
			}
			if total := now.Restored.Back["blobs"].Count + now.Restored.There["blobs"].Count; args == nil && total != 9 {
				t.Errorf("after %d moves, %d blobs are back or there", moves, total)
			}
			if !g.tree.Exists(imagetest.RevisionPath("app", loose.Digest())) || !g.tree.Exists(imagetest.BlobPath(loose.Digest())) {
				t.Errorf("after %d moves, %v leaves the image unlinked", moves, args)
			}
		}
	}
}

// TestWhatTheAPIDeletedIsLinkedAfterAllWasRestored: the API removed the revision links of two
// manifests. A restoration of the run, or of the repository, puts back no such link. It names the
// manifests, and --digest links them again although the run is gone.
func TestWhatTheAPIDeletedIsLinkedAfterAllWasRestored(t *testing.T) {
	t.Parallel()
	deleted, first, second := app(1, 2), app(4, 5), app(4, 6)
	index := imagetest.Index(imagetest.OCI, first, second)
	for name, test := range map[string]struct {
		args  []string
		names []string
	}{
		"a run":               {[]string{"latest"}, []string{deleted.Digest().String(), index.Digest().String()}},
		"all runs":            {[]string{"--all"}, []string{deleted.Digest().String(), index.Digest().String()}},
		"a repository":        {[]string{"latest", "--repository", "team/app"}, []string{deleted.Digest().String()}},
		"a repository of all": {[]string{"--all", "--repository", "team/app"}, []string{deleted.Digest().String()}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newFixture(t)
			s.push("team/app:v1", deleted)
			s.push("team/app:latest", app(1, 3))
			s.push("multi:v1", index) // its images stay: no link in the plan names the repository
			s.push("multi:first", first)
			s.push("multi:second", second)
			s.delete("team/app", deleted.Digest().String())
			s.delete("multi", index.Digest().String())
			root := s.tree.Root()
			if run := s.reported("gc", "--quarantine", "--registry-stopped", "--json", root); run.code != 0 {
				t.Fatal(run.report.Error)
			}
			slices.Sort(test.names)
			restore := append([]string{"restore", root}, test.args...)
			if test.args[0] == "latest" {
				restore = append([]string{"restore", "latest", root}, test.args[1:]...)
			}
			for _, dry := range []string{"--dry-run", "--dry-run=false"} {
				code, report := s.quarantine(append(restore, dry)...)
				if code != 0 || !slices.Equal(report.Restored.NotLinked, test.names) {
					t.Errorf("%s ends with %d: %+v, want %v", dry, code, report.Restored, test.names)
				}
			}
			if s.tree.Exists(imagetest.RevisionPath("team/app", deleted.Digest())) || s.tree.Exists(imagetest.RevisionPath("multi", index.Digest())) {
				t.Error("what the API deleted is linked")
			}
			for _, digest := range []string{deleted.Digest().String(), index.Digest().String()} {
				for _, test := range []struct {
					flag   string
					linked int
				}{{"--dry-run", 1}, {"--dry-run=false", 1}, {"--dry-run=false", 0}} {
					code, report := s.quarantine("restore", "--all", "--digest", digest, test.flag, root)
					if code != 0 || len(report.Restored.Linked) != test.linked {
						t.Errorf("--digest %s %s ends with %d: %+v", digest, test.flag, code, report)
					}
				}
			}
			s.pull("linked", s.client, []image{pulls("team/app", deleted, "latest"), pulls("multi", index, first, second)})
			if code, report := s.quarantine("restore", "--all", root); code != 0 || len(report.Restored.NotLinked) > 0 {
				t.Errorf("the rest ends with %d: %+v", code, report)
			}
		})
	}
}

// TestADamagedRunIsNamedAndTheOthersAreRestored: restore --all does not stop at it, and neither
// does a dry run. -q prints what is left.
func TestADamagedRunIsNamedAndTheOthersAreRestored(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	s.plant("app", "v1", app(1))
	s.plant("app", "", app(1, 2))
	root := s.tree.Root()
	if code, _, stderr := regsweep(s, "gc", "-m", "--quarantine", "--registry-stopped", root); code != 0 {
		t.Fatal(stderr)
	}
	run := slices.Collect(maps.Keys(runsIn(s.shape())))[0]
	damaged := "20200101T000000Z-00000000"
	s.write(storage.QuarantineDir+"/"+damaged+"/plan.jsonl", "no plan\n")
	s.write(storage.QuarantineDir+"/"+damaged+"/"+imagetest.BlobPath(layer(9).Digest()), "x")
	line := "  not restored: " + damaged + ": its plan is damaged"
	code, stdout, stderr := regsweep(s, "quarantine", "restore", "--all", "-d", root)
	if code != 4 || !strings.HasPrefix(stdout, "Dry run: nothing was put back. It would be 3 blobs") || !strings.Contains(stdout, line) {
		t.Errorf("a dry run ends with %d: %s%s", code, stdout, stderr)
	}
	if code, stdout, stderr = regsweep(s, "quarantine", "restore", "--all", "-d", "-q", root); code != 4 || stdout != "" || !strings.HasPrefix(stderr, line) {
		t.Errorf("-q ends with %d: %q, %q", code, stdout, stderr)
	}
	code, stdout, stderr = regsweep(s, "quarantine", "restore", "--all", root)
	if code != 4 || !strings.HasPrefix(stdout, "Put back 3 blobs") || !strings.Contains(stdout, line) || !strings.Contains(stdout, "1 run could not be put back: exit code 4.\n") {
		t.Errorf("it ends with %d: %s%s", code, stdout, stderr)
	}
	if _, err := os.Stat(s.tree.Path(storage.QuarantineDir + "/" + run)); err == nil {
		t.Error("the other run is still there")
	}
	_, report := s.quarantine("restore", "--all", root)
	if len(report.Restored.NotRestored) != 1 || report.Restored.NotRestored[0].Run != damaged {
		t.Errorf("the report has %+v", report.Restored)
	}
}

// TestRestoreQuietlyPrintsWhatIsLeft: exit code 4 never comes without a line.
func TestRestoreQuietlyPrintsWhatIsLeft(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	old := app(1, 2)
	s.plant("app", "v1", app(1))
	s.plant("app", "", old)
	root := s.tree.Root()
	if code, _, stderr := regsweep(s, "gc", "-m", "--quarantine", "--registry-stopped", root); code != 0 {
		t.Fatal(stderr)
	}
	run := slices.Collect(maps.Keys(runsIn(s.shape())))[0]
	s.write(storage.QuarantineDir+"/"+run+"/"+imagetest.BlobPath(old.Digest()), "rotten")
	code, stdout, stderr := regsweep(s, "quarantine", "restore", "-q", "latest", root)
	if code != 4 || stdout != "" || !strings.Contains(stderr, "not put back: ") || !strings.Contains(stderr, "has another digest") || strings.Contains(stderr, "Put back ") {
		t.Errorf("it ends with %d: %q, %q", code, stdout, stderr)
	}
}

// TestAnEmptyPartIsNotEverything: a variable that is not set must not restore everything.
func TestAnEmptyPartIsNotEverything(t *testing.T) {
	t.Parallel()
	g, _ := newQuarantineFixture(t, func(g *quarantineFixture) []string { g.quarantined(); return nil })
	for _, flag := range []string{"--repository", "--digest"} {
		for _, args := range [][]string{{flag, ""}, {flag + "="}} {
			code, _, stderr := regsweep(g.fixture, append([]string{"quarantine", "restore", "latest", g.tree.Root()}, args...)...)
			if code != 2 || !strings.Contains(stderr, flag+" is empty") {
				t.Errorf("%q ends with %d: %s", args, code, stderr)
			}
		}
	}
	if d := difference(g.shape(), g.before); d != "" {
		t.Errorf("it changes:%s", d)
	}
}

// TestATagThatIsNotRestoredIsReported: a newer run has the tag with another target than the
// registry, and an older run has it with the same. What the newer one has is not put back.
func TestATagThatIsNotRestoredIsReported(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	s.plant("other", "v1", app(9))
	list := filepath.Join(s.TempDir(), "roots")
	s.must(os.WriteFile(list, []byte("other:v1\n"), 0o600))
	for _, image := range []*imagetest.Manifest{app(1), app(2), app(1)} {
		s.plant("app", "v1", image)
		if image.Digest() == app(1).Digest() && s.tree.Exists(".regsweep/quarantine") {
			break // the registry has what the older run has
		}
		if code, _, stderr := regsweep(s, "gc", "--roots", list, "--quarantine", "--registry-stopped", s.tree.Root()); code != 0 {
			t.Fatalf("ends with %d: %s", code, stderr)
		}
	}
	code, stdout, _ := regsweep(s, "quarantine", "restore", "--all", s.tree.Root())
	if code != 4 || !strings.Contains(stdout, "not put back: ") || !strings.Contains(stdout, "tags/v1/current/link") {
		t.Errorf("ends with %d:\n%s", code, stdout)
	}
}

// TestAListKeepsTheLinksOfWhatTheAPIDeleted: the API removed the revision link of an image that a
// list names. What the image needs stays linked in its repository, so that it can be linked again.
func TestAListKeepsTheLinksOfWhatTheAPIDeleted(t *testing.T) {
	t.Parallel()
	for _, flag := range []string{"--keep-digests", "--roots"} {
		s := newFixture(t)
		single, index := app(1, 2), imagetest.Index(imagetest.OCI, app(4, 5), app(4, 6))
		s.push("team/app:v1", single)
		s.push("team/app:v2", app(1, 3))
		s.push("mirror:v1", app(1, 2, 9))
		s.push("multi:v1", index)
		s.delete("team/app", single.Digest().String())
		s.delete("multi", index.Digest().String())
		root := s.tree.Root()
		list := s.list("team/app:v2", "mirror:v1", "team/app@"+single.Digest().String(), "multi@"+index.Digest().String(), "mirror@"+single.Digest().String())
		if run := s.reported("gc", "-m", flag, list, "--registry-stopped", "--json", root); run.code != 0 {
			t.Fatal(run.report.Error)
		}
		for _, m := range []*imagetest.Manifest{single, index} {
			if code, report := s.quarantine("restore", "--all", "--digest", m.Digest().String(), root); code != 0 || len(report.Restored.Linked) == 0 {
				t.Errorf("%s: restore ends with %d: %+v", flag, code, report)
			}
		}
		s.pull(flag, s.client, []image{pulls("team/app", single, "v2"), pulls("multi", index)})
	}
}

// TestARestorationIsDoneThoughAnotherRepositoryCannotBeListed: which manifests nobody can pull is
// not known then. All is back, and the run is gone.
func TestARestorationIsDoneThoughAnotherRepositoryCannotBeListed(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	deleted := app(1, 2)
	s.push("team/app:v1", deleted)
	s.push("team/app:v2", app(1, 3))
	s.delete("team/app", deleted.Digest().String())
	root := s.tree.Root()
	if run := s.reported("gc", "--quarantine", "--registry-stopped", "--json", root); run.code != 0 {
		t.Fatal(run.report.Error)
	}
	s.must(os.MkdirAll(s.tree.Path("repositories/other/_manifests"), 0o755))
	s.must(os.Symlink(t.TempDir(), s.tree.Path("repositories/other/_manifests/revisions")))
	code, stdout, stderr := regsweep(s, "quarantine", "restore", "latest", root)
	if code != 4 || !strings.Contains(stdout, "Which of the manifests can't be pulled is not known: ") || strings.Contains(stdout, "Stopped") {
		t.Errorf("ends with %d, %s\n%s", code, stderr, stdout)
	}
	if s.tree.Exists(".regsweep/quarantine") || !s.tree.Exists(imagetest.BlobPath(deleted.Digest())) {
		t.Error("something is left in the quarantine")
	}
}

// TestAnIndexEntryOfATagIsNoLink: a tag was moved to another image, and the API deleted the image
// that it had. The tag's index still has an entry for that image, which nobody can pull.
func TestAnIndexEntryOfATagIsNoLink(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"latest"}, {"--all"}, {"latest", "--repository", "team/app"}} {
		s := newFixture(t)
		deleted := app(1, 2)
		s.push("team/app:v1", deleted)
		s.push("team/app:v1", app(1, 3))
		s.delete("team/app", deleted.Digest().String())
		root := s.tree.Root()
		if run := s.reported("gc", "--quarantine", "--registry-stopped", "--json", root); run.code != 0 {
			t.Fatal(run.report.Error)
		}
		code, report := s.quarantine(append(append([]string{"restore"}, args...), root)...)
		if code != 0 || report.Restored.Back["tag_index_entries"].Count != 1 || !slices.Equal(report.Restored.NotLinked, []string{deleted.Digest().String()}) {
			t.Errorf("%v ends with %d: %+v", args, code, report.Restored)
		}
	}
}

// TestADamagedCopyOfABlobThatIsThere: the blob was pushed again after the run. What leads to it
// comes back, and nothing is left. A damaged blob in the registry is not taken for a good one.
func TestADamagedCopyOfABlobThatIsThere(t *testing.T) {
	t.Parallel()
	for _, isGood := range []bool{true, false} {
		s := newFixture(t)
		old := app(1, 2)
		s.plant("app", "v1", app(1))
		s.plant("app", "", old)
		root := s.tree.Root()
		if code, _, stderr := regsweep(s, "gc", "-m", "--quarantine", "--registry-stopped", root); code != 0 {
			t.Fatal(stderr)
		}
		copied := storage.QuarantineDir + "/" + onlyRun(s) + "/" + imagetest.BlobPath(layer(2).Digest())
		s.write(copied, "rotten")
		s.plant("other", "v1", app(2))
		if isGood {
			wantCode(s, 0, "quarantine", "restore", "latest", root)
			s.pull("restored", s.client, []image{pulls("app", old)})
			if s.tree.Exists(storage.QuarantineDir) {
				t.Error("something is left in the quarantine")
			}
			continue
		}
		s.write(imagetest.BlobPath(layer(2).Digest()), "rotten too")
		wantCode(s, 4, "quarantine", "restore", "latest", root)
		if !s.tree.Exists(copied) {
			t.Error("the copy is gone")
		}
	}
}

// TestAnUploadThatIsNowhereIsLeft: a run was interrupted before it moved the upload, and another
// one removed the upload for good.
func TestAnUploadThatIsNowhereIsLeft(t *testing.T) {
	t.Parallel()
	g := &quarantineFixture{variedFixture: newVariedFixture(t, false)}
	g.first = g.before
	g.interrupted(1)
	root := g.tree.Root()
	_, before := g.quarantine("restore", "latest", "-d", root)
	if n := before.Restored.There["uploads"].Count; n != 1 {
		t.Errorf("before it is removed, there are %+v", before.Restored)
	}
	wantCode(g.fixture, 0, "gc", "-m", "--registry-stopped", "--upload-age", "1h", root)
	code, after := g.quarantine("restore", "latest", "-d", root)
	if n := after.Restored.There["uploads"].Count; n != 0 || code != 4 {
		t.Errorf("it ends with %d: %+v", code, after.Restored)
	}
}

// wantCode runs a command that ends with a code.
func wantCode(s *fixture, want int, args ...string) {
	s.Helper()
	if code, stdout, stderr := regsweep(s, args...); code != want {
		s.Errorf("%v ends with %d: %s%s", args, code, stdout, stderr)
	}
}
