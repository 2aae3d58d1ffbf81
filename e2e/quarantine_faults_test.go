package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"regsweep/internal/miniotest"
	"regsweep/storage"

	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// quarantining are the commands that move, put back, and remove what was moved, as they
// are tried with each fault and kill. What comes before the operation named from is what
// other commands have too.
var quarantining = []struct {
	name string
	args func(g *quarantineFixture) []string
	from string
}{
	{"gc --quarantine", (*quarantineFixture).gc, "Put"},
	{"quarantine restore", func(g *quarantineFixture) []string {
		return []string{"quarantine", "restore", g.quarantined(), g.tree.Root()}
	}, "Stream"},
	{"quarantine purge", func(g *quarantineFixture) []string {
		g.quarantined()
		return []string{"quarantine", "purge", "--older-than", "0h", "--yes", g.tree.Root()}
	}, "Names"},
}

// quarantineFixture is a variedFixture for commands that move objects to a quarantine, or that find
// them there.
type quarantineFixture struct {
	*variedFixture
	first map[string]string // all files and directories before anything was moved
	purge bool
}

// newQuarantineFixture plants a registry and makes what a command begins with.
func newQuarantineFixture(t *testing.T, begin func(g *quarantineFixture) []string) (g *quarantineFixture, args []string) {
	t.Helper()
	g = &quarantineFixture{variedFixture: newVariedFixture(t, false)}
	g.first = g.before
	args = begin(g)
	g.purge = slices.Contains(args, "purge")
	return g, append(args, "--json", oneByOne)
}

func (g *quarantineFixture) gc() []string {
	return []string{"gc", g.tree.Root(), "-m", "--prune-empty", "--quarantine", "--registry-stopped"}
}

// quarantined moves away what is garbage, and returns the run's name.
func (g *quarantineFixture) quarantined() (run string) {
	g.Helper()
	if run := g.reported(append(g.gc(), "--json")...); run.code != 0 {
		g.Fatalf("nothing to restore: it ends with %d, %s", run.code, run.report.Error)
	}
	g.remember()
	for run := range runsIn(g.before) {
		return run
	}
	g.Fatal("there is no quarantine")
	return ""
}

// inRun takes apart the path of what lies in a quarantine.
var inRun = regexp.MustCompile(`^` + regexp.QuoteMeta(storage.QuarantineDir) + `/([^/]+)/(.+)$`)

// runsIn are the runs of a shape, each with the files that it holds by the paths that
// they are to go back to, and its plan.
func runsIn(shape map[string]string) map[string]map[string]string {
	runs := map[string]map[string]string{}
	for name, content := range shape {
		match := inRun.FindStringSubmatch(name)
		if match == nil || content == aDirectory {
			continue
		}
		if runs[match[1]] == nil {
			runs[match[1]] = map[string]string{}
		}
		runs[match[1]][match[2]] = content
	}
	return runs
}

// united is a shape in which it does not matter which run has taken what.
func united(shape map[string]string) map[string]string {
	all := map[string]string{}
	for name, content := range shape {
		if !strings.HasPrefix(name, storage.OwnDir) {
			all[name] = content
		}
	}
	for _, run := range runsIn(shape) {
		for name, content := range run {
			if name != "plan.jsonl" {
				all["quarantined "+name] = content
			}
		}
	}
	return all
}

// linked is the path of a link that leads to a blob of the digest in it.
var linked = regexp.MustCompile(`/sha256/([0-9a-f]{64})/link$`)

// lost judges a shape between two runs, of one that was cut off or stopped: all that there
// was is in the registry or in a quarantine, byte for byte, what is alive in the registry,
// and whatever lies in a quarantine has its plan.
func (g *quarantineFixture) lost(what string, now map[string]string) {
	g.Helper()
	for _, name := range g.needed {
		if now[name] != g.first[name] {
			g.Errorf("%s: %s is gone", what, g.readable(name))
		}
	}
	runs := runsIn(now)
	for run, holds := range runs {
		if holds["plan.jsonl"] == "" {
			g.Errorf("%s: %d objects lie in %s without a plan", what, len(holds), run)
		}
	}
	for name, content := range g.first {
		if content == aDirectory || g.purge && g.before[name] == "" {
			continue
		}
		there := now[name] == content
		for _, holds := range runs {
			there = there || holds[name] == content
		}
		if !there {
			g.Errorf("%s: %s is neither in the registry nor in a quarantine", what, g.readable(name))
		}
	}
}

// judgeLinks fails the test where a link is there before its blob is, or longer.
func (g *quarantineFixture) judgeLinks(what string, now map[string]string) {
	g.Helper()
	for name := range now {
		match := linked.FindStringSubmatch(name)
		if match == nil || strings.HasPrefix(name, storage.OwnDir) {
			continue
		}
		blob := path.Join("blobs/sha256", match[1][:2], match[1], "data")
		if g.first[blob] != "" && now[blob] == "" {
			g.Errorf("%s: there is %s, and its blob is not", what, g.readable(name))
		}
	}
}

// undisturbed is what a run without any fault leaves, and the calls of it. It is the
// number of the first call that is tried.
func (g *quarantineFixture) undisturbed(args []string, from string) (want map[string]string, calls []string, first int) {
	g.Helper()
	watch := &storeFault{at: -1}
	g.Run("undisturbed", func(t *testing.T) {
		watch.before(t, g.tree.Root())
		if run := g.reported(args...); run.code != 0 {
			t.Fatalf("ends with %d, %s", run.code, run.report.Error)
		}
	})
	want = g.shape()
	if d := difference(want, g.before); d == "" {
		g.Fatal("it has done nothing")
	}
	g.judgeEnd("undisturbed", args, want)
	g.pull("undisturbed", g.client, g.alive)
	g.restore()
	first = slices.IndexFunc(watch.seen, func(call string) bool { return strings.HasPrefix(call, from+" ") })
	if first < 0 || len(watch.seen)-first < 15 {
		g.Fatalf("from %s on there are too few of %d calls", from, len(watch.seen))
	}
	return want, watch.seen, first
}

// judgeEnd judges what there is once a command was run again and has ended well. What was
// moved is then restored.
func (g *quarantineFixture) judgeEnd(what string, args []string, want map[string]string) {
	g.Helper()
	now := g.shape()
	if now[storage.OwnDir] == aDirectory && want[storage.OwnDir] == "" {
		delete(now, storage.OwnDir) // a command that finds nothing makes no lock, and removes none
	}
	if args[0] != "gc" {
		if d := difference(now, want); d != "" {
			g.Errorf("%s: at the end:%s", what, g.readable(d))
		}
		if g.purge {
			return
		}
	} else {
		if d := difference(united(now), united(want)); d != "" {
			g.Errorf("%s: at the end:%s", what, g.readable(d))
		}
		g.restoreAll(what)
		now = g.shape()
		// A run that finds nothing but empty directories keeps nothing, these neither.
		for name := range g.first {
			if now[name] == "" && g.isBare(name) {
				now[name] = aDirectory
			}
		}
	}
	if d := difference(now, g.first); d != "" {
		g.Errorf("%s: restored:%s", what, g.readable(d))
	}
}

// isBare reports whether there was no file below a directory.
func (g *quarantineFixture) isBare(dir string) bool {
	for name, content := range g.first {
		if content != aDirectory && (name == dir || strings.HasPrefix(name, dir+"/")) {
			return false
		}
	}
	return true
}

// restoreAll restores all runs in the order in which they are listed. A run that was interrupted
// comes first: its plan lists what the next run has taken.
func (s *fixture) restoreAll(what string) {
	s.Helper()
	for _, run := range slices.Sorted(maps.Keys(runsIn(s.shape()))) {
		if restored := s.reported("quarantine", "restore", run, s.tree.Root(), "--json"); restored.code != 0 {
			s.Errorf("%s: restoring %s ends with %d: %s", what, run, restored.code, restored.report.Error)
		}
	}
}

// again runs a command that was cut off or stopped. What it was to restore it may have
// restored wholly, so that there is no run of that name any more.
func (g *quarantineFixture) again(what string, args []string) {
	g.Helper()
	g.unlock()
	isDone := args[1] == "restore" && len(runsIn(g.shape())) == 0
	if next := g.reported(args...); next.code != 0 && !(isDone && next.code == 2) {
		g.Errorf("%s: the next run ends with %d: %s", what, next.code, next.report.Error)
	}
}

// halves are what a move may have come to when the process that does it is killed.
func (g *quarantineFixture) halves() map[string]func(storage.Store, storage.Move) error {
	return map[string]func(storage.Store, storage.Move) error{
		"its directories made": func(store storage.Store, m storage.Move) error {
			return store.MakeDir(g.Context(), path.Dir(m.To))
		},
		// A filesystem that can't rename without replacing, and S3 after a copy.
		"at both paths": func(store storage.Store, m storage.Move) error {
			return errors.Join(store.MakeDir(g.Context(), path.Dir(m.To)), os.Link(g.tree.Path(m.From), g.tree.Path(m.To)))
		},
		"its directories left": func(store storage.Store, m storage.Move) error {
			return errors.Join(store.Move(g.Context(), []storage.Move{m})[0].Err, store.MakeDir(g.Context(), path.Dir(m.From)))
		},
	}
}

// TestQuarantineDiesAtEachOperation: a process that is gone at any operation while it moves
// what is garbage, puts it back or purges it, before the operation, after it or half way,
// loses nothing, and the next run ends as an undisturbed one (1, 3).
func TestQuarantineDiesAtEachOperation(t *testing.T) {
	t.Parallel()
	for _, command := range quarantining {
		t.Run(command.name, func(t *testing.T) {
			g, args := newQuarantineFixture(t, command.args)
			want, calls, first := g.undisturbed(args, command.from)
			halves := g.halves()
			for k := first; k < len(calls); k += apart(1) {
				on, _, _ := strings.Cut(calls[k], " ")
				faults := map[string]*storeFault{}
				switch on {
				case "Move": // half way only: a fault before the move is a fault at the end of the check before it
					for i, name := range slices.Sorted(maps.Keys(halves)) {
						if isTried(k+i, 2) || name == "at both paths" {
							faults[name] = &storeFault{late: true, half: halves[name]}
						}
					}
				case "Put", "MakeDir", "Remove", "Prune":
					faults = map[string]*storeFault{"after": {late: true}}
					if isTried(k, 2) {
						faults["before"] = &storeFault{}
					}
				default: // what changes nothing is like the other of its kind
					if isTried(k, 3) {
						faults["before"] = &storeFault{}
					}
				}
				for _, name := range slices.Sorted(maps.Keys(faults)) {
					f := faults[name]
					f.at, f.err, f.dies = k+1, errDead, true
					what := fmt.Sprintf("killed at operation %d, %s, %s", k+1, calls[k], name)
					g.Run(what, func(t *testing.T) {
						f.before(t, g.tree.Root())
						if run := g.reported(args...); run.code != 1 && run.code != 5 {
							t.Errorf("ends with %d", run.code)
						}
					})
					now := g.shape()
					g.lost(what, now)
					g.judgeLinks(what, now)
					g.again(what, args)
					g.judgeEnd(what, args, want)
					if k%8 == 0 {
						g.pull(what, g.client, g.alive)
					}
					g.restore()
				}
			}
		})
	}
}

// TestEachStepIsOnTheDiskBeforeTheNext: with the power nothing is lost that explains, or
// serves, what is done after it: a plan, and what links lead to (3).
func TestEachStepIsOnTheDiskBeforeTheNext(t *testing.T) {
	t.Parallel()
	for _, command := range quarantining[:2] {
		t.Run(command.name, func(t *testing.T) {
			g, args := newQuarantineFixture(t, command.args)
			_, calls, first := g.undisturbed(args, command.from)
			var steps []string
			isSynced := true
			for _, call := range calls[first:] {
				on, name, _ := strings.Cut(call, " ")
				step := on
				switch {
				case on == "Sync":
					isSynced = true
					continue
				case on == "Move" && args[1] == "restore":
					step = kindOfPath(name)
				case on != "Put" && on != "Move":
					continue
				}
				if len(steps) > 0 && steps[len(steps)-1] == step {
					isSynced = false
					continue
				}
				if !isSynced {
					t.Errorf("after %v it comes to %s without a sync", steps, call)
				}
				steps, isSynced = append(steps, step), false
			}
			if !isSynced || len(steps) < 2 {
				t.Errorf("of %v the last is on the disk: %t", steps, isSynced)
			}
		})
	}
}

// TestKilledWhileItMoves: the program itself is killed while it moves things away, puts them
// back or purges them, slowly, each time some files further on (3).
func TestKilledWhileItMoves(t *testing.T) {
	t.Parallel()
	for _, command := range quarantining {
		t.Run(command.name, func(t *testing.T) {
			g, args := newQuarantineFixture(t, command.args)
			if code := start(t, args...).exit(t); code != 0 {
				t.Fatalf("undisturbed it ends with %d", code)
			}
			want := g.shape()
			g.restore()
			// What is gone, or back, tells how far it has come.
			var steps []string
			for name, content := range g.before {
				isOwn := strings.HasPrefix(name, storage.OwnDir)
				if content != aDirectory && want[name] == "" && path.Base(name) != "plan.jsonl" && isOwn == (args[0] != "gc") {
					steps = append(steps, name)
				}
			}
			slices.SortFunc(steps, func(a, b string) int { return strings.Compare(kindOfPath(a)+a, kindOfPath(b)+b) })
			killed, tried := 0, 0
			for k := 0; k < len(steps); k += apart(4) {
				tried++
				run := start(t, append(args, "--max-requests=300")...)
				eventually(t, "it comes to "+steps[k], func() bool {
					_, err := os.Lstat(g.tree.Path(steps[k]))
					return errors.Is(err, fs.ErrNotExist)
				})
				if err := run.Process.Kill(); err != nil {
					t.Fatal(err)
				}
				if run.exit(t) == -1 {
					killed++
				}
				what := "killed after " + steps[k]
				now := g.shape()
				g.lost(what, now)
				g.judgeLinks(what, now)
				g.pull(what, g.client, g.alive)
				g.again(what, args)
				g.judgeEnd(what, args, want)
				g.restore()
			}
			if killed < tried/4 { // a slow machine kills some too late
				t.Errorf("of %d runs only %d were killed before they ended", tried, killed)
			}
		})
	}
}

// bucketHold is a registry in a bucket, for commands that move objects to a quarantine, or that find
// them there.
type bucketHold struct {
	*fixture
	before string            // a directory with all that a command begins with
	first  map[string]string // all objects before anything was moved
	needed map[string]string // those that every command leaves alone
	alive  []image
}

func newBucketHold(t *testing.T) *bucketHold {
	b := &bucketHold{fixture: newFixture(t)}
	b.plant("app", "v1", app(1, 2))
	b.plant("app", "moved", app(1, 3))
	b.plant("app", "moved", app(1, 4))
	b.before = b.tree.Root()
	b.alive = []image{pulls("app", "v1", "moved")}
	b.moveToBucket()
	b.must(b.registry.SetReadOnly(true))
	b.first = b.objects()
	return b
}

// objects are those of the layout, by path, with their digests.
func (b *bucketHold) objects() map[string]string {
	b.Helper()
	files, err := b.s3.Snapshot(b.Context(), b.bucket, s3Root)
	b.must(err)
	objects := map[string]string{}
	for name, content := range files {
		objects[strings.TrimPrefix(name, layoutRoot)] = content
	}
	return objects
}

// remember makes what there is now what reset puts back.
func (b *bucketHold) remember() {
	b.Helper()
	b.before = b.TempDir()
	for name := range b.objects() {
		key := b.key(name)
		object, err := b.s3.Client().GetObject(b.Context(), &s3.GetObjectInput{Bucket: &b.bucket, Key: &key})
		b.must(err)
		to := filepath.Join(b.before, layoutRoot, name)
		b.must(os.MkdirAll(filepath.Dir(to), 0o700))
		file, err := os.Create(to)
		b.must(err)
		_, err = file.ReadFrom(object.Body)
		b.must(err)
		b.must(file.Close())
		b.must(object.Body.Close())
	}
}

func (b *bucketHold) reset() {
	b.Helper()
	for name := range b.objects() {
		if _, err := os.Lstat(filepath.Join(b.before, layoutRoot, name)); err != nil {
			b.must(b.removeKey(b.key(name)))
		}
	}
	b.must(miniotest.UploadTree(b.Context(), b.s3, b.bucket, s3Root, b.before))
}

// command is a command on the bucket, at an endpoint.
func (b *bucketHold) command(name, endpoint string) []string {
	b.Helper()
	args := []string{"gc", "-m", "--quarantine", "--no-cache", "--registry-stopped"}
	switch name {
	case "restore":
		args = []string{"quarantine", "restore", b.run()}
	case "purge":
		args = []string{"quarantine", "purge", "--older-than", "0h", "--yes"}
	}
	return append(args, b.target(endpoint), "--json", oneByOne)
}

func (b *bucketHold) target(endpoint string) string {
	b.Helper()
	return b.config(strings.ReplaceAll(b.registry.ConfigYAML(), b.s3.Endpoint, endpoint))
}

// run is the name of the first quarantine, or of none.
func (b *bucketHold) run() string {
	b.Helper()
	return slices.Min(append(slices.Collect(maps.Keys(runsIn(b.objects()))), "none"))
}

// again runs a command that was cut off or stopped, to its end.
func (b *bucketHold) again(what, name string, want map[string]string) {
	b.Helper()
	b.must(b.removeKey(b.key(".regsweep/lock")))
	now := b.objects()
	for object, content := range b.needed {
		if now[object] != content {
			b.Errorf("%s: %s is gone", what, b.readable(object))
		}
	}
	for object := range now {
		if match := linked.FindStringSubmatch(object); match != nil && !strings.HasPrefix(object, storage.OwnDir) {
			if now[path.Join("blobs/sha256", match[1][:2], match[1], "data")] == "" {
				b.Errorf("%s: there is %s, and its blob is not", what, b.readable(object))
			}
		}
		if match := inRun.FindStringSubmatch(object); match != nil && now[storage.QuarantineDir+"/"+match[1]+"/plan.jsonl"] == "" {
			b.Errorf("%s: %s is there without a plan", what, object)
		}
	}
	if run := b.run(); name != "restore" || run != "none" {
		if next := b.reported(b.command(name, b.s3.Endpoint)...); next.code != 0 {
			b.Errorf("%s: the next run ends with %d: %s", what, next.code, next.report.Error)
		}
	}
	if name != "gc" {
		if d := difference(b.objects(), want); d != "" {
			b.Errorf("%s: at the end:%s", what, b.readable(d))
		}
		return
	}
	if d := difference(united(b.objects()), united(want)); d != "" {
		b.Errorf("%s: at the end:%s", what, b.readable(d))
	}
	for _, mayLack := range []bool{true, false} {
		for run := range runsIn(b.objects()) {
			if restored := b.reported("quarantine", "restore", run, b.target(b.s3.Endpoint), "--json"); restored.code != 0 && !(mayLack && restored.code == 4) {
				b.Errorf("%s: restoring %s ends with %d: %s", what, run, restored.code, restored.report.Error)
			}
		}
	}
	if d := difference(b.objects(), b.first); d != "" {
		b.Errorf("%s: restored:%s", what, b.readable(d))
	}
}

// TestQuarantineOnS3IsCutOffAtEachWrite: the program is killed when a request of its that
// changes something comes to the server, or when the answer would come to it: nothing is lost,
// and the next run ends as an undisturbed one (1, 3).
func TestQuarantineOnS3IsCutOffAtEachWrite(t *testing.T) {
	t.Parallel()
	b := newBucketHold(t)
	for _, name := range []string{"gc", "restore", "purge"} {
		count := &spoiledFront{at: -1, met: 1, matches: isWrite}
		count.start(t, b.s3.Endpoint)
		if name == "purge" { // what was restored is moved once more
			if run := b.reported(b.command("gc", b.s3.Endpoint)...); run.code != 0 {
				t.Fatalf("nothing to purge: it ends with %d", run.code)
			}
			b.remember()
		}
		if run := b.reported(b.command(name, count.URL)...); run.code != 0 {
			t.Fatalf("%s: undisturbed it ends with %d, %s", name, run.code, run.report.Error)
		}
		want := b.objects()
		if name == "gc" {
			b.needed = maps.Clone(want)
			maps.DeleteFunc(b.needed, func(object, _ string) bool { return strings.HasPrefix(object, storage.OwnDir) })
		}
		writes := count.counted
		if writes < 4 {
			t.Fatalf("%s: only %d requests change something", name, writes)
		}
		b.pull(name, b.client, b.alive)
		for k := 1; k <= writes; k += apart(1) {
			b.reset()
			what := fmt.Sprintf("%s, killed at write %d of %d, which arrives: %t", name, k, writes, k%2 == 0)
			b.killed(what, name, k, k%2 == 0)
			b.again(what, name, want)
		}
		b.pull(name, b.client, b.alive)
		b.reset()
		if name == "gc" { // what it leaves is what a restoration begins with
			if run := b.reported(b.command("gc", b.s3.Endpoint)...); run.code != 0 {
				t.Fatalf("nothing to restore: it ends with %d", run.code)
			}
			b.remember()
		}
	}
}

// killed kills a command at a write.
func (b *bucketHold) killed(what, name string, k int, arrives bool) {
	b.Helper()
	code := killedAt(b.T, b.s3.Endpoint, isWrite, k, arrives, func(endpoint string) []string { return b.command(name, endpoint) })
	if code != -1 {
		b.Errorf("%s: it ends with %d", what, code)
	}
}
