package e2e

import (
	"crypto/sha256"
	"encoding/json"
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
	"sync"
	"syscall"
	"testing"

	"regsweep/internal/system"
	"regsweep/internal/system/systemtest"
)

// systemCall is a system call of a run, as it is made again in the next run of the same command.
type systemCall struct {
	op, path string
	n        int // which of the calls with this op and path, counted from 1
}

// Names that differ from run to run.
var (
	ofQuarantine = regexp.MustCompile(`\.regsweep/quarantine/[^/]+`)
	ofTemporary  = regexp.MustCompile(`\.regsweep/[0-9a-f]{16}\.new`)
)

func lastingPath(path string) string {
	path = strings.TrimPrefix(path, layoutRoot)
	return ofTemporary.ReplaceAllString(ofQuarantine.ReplaceAllString(path, ".regsweep/quarantine/RUN"), ".regsweep/NEW")
}

// systemErrors are the faults of a system call. benign ones change nothing about a run.
var systemErrors = []struct {
	name   string
	err    error
	ops    string // which calls have it, "" for all
	benign bool
}{
	{"ENOENT", syscall.ENOENT, "", false},
	{"EACCES", syscall.EACCES, "", false},
	{"EIO", syscall.EIO, "", false},
	{"EINTR", syscall.EINTR, "", true},
	{"ESTALE", syscall.ESTALE, "", false},
	{"ENOSPC", syscall.ENOSPC, "write mkdirat renameat renameat2 linkat fsync syncfs ftruncate fchownat fchmodat", false},
	{"EROFS", syscall.EROFS, "unlinkat mkdirat renameat renameat2 linkat fchownat fchmodat", false},
	{"a short read", system.ErrShort, "read write getdents", true},
	{"an empty directory", system.ErrEmpty, "getdents", false},
	{"the end of a file", system.ErrEmpty, "read", false},
	{"no types", system.ErrUntyped, "getdents", true},
}

// scopes are the calls that fail with and after the one that a fault begins at.
var scopes = []struct {
	name  string
	fails func(begins systemCall, path string) bool
}{
	{"once", nil},
	{"from then on", func(systemCall, string) bool { return true }},
	{"from then on at its path", func(begins systemCall, path string) bool { return path == begins.path }},
	{"from then on in its directory", func(begins systemCall, path string) bool {
		return strings.HasPrefix(path, dirOf(begins.path)) || path+"/" == dirOf(begins.path)
	}},
	{"from then on in its subtree", func(begins systemCall, path string) bool {
		return strings.HasPrefix(path, dirOf(strings.TrimSuffix(dirOf(begins.path), "/")))
	}},
}

func dirOf(name string) string {
	if dir := path.Dir(name); dir != "." {
		return dir + "/"
	}
	return ""
}

// recordCalls are the calls that run makes each time, in their order. A run now and then makes
// some that the next one does not, as when a directory is read in more parts.
func recordCalls(t *testing.T, root string, run func()) (calls []systemCall) {
	t.Helper()
	before := recordRun(t, root, run)
	return slices.DeleteFunc(recordRun(t, root, run), func(c systemCall) bool { return !slices.Contains(before, c) })
}

func recordRun(t *testing.T, root string, run func()) (calls []systemCall) {
	t.Helper()
	var mu sync.Mutex
	counts := map[string]int{}
	stop := systemtest.FailBelow(t, root, func(op, path string) error {
		mu.Lock()
		defer mu.Unlock()
		path = lastingPath(path)
		counts[op+" "+path]++
		calls = append(calls, systemCall{op, path, counts[op+" "+path]})
		return nil
	})
	run()
	stop()
	return calls
}

// failCalls makes the calls of a fault fail. met counts them.
func failCalls(t *testing.T, root string, f systemFault) (met func() int, stop func()) {
	t.Helper()
	begins, later, its := f.call, scopes[f.scope].fails, systemErrors[f.error]
	var mu sync.Mutex
	count, failed := 0, 0
	stop = systemtest.FailBelow(t, root, func(op, path string) error {
		mu.Lock()
		defer mu.Unlock()
		path = lastingPath(path)
		if op == begins.op && path == begins.path {
			count++
		}
		isFirst := failed == 0 && count == begins.n && op == begins.op && path == begins.path
		isLater := failed > 0 && later != nil && later(begins, path) && (its.ops == "" || slices.Contains(strings.Fields(its.ops), op))
		if !isFirst && !isLater {
			return nil
		}
		failed++
		return its.err
	})
	return func() int {
		mu.Lock()
		defer mu.Unlock()
		return failed
	}, stop
}

// systemFault is one case of the tests below.
type systemFault struct {
	call  systemCall
	error int // of systemErrors
	scope int // of scopes
}

// faultsOf are all faults of a run's calls or, unless all are wanted, a selection: each call in
// turn with another error and another scope, n of them.
func faultsOf(calls []systemCall, n int) (faults []systemFault) {
	for i, call := range calls {
		// A lock is renewed by the clock, so that the same call may not come again.
		if strings.Contains(call.path, "lock.new") {
			continue
		}
		some := 0
		for e, its := range systemErrors {
			if its.ops != "" && !slices.Contains(strings.Fields(its.ops), call.op) {
				continue
			}
			for s := range scopes {
				if some++; *everyFault || some%13 == i%13 {
					faults = append(faults, systemFault{call, e, s})
				}
			}
		}
	}
	if *everyFault || len(faults) <= n {
		return faults
	}
	var selected []systemFault
	for i := range n {
		selected = append(selected, faults[i*len(faults)/n])
	}
	return selected
}

func (f systemFault) String() string {
	return fmt.Sprintf("%s %s of %s %s, call %d", systemErrors[f.error].name, scopes[f.scope].name, f.call.op, f.call.path, f.call.n)
}

// isBenign reports whether a run succeeds in spite of the fault.
func (f systemFault) isBenign() bool {
	its := systemErrors[f.error]
	return its.benign && (f.scope == 0 || its.name != "EINTR")
}

// eachFault runs a command once for each fault of its calls, and judges each run.
func eachFault(t *testing.T, root string, calls []systemCall, command func() gcRun, judge func(i int, f systemFault, run gcRun)) {
	t.Helper()
	faults := faultsOf(calls, faultedCases())
	t.Logf("%d calls, %d faults", len(calls), len(faults))
	for i, f := range faults {
		checkInterrupted(t, i, len(faults))
		met, stop := failCalls(t, root, f)
		run := command()
		stop()
		if met() == 0 {
			t.Errorf("%s: the fault was never met", f)
		}
		judge(i, f, run)
	}
}

// faultedCases is how many faults of each command are tried where not all are.
func faultedCases() int {
	if testing.Short() {
		return 3
	}
	return 100
}

// TestEachSystemCallFails: whatever system call of a collection fails, and however, once or from
// then on, alone or with a path or a whole subtree, every image that a tag names still pulls
// completely; what is reported as removed is gone; and the next run ends where an undisturbed one
// does (1, 3, 6).
func TestEachSystemCallFails(t *testing.T) {
	t.Parallel()
	for _, command := range removing {
		t.Run(command.name, func(t *testing.T) {
			t.Parallel()
			g := newVariedFixture(t, command.untagged)
			args := append(command.args(g), oneByOne, "--no-cache")
			root := g.tree.Root()
			whole := wholeImages(t, root)
			if len(whole) < 4 {
				t.Fatalf("there are only %v", whole)
			}
			var want map[string]string
			calls := recordCalls(t, root, func() {
				if run := g.run(args...); run.code != 0 {
					t.Fatalf("undisturbed it ends with %d: %s", run.code, run.report.Error)
				}
				want = g.shape()
				g.restore()
			})
			eachFault(t, root, calls, func() gcRun { return g.run(args...) }, func(i int, f systemFault, run gcRun) {
				what := f.String()
				g.same(what, wholeImages(t, root), whole)
				if f.isBenign() {
					if d := difference(g.shape(), want); d != "" || run.code != 0 {
						t.Errorf("%s: ends with %d, %s%s", what, run.code, run.report.Error, g.readable(d))
					}
				} else {
					g.judgeSystemStop(what, run, want)
				}
				if i%4 == 0 || *everyFault {
					g.goesOn(what, args, want)
				} else {
					g.restore()
				}
			})
		})
	}
}

// judgeSystemStop judges a run that a fault has disturbed.
func (g *variedFixture) judgeSystemStop(what string, run gcRun, want map[string]string) {
	g.Helper()
	if run.code == 2 || run.code == 3 { // refused before anything is removed
		if run.report.Error == "" {
			g.Errorf("%s: it ends with %d and does not say why", what, run.code)
		}
		if d := difference(g.shape(), g.before); strings.Contains(d, "missing") {
			g.Errorf("%s: it is refused:%s", what, g.readable(d))
		}
		return
	}
	now := g.shape()
	for _, path := range g.needed {
		if now[path] != g.before[path] {
			g.Errorf("%s: %s is gone", what, g.readable(path))
		}
	}
	g.confirmed(what, run, now)
	if run.code != 0 && run.code != 4 && run.report.Error == "" {
		g.Errorf("%s: it ends with %d and does not say why", what, run.code)
	}
	if run.code == 0 && run.report.Removed != run.report.Garbage {
		g.Errorf("%s: it ends well and has removed %+v of %+v", what, run.report.Removed, run.report.Garbage)
	}
}

// TestEachSystemCallOfAQuarantineFails does the same for a collection with a quarantine, a
// restoration and a purge: all that there was is in the registry or in the quarantine, and what a
// tag names is in the registry.
func TestEachSystemCallOfAQuarantineFails(t *testing.T) {
	t.Parallel()
	for _, command := range quarantining {
		t.Run(command.name, func(t *testing.T) {
			t.Parallel()
			g, args := newQuarantineFixture(t, command.args)
			g.remember()
			root := g.tree.Root()
			whole := wholeImages(t, root)
			var want map[string]string
			calls := recordCalls(t, root, func() {
				if run := g.reported(args...); run.code != 0 {
					t.Fatalf("undisturbed it ends with %d: %s", run.code, run.report.Error)
				}
				want = united(g.shape())
				g.restore()
			})
			eachFault(t, root, calls, func() gcRun { return g.reported(args...) }, func(i int, f systemFault, run gcRun) {
				what := f.String()
				now := g.shape()
				g.same(what, wholeImages(t, root), whole)
				g.lost(what, now)
				if run.code != 0 && run.code != 4 && run.report.Error == "" {
					t.Errorf("%s: it ends with %d and does not say why", what, run.code)
				}
				if d := difference(withoutDirs(united(now)), withoutDirs(want)); run.code == 0 && d != "" {
					t.Errorf("%s: it ends well, and leaves:%s", what, g.readable(d))
				}
				if f.isBenign() && run.code != 0 {
					t.Errorf("%s: ends with %d, %s", what, run.code, run.report.Error)
				}
				if i%4 == 0 || *everyFault {
					g.again(what, args)
					g.same(what+", and again", wholeImages(t, root), whole)
				}
				g.restore()
			})
		})
	}
}

// withoutDirs leaves out directories: one that a removal could not remove costs nothing.
func withoutDirs(shape map[string]string) map[string]string {
	files := maps.Clone(shape)
	maps.DeleteFunc(files, func(_, content string) bool { return content == aDirectory })
	return files
}

// wholeImages are the tags whose images pull completely, each with what it names. It reads files
// as a registry does, and shares no code with what it judges.
func wholeImages(t *testing.T, root string) (tags []string) {
	t.Helper()
	at := filepath.Join(root, layoutRoot)
	err := filepath.WalkDir(filepath.Join(at, "repositories"), func(file string, entry fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(file, "/current/link") {
			return err
		}
		target, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		repository, tag, _ := strings.Cut(strings.TrimSuffix(file, "/current/link"), "/_manifests/tags/")
		if err := wholeManifest(at, repository, string(target)); err == nil {
			tags = append(tags, repository+":"+tag+" "+string(target))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(tags)
	return tags
}

// wholeManifest returns nil if a repository serves a manifest, and all that it names.
func wholeManifest(at, repository, digest string) error {
	content, err := linkedContent(at, repository+"/_manifests/revisions/", digest)
	if err != nil {
		return err
	}
	var manifest struct {
		Config            struct{ Digest string }
		Layers, Manifests []struct{ Digest string }
		FSLayers          []struct{ BlobSum string }
	}
	if err := json.Unmarshal(content, &manifest); err != nil {
		return err
	}
	blobs := []string{manifest.Config.Digest}
	for _, l := range manifest.Layers {
		blobs = append(blobs, l.Digest)
	}
	for _, l := range manifest.FSLayers {
		blobs = append(blobs, l.BlobSum)
	}
	for _, m := range manifest.Manifests {
		err = errors.Join(err, wholeManifest(at, repository, m.Digest))
	}
	for _, blob := range blobs {
		if blob != "" {
			_, blobErr := linkedContent(at, repository+"/_layers/", blob)
			err = errors.Join(err, blobErr)
		}
	}
	return err
}

// linkedContent is the content of the blob that a link leads to.
func linkedContent(at, links, digest string) ([]byte, error) {
	link, err := os.ReadFile(links + strings.Replace(digest, ":", "/", 1) + "/link")
	if err != nil {
		return nil, err
	}
	hex, found := strings.CutPrefix(string(link), "sha256:")
	if !found || len(hex) != 64 {
		return nil, fmt.Errorf("a link says %q", link)
	}
	content, err := os.ReadFile(at + "/blobs/sha256/" + hex[:2] + "/" + hex + "/data")
	if err == nil && fmt.Sprintf("%x", sha256.Sum256(content)) != hex {
		err = fmt.Errorf("%s has another content", hex)
	}
	return content, err
}
