package e2e

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"regsweep/internal/imagetest"
	"regsweep/storage"
)

// purgeReport is what purge and list say of runs.
type purgeReport struct {
	Runs []struct {
		Run, Damage        string
		Contents           map[string]struct{ Count int }
		Objects            tally
		Freed              tally
		StillHidden        tally `json:"still_hidden"`
		DataBytes          int64 `json:"data_bytes"`
		FreeableBytes      int64 `json:"freeable_bytes"`
		LinksGuessed       bool  `json:"links_guessed"`
		UnreadableVersions int   `json:"unreadable_versions"`
	}
	PassedOver []struct{ Run, Problem string } `json:"passed_over"`
}

func (s *fixture) ofRuns(wantCode int, args ...string) (report purgeReport) {
	s.Helper()
	code, stdout, stderr := regsweep(s, append([]string{"quarantine"}, append(args, "--json")...)...)
	if err := json.Unmarshal([]byte(stdout), &report); err != nil || code != wantCode {
		s.Fatalf("%v ends with %d, %v: %s", args, code, err, stderr)
	}
	return report
}

// TestPurgeByAgeNamesDamagedRuns: a damaged run that is old enough is named, also with -q, and
// purged by its name. So is a run of unknown age. A run that is too young is not named.
func TestPurgeByAgeNamesDamagedRuns(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	s.plant("app", "v1", app(1))
	root := s.tree.Root()
	old, young := "20200101T000000Z-00000000", time.Now().UTC().Format("20060102T150405Z")+"-00000001"
	for _, run := range []string{old, young} {
		s.write(storage.QuarantineDir+"/"+run+"/plan.jsonl", "no plan\n")
		s.write(storage.QuarantineDir+"/"+run+"/"+imagetest.BlobPath(layer(9).Digest()), "x")
	}
	line := "  not purged: " + old + ": its plan is damaged"
	for _, dry := range []string{"-d", "--yes"} {
		code, stdout, stderr := regsweep(s, "quarantine", "purge", dry, "--older-than", "7d", root)
		if code != 4 || !strings.Contains(stdout, line) || !strings.Contains(stdout, "--run "+old) || strings.Contains(stdout, young) {
			t.Errorf("%s ends with %d: %s%s", dry, code, stdout, stderr)
		}
		if code, stdout, stderr = regsweep(s, "quarantine", "purge", dry, "-q", "--older-than", "7d", root); code != 4 || stdout != "" || !strings.HasPrefix(stderr, line) {
			t.Errorf("%s -q ends with %d: %q, %q", dry, code, stdout, stderr)
		}
	}
	if report := s.ofRuns(4, "purge", "--yes", "--older-than", "7d", root); len(report.PassedOver) != 1 || report.PassedOver[0].Run != old {
		t.Errorf("the report has %+v", report)
	}
	unknown := "a-copy" // whose name has no time
	s.write(storage.QuarantineDir+"/"+unknown+"/"+imagetest.BlobPath(layer(9).Digest()), "x")
	if report := s.ofRuns(4, "purge", "--yes", "--older-than", "7d", root); len(report.PassedOver) != 2 || report.PassedOver[1].Run != unknown {
		t.Errorf("the report has %+v", report)
	}
	s.ofRuns(0, "purge", "--yes", "--run", unknown, root)
	s.ofRuns(0, "purge", "--yes", "--run", old, root)
	s.ofRuns(0, "purge", "--yes", "--older-than", "7d", root)
	if run := onlyRun(s); run != young {
		t.Errorf("%s is left", run)
	}
}

// TestADamagedRecordOfVersionsIsPurged: it is purged by its name as far as it can be read, and
// says what it could not. Until then no other run is purged.
func TestADamagedRecordOfVersionsIsPurged(t *testing.T) {
	t.Parallel()
	q, first, _ := newVersionedQuarantine(t)
	q.must(q.registry.SetReadOnly(false))
	q.push("team/app:second", app(7, 8))
	q.delete("team/app", "second")
	q.must(q.registry.SetReadOnly(true))
	second := q.take()
	record := ".regsweep/quarantine/" + first + "/versions.jsonl"
	lines := strings.SplitAfter(q.content(record), "\n")
	var lost struct{ Path string }
	q.must(json.Unmarshal([]byte(lines[1]), &lost))
	lines[1] = "{\"path\":\n"
	q.write(record, strings.Join(lines, ""))

	code, _, stderr := regsweep(q.fixture, "quarantine", "purge", "--yes", "--run", second, q.target)
	if code != 1 || !strings.Contains(stderr, first) || !strings.Contains(stderr, "purge that quarantine first") {
		t.Errorf("the purge of the other ends with %d: %s", code, stderr)
	}
	report := q.ofRuns(4, "purge", "--yes", "--run", first, q.target)
	if run := report.Runs[0]; run.UnreadableVersions != 1 || run.Freed.Count != len(lines)-2 {
		t.Errorf("purged %+v of %d lines", run, len(lines)-1)
	}
	for path, n := range q.versions() {
		if path != lost.Path && n > 0 && strings.HasPrefix(path, ".regsweep/quarantine/"+first) {
			t.Errorf("%s is left", path)
		}
	}
	if q.versions()[lost.Path] == 0 {
		t.Errorf("%s is gone, which no line names", lost.Path)
	}
	q.ofRuns(0, "purge", "--yes", "--run", second, q.target)
	q.wantNoQuarantine("after both were purged")
}

// TestAPurgeFreesWhatItsDryRunSays: after a part was restored too, on a bucket that keeps versions
// and on one that does not. The list says that its links are those of the plan.
func TestAPurgeFreesWhatItsDryRunSays(t *testing.T) {
	t.Parallel()
	q, run, _ := newVersionedQuarantine(t)
	q.command("restore", run, "--digest", q.old.Digest().String())
	list := q.ofRuns(0, "list", q.target).Runs[0]
	dry := q.ofRuns(0, "purge", "-d", "--run", run, q.target).Runs[0]
	if !list.LinksGuessed || list.DataBytes != dry.DataBytes || list.StillHidden != dry.StillHidden {
		t.Errorf("the list has %+v, the dry run %+v", list, dry)
	}
	if show := q.ofRuns(0, "show", run, q.target).Runs[0]; show.LinksGuessed || show.DataBytes != list.DataBytes {
		t.Errorf("show has %+v", show)
	}
	if _, text, _ := regsweep(q.fixture, "quarantine", "list", q.target); !strings.Contains(strings.Join(strings.Fields(text), " "), "; the links are in its plan") {
		t.Errorf("the list says: %s", text)
	}
	freed := q.ofRuns(0, "purge", "--yes", "--run", run, q.target).Runs[0].Freed
	if freed.Count != dry.StillHidden.Count || freed.Bytes != dry.StillHidden.Bytes || freed.Bytes == 0 {
		t.Errorf("freed %+v, the dry run has %+v", freed, dry)
	}
}

// TestSizesOfAQuarantineAgree: gc, list, show, and a purge with its dry run and its question count
// the bytes of blobs and uploads. The report's objects have links too.
func TestSizesOfAQuarantineAgree(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	s.plant("app", "v1", app(1))
	s.plant("app", "", app(1, 2))
	s.tree.Upload("app", "left", time.Now().Add(-1000*time.Hour), []byte("half an upload"))
	root := s.tree.Root()
	moved := regexp.MustCompile(`(?m)^(.*B) are not freed yet:`)
	_, text, stderr := regsweep(s, "gc", "-m", "--quarantine", "--registry-stopped", root)
	match := moved.FindStringSubmatch(text)
	if match == nil {
		t.Fatal(text, stderr)
	}
	run := onlyRun(s)
	for _, test := range []struct {
		args []string
		says string
	}{
		{[]string{"list", root}, "  " + match[1] + "  "},
		{[]string{"show", run, root}, "  " + match[1] + "  "},
		{[]string{"purge", "-d", "--run", run, root}, "; " + match[1] + " would be freed."},
		{[]string{"purge", "--yes", "--run", run, root}, "objects removed, " + match[1] + " freed"},
	} {
		if test.args[0] == "list" {
			listed := s.ofRuns(0, "list", root).Runs[0]
			if listed.Objects.Bytes <= listed.DataBytes || listed.FreeableBytes != listed.DataBytes {
				t.Errorf("the report has %+v", listed)
			}
		}
		if _, text, _ := regsweep(s, append([]string{"quarantine"}, test.args...)...); !strings.Contains(text, test.says) {
			t.Errorf("%v does not say %q: %s", test.args, test.says, text)
		}
	}
}

// TestAQuarantineThatTookNothingIsNotKept: a run without the permission to move leaves no
// quarantine, which latest would name.
func TestAQuarantineThatTookNothingIsNotKept(t *testing.T) {
	t.Parallel()
	g, _ := newQuarantineFixture(t, func(g *quarantineFixture) []string { return nil })
	root := g.tree.Root()
	f := &storeFault{on: "Move", err: os.ErrPermission}
	f.before(t, root)
	run := g.reported(append(g.gc(), "--json", oneByOne)...)
	if run.code == 0 {
		t.Fatal("it ends with 0")
	}
	if list := g.ofRuns(0, "list", root); len(list.Runs) > 0 {
		t.Errorf("the quarantine has %+v", list.Runs)
	}
	if _, text, _ := regsweep(g.fixture, append(g.gc(), oneByOne)...); !strings.Contains(text, "Moved nothing. No quarantine was kept.") {
		t.Errorf("it says: %s", text)
	}
}

// TestADryRunOfAQuarantineKnowsHardLinks: a purge does not free the files that a copy has too.
func TestADryRunOfAQuarantineKnowsHardLinks(t *testing.T) {
	t.Parallel()
	s, _, _ := hardLinkedFixture(t)
	s.copyLinked()
	s.tree.Blob([]byte("pushed after the copy"))
	root := s.tree.Root()
	_, text, _ := regsweep(s, "gc", "-d", "--quarantine", root)
	if text = strings.Join(strings.Fields(text), " "); !strings.Contains(text, " to a quarantine; 21 B would be freed when that is purged.") {
		t.Errorf("the dry run says: %s", text)
	}
	_, text, stderr := regsweep(s, "gc", "--quarantine", "--registry-stopped", root)
	if !strings.Contains(text, "A purge does not free 1020 B of the plan, which have other hard links.") && !strings.Contains(text, "A purge does not free 1,020 B of the plan, which have other hard links.") {
		t.Errorf("the run says: %s%s", text, stderr)
	}
}
