package e2e

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestARunWithoutItsRecordOfVersionsIsDamaged: what it has hidden stays in the bucket. A purge by age
// leaves the run and names it, a restoration says what it can't put back, and a purge by its name says
// what stays (6).
func TestARunWithoutItsRecordOfVersionsIsDamaged(t *testing.T) {
	t.Parallel()
	for name, cut := range map[string]func(lines []string) []string{
		"no record":       nil,
		"an empty record": func([]string) []string { return nil },
		"half a record":   func(lines []string) []string { return lines[:len(lines)/2] },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			q, run, _ := newVersionedQuarantine(t)
			dir := ".regsweep/quarantine/" + run
			lines := strings.SplitAfter(strings.TrimSuffix(q.content(dir+"/versions.jsonl"), "\n"), "\n")
			var left []string
			if cut == nil {
				q.must(q.removeKey(q.key(dir + "/versions.jsonl")))
			} else {
				left = cut(lines)
				q.write(dir+"/versions.jsonl", strings.Join(left, ""))
			}
			lost := map[string]int{}
			for _, line := range lines[len(left):] {
				var v struct{ Path string }
				q.must(json.Unmarshal([]byte(line), &v))
				if strings.HasPrefix(v.Path, "blobs/") || strings.HasSuffix(v.Path, "/data") {
					lost[v.Path] = q.versions()[v.Path]
				}
			}
			_, text, _ := regsweep(q.site, "quarantine", "list", q.target)
			if !strings.Contains(strings.Join(strings.Fields(text), " "), "its record of versions is missing or too short") {
				t.Errorf("the list says %s", text)
			}
			passed := q.ofRuns(4, "purge", "--yes", "--older-than", "0s", q.target).PassedOver
			if len(passed) != 1 || passed[0].Run != run || !strings.Contains(passed[0].Problem, "is missing or too short") {
				t.Errorf("a purge by age leaves %+v", passed)
			}
			if n := q.versions()[dir+"/plan.jsonl"]; n == 0 {
				t.Error("the plan is gone")
			}
			code, text, stderr := regsweep(q.site, "quarantine", "restore", "-d", run, q.target)
			if code != 4 || strings.Contains(text, "neither in this quarantine") || !strings.Contains(text, "its versions stay in the bucket") {
				t.Errorf("a dry run of restore ends with %d: %s%s", code, text, stderr)
			}
			code, text, stderr = regsweep(q.site, "quarantine", "purge", "--yes", "--run", run, q.target)
			if code != 4 || !strings.Contains(text, "their versions stay in the bucket") {
				t.Errorf("a purge by name ends with %d: %s%s", code, text, stderr)
			}
			for path, n := range lost {
				if q.versions()[path] != n {
					t.Errorf("of %s there were %d versions, and there are %d", path, n, q.versions()[path])
				}
			}
			q.wantNoQuarantine("after it was purged by its name")
		})
	}
}

// TestARunThatHasHiddenNothingIsNotDamaged: it was killed before it had a record of versions, and
// another run took what it was to take.
func TestARunThatHasHiddenNothingIsNotDamaged(t *testing.T) {
	t.Parallel()
	q, run, _ := newVersionedQuarantine(t)
	killed := "20200102T030405Z-00000001"
	q.write(".regsweep/quarantine/"+killed+"/plan.jsonl", q.content(".regsweep/quarantine/"+run+"/plan.jsonl"))
	for _, runs := range [][]string{{killed, run}, {killed}} {
		for _, listed := range q.ofRuns(0, "list", q.target).Runs {
			if listed.Damage != "" {
				t.Errorf("of %v, %s has the damage %q", runs, listed.Run, listed.Damage)
			}
		}
		q.ofRuns(0, "purge", "--yes", "--run", runs[len(runs)-1], q.target)
	}
	q.wantNoQuarantine("after both were purged")
}
