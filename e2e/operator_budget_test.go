package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"regsweep/cli"
	"regsweep/internal/imagetest"
	"regsweep/storage"
	"regsweep/storage/config"

	"github.com/opencontainers/go-digest"
)

type budgetReport struct {
	ExitCode int `json:"exit_code"`
	Error    string
	Garbage  tallies
	Removed  tallies
	Hidden   int64 `json:"hidden_bytes"`
	Budget   struct {
		Until string
		Ended string
		Left  *struct {
			Blobs, Uploads, Links int
			Bytes                 int64
		}
	}
}

// left returns what the garbage is without what was removed.
func (r budgetReport) left() (blobs, uploads, links int, bytes int64) {
	count := func(t tallies) int {
		return t.Revisions.Count + t.LayerLinks.Count + t.TagIndexEntries.Count + t.OrphanLinks.Count
	}
	return r.Garbage.Blobs.Count - r.Removed.Blobs.Count, r.Garbage.Uploads.Count - r.Removed.Uploads.Count,
		count(r.Garbage) - count(r.Removed),
		r.Garbage.Blobs.Bytes + r.Garbage.Uploads.Bytes - r.Removed.Blobs.Bytes - r.Removed.Uploads.Bytes - r.Hidden
}

// late is a storage in which one removal begins 70 seconds later. Each batch has one object.
type late struct {
	storage.Store
	storage.DirTimes
	at        int
	calls     atomic.Int64
	meanwhile func()
}

func (l *late) Bulk() storage.Bulk { return storage.Bulk{Objects: 1, Calls: 1} }

func (l *late) wait() {
	if l.calls.Add(1) == int64(l.at) {
		l.meanwhile()
		time.Sleep(70 * time.Second) // a run waits for 30 s after its deadline
	}
}

func (l *late) Remove(ctx context.Context, refs []storage.Ref) []storage.Outcome {
	l.wait()
	return l.Store.Remove(ctx, refs)
}

func (l *late) Move(ctx context.Context, moves []storage.Move) []storage.Outcome {
	l.wait()
	return l.Store.Move(ctx, moves)
}

// lateRun runs a command on a storage that is late before a removal. met is false if there are fewer removals. The clock
// is a fake, and so is the delay of the storage. meanwhile is called before the delay.
func lateRun(t *testing.T, at int, meanwhile func(), args ...string) (report budgetReport, met bool) {
	t.Helper()
	began, store := time.Now(), &late{at: at, meanwhile: meanwhile}
	var stdout, stderr output
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		report.ExitCode = cli.Run(t.Context(), append([]string{"regsweep"}, append(args, "--registry-stopped", "--json")...), cli.Env{
			In: strings.NewReader(""), Out: &stdout, Err: &stderr, Getenv: func(string) string { return "" },
			Now: func() time.Time { return began.Add(time.Since(start)) },
			Open: func(ctx context.Context, config config.Config) (_ storage.Store, err error) {
				store.Store, err = openStorage(ctx, config)
				store.DirTimes = store.Store.(storage.DirTimes)
				return store, err
			},
			Host: "here", User: "tester", ProbeInterval: time.Second, Width: func(io.Writer) int { return 0 },
		})
	})
	if err := json.Unmarshal([]byte(stdout.String()), &report); err != nil {
		t.Fatalf("%v\n%s\n%s", err, &stdout, &stderr)
	}
	return report, store.calls.Load() >= int64(at)
}

// TestTheTimeIsUsedUpInTheSweep: the deadline comes before each removal in turn. Every image pulls, the report says what
// has gone and what is left, and the next run ends where a run without a deadline ends (3, 6). What was moved to a
// quarantine can be restored.
func TestTheTimeIsUsedUpInTheSweep(t *testing.T) {
	g := newVariedFixture(t, false)
	args := []string{"gc", g.tree.Root(), "-m", "--prune-empty"}
	want, _ := g.undisturbed(args)
	for k := 1; ; k += apart(2) {
		args := append(args, "--for=1m")
		if k%3 == 0 {
			args = append(args, "--quarantine")
		}
		what := fmt.Sprintf("%v: late before removal %d", args[2:], k)
		report, met := lateRun(t, k, func() {}, args...)
		if !met {
			if report.ExitCode != 0 || report.Budget.Ended != "" || report.Budget.Left.Blobs != 0 || k < 10 {
				t.Errorf("%s: in time it ends with %+v", what, report)
			}
			break
		}
		now := g.inspected(what)
		if k == 1 {
			if report.ExitCode != 1 || report.Budget.Ended != "time" || !strings.Contains(report.Error, "the time is used up while removing") || !strings.Contains(report.Error, "nothing was removed") {
				t.Errorf("%s: %+v", what, report)
			}
			if d := difference(now, g.before); d != "" {
				t.Errorf("%s:%s", what, g.readable(d))
			}
			continue
		}
		blobs, uploads, links, bytes := report.left()
		if left := report.Budget.Left; report.ExitCode != 0 || report.Error != "" || report.Budget.Ended != "time" || left == nil ||
			left.Blobs != blobs || left.Uploads != uploads || left.Links != links || left.Bytes != bytes {
			t.Errorf("%s: %+v, left are %d, %d, %d, %d: %+v", what, report, blobs, uploads, links, bytes, report.Budget.Left)
		}
		if k%3 == 0 {
			if code, _, stderr := regsweep(g.fixture, "quarantine", "restore", "latest", g.tree.Root()); code != 0 {
				t.Errorf("%s: restore: %s", what, stderr)
			}
			restored := g.shape()
			for path, content := range g.before {
				if content != aDirectory && restored[path] != content {
					t.Errorf("%s: %s is not restored", what, g.readable(path))
				}
			}
			g.restore()
			continue
		}
		g.confirmed(what, gcRun{report: gcReport{Removed: report.Removed}}, now)
		g.goesOn(what, args[:4], want)
	}
}

// TestAPushBeforeTheDeadlineIsReported: a run that ends at its deadline has succeeded only if nobody has pushed.
func TestAPushBeforeTheDeadlineIsReported(t *testing.T) {
	g := newVariedFixture(t, false)
	push := func() {
		g.tree.Write(imagetest.TagPath("app", "pushed"), digest.FromString("pushed").String())
	}
	report, _ := lateRun(t, 5, push, "gc", g.tree.Root(), "-m", "--for=1m")
	if report.ExitCode != 3 || !strings.Contains(report.Error, "somebody pushed during the removal, to app") || report.Removed.Revisions.Count == 0 {
		t.Errorf("%+v", report)
	}
}

// TestARunThatCannotFinishItsMark: the program removes nothing if its time is used up before, and says so in one line.
func TestARunThatCannotFinishItsMark(t *testing.T) {
	t.Parallel()
	root, _ := garbageTree(t, 300)
	before := imagetest.SnapshotT(t, root)
	for _, flag := range []string{"--for=1s", "--until="} {
		began := time.Now()
		if flag == "--until=" {
			flag += began.Add(4 * time.Second).Format(time.RFC3339)
		}
		run := start(t, "gc", "-m", "--json", "--registry-stopped", "--max-requests=50", flag, root)
		code := run.exit(t)
		var report budgetReport
		if err := json.Unmarshal([]byte(run.stdout.String()), &report); err != nil {
			t.Fatalf("%v\n%s", err, &run.stdout)
		}
		if code != 1 || report.Budget.Ended != "time" || report.Budget.Left != nil {
			t.Errorf("%s: it ends with %d: %+v", flag, code, report)
		}
		if text := "regsweep: the time is used up "; strings.Count(run.stderr.String(), text) != 1 || !strings.Contains(report.Error, "nothing was removed") {
			t.Errorf("%s: it says %q", flag, &run.stderr)
		}
		// 300 requests and more would take 6 seconds.
		if took := time.Since(began); took > patience/2 {
			t.Errorf("%s: it takes %s", flag, took)
		}
	}
	if after := imagetest.SnapshotT(t, root); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Error("the storage has changed")
	}
}

// TestARunEndsInTime: the program stops in the middle of its sweep. The next runs go on, and end where one run does (3).
func TestARunEndsInTime(t *testing.T) {
	t.Parallel()
	// On a busy machine a sweep may be done between two of the limits that are tried.
	garbage := 1000
	for !endsInTime(t, garbage) {
		if garbage *= 2; garbage > 100_000 {
			t.Fatal("no run was stopped in its sweep")
		}
	}
}

// endsInTime gives each run more time, until nothing is left. It returns false if no run was stopped in its sweep.
func endsInTime(t *testing.T, garbage int) (stopped bool) {
	t.Helper()
	root, image := garbageTree(t, garbage)
	files, _, err := blobsIn(root)
	if err != nil {
		t.Fatal(err)
	}
	alive, tree := files-garbage, imagetest.NewTree(t, root)
	for limit := time.Second; limit < patience; limit += 250 * time.Millisecond {
		run := start(t, "gc", "--json", "--registry-stopped", "--max-requests=1500", "--for", limit.String(), root)
		code := run.exit(t)
		var report budgetReport
		if err := json.Unmarshal([]byte(run.stdout.String()), &report); err != nil {
			t.Fatalf("%v\n%s", err, &run.stdout)
		}
		left, _, err := blobsIn(root)
		if err != nil {
			t.Fatal(err)
		}
		if tree.Exists(".regsweep/lock") {
			t.Error("it leaves its lock")
		}
		if code == 1 && report.Budget.Ended == "time" && left == files {
			continue // before its first removal
		}
		if code != 0 || report.Budget.Left == nil || report.Budget.Left.Blobs != left-alive || report.Removed.Blobs.Count != files-left {
			t.Fatalf("%d blobs of %d are left: %+v", left, files, report)
		}
		if files = left; report.Budget.Ended == "" {
			break
		}
		stopped = true
	}
	if files != alive {
		t.Errorf("at the end there are %d blobs, want %d", files, alive)
	}
	for _, d := range image.Digests() {
		if !tree.Exists(imagetest.BlobPath(d)) {
			t.Errorf("%s is gone", d)
		}
	}
	return stopped
}
