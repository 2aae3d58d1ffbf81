package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"regsweep/guard"
	"regsweep/internal/imagetest"
	"regsweep/internal/registrytest"
	"regsweep/internal/servertest"
	"regsweep/storage"
)

// midway is a storage whose registry turns writable while a batch is removed. The batch
// takes longer than the watch needs to see that. It is a fake of the time that this takes.
type midway struct {
	storage.Store
	turn             func()
	removed, refused *atomic.Int64
}

func (s midway) Remove(ctx context.Context, refs []storage.Ref) []storage.Outcome {
	if !strings.HasPrefix(refs[0].Path, storage.BlobsDir+"/") {
		return s.Store.Remove(ctx, refs)
	}
	var outcomes []storage.Outcome
	for _, ref := range refs {
		outcome := s.Store.Remove(ctx, []storage.Ref{ref})[0]
		outcomes = append(outcomes, outcome)
		if outcome.Err != nil {
			s.refused.Add(1)
			continue
		}
		if s.removed.Add(1) == 1 {
			s.turn()
		}
		time.Sleep(100 * time.Millisecond)
	}
	return outcomes
}

// stoppedHeadline is the first line of a refusal once something is removed.
const stoppedHeadline = "STOPPED: nothing more may be removed.\n"

// TestNoRemovalBeginsOnceTheRegistryIsWritable: not even the rest of a batch that has begun. What
// went before is reported, and nothing else (4, 6).
func TestNoRemovalBeginsOnceTheRegistryIsWritable(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	_, alive := s.unrelated()
	const garbage = 200
	for n := range garbage {
		s.tree.Blob(layer(n + 100).Content)
	}
	s.must(s.registry.SetReadOnly(true))
	before := len(s.files())
	var removed, refused atomic.Int64
	wrapped.Store(s.tree.Root(), func(store storage.Store) storage.Store {
		return midway{store, func() { s.must(s.registry.SetReadOnly(false)) }, &removed, &refused}
	})
	defer wrapped.Delete(s.tree.Root())
	run := s.gc()
	if run.code != 3 || !strings.Contains(run.report.Error, "writable") {
		t.Errorf("it ends with %d, %q", run.code, run.report.Error)
	}
	gone := before - len(s.files())
	if want := fmt.Sprintf("; stopped after %d of %d removals", gone, garbage); !strings.HasSuffix(run.report.Error, want) {
		t.Errorf("it says %q, want %q at its end", run.report.Error, want)
	}
	if refused.Load() == 0 || gone != int(removed.Load()) || gone != run.report.Removed.Blobs.Count {
		t.Errorf("%d of %d blobs are gone, %d were removed, %d refused, and it reports %d", gone, garbage, removed.Load(), refused.Load(), run.report.Removed.Blobs.Count)
	}
	if strings.Contains(run.stderr, "not removed") {
		t.Errorf("it reports removals as failed that it has not begun: %s", run.stderr)
	}

	// The little that --quiet prints says so too.
	s.must(s.registry.SetReadOnly(true))
	before = len(s.files())
	removed.Store(0)
	code, stdout, stderr := regsweep(s, "gc", "--quiet", "--yes", "--registry", s.registry.URL(), s.config(s.registry.ConfigYAML()))
	want := fmt.Sprintf("; stopped after %d of %d removals\n", before-len(s.files()), garbage-gone)
	if code != 3 || stdout != "" || !strings.HasPrefix(stderr, stoppedHeadline) || !strings.HasSuffix(stderr, want) {
		t.Errorf("quiet, it ends with %d, %q, %q, want %q and %q", code, stdout, stderr, stoppedHeadline, want)
	}
	s.pull("afterwards", s.client, []image{alive})
}

// TestARequestThatWasSentIsWaitedFor: the registry turns writable while a bucket works on a
// request. The answer is waited for and reported, and no other request is sent (4, 6).
func TestARequestThatWasSentIsWaitedFor(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	s.plant("team/app", "v1", app(1, 2))
	for n := range 5 {
		s.plant("team/app", "", app(10+n))
	}
	s.on(bucket)
	s.must(s.registry.SetReadOnly(true))
	behind, err := url.Parse(s.registry.URL())
	s.must(err)
	// What stands before the registry sees how the registry answers to a probe.
	var writable atomic.Bool
	seen := make(chan struct{})
	see := sync.OnceFunc(func() { close(seen) })
	pass := httputil.NewSingleHostReverseProxy(behind)
	pass.ModifyResponse = func(r *http.Response) error {
		if writable.Load() && r.Request.Method == http.MethodPut && r.StatusCode != http.StatusMethodNotAllowed {
			see()
		}
		return nil
	}
	registry := httptest.NewServer(pass)
	t.Cleanup(registry.Close)

	var sent atomic.Int64
	front := &faultyFront{matches: func(r *http.Request, body string) bool {
		if r.Method != http.MethodPost || !r.URL.Query().Has("delete") || strings.Contains(body, "/.regsweep/") {
			return false
		}
		if sent.Add(1) > 1 {
			return false
		}
		s.must(s.registry.SetReadOnly(false))
		writable.Store(true)
		select {
		case <-seen:
			time.Sleep(time.Second) // until the watch has drawn its conclusion, which nothing outside shows
		case <-time.After(20 * time.Second):
			t.Error("nobody asks the registry meanwhile")
		}
		return false
	}}
	config := s.behindFront(front)
	run := s.gcOn(config, "-m", "--no-cache", "--registry", registry.URL)
	if run.code != 3 || !strings.Contains(run.report.Error, "writable") {
		t.Errorf("it ends with %d, %q", run.code, run.report.Error)
	}
	if run.report.Removed.Revisions.Count != 5 || run.report.Removed.Blobs.Count != 0 || sent.Load() != 1 {
		t.Errorf("it reports %v, and sent %d requests", run.report.Removed.counts(), sent.Load())
	}
	s.pull("afterwards", s.client, []image{pulls("team/app", "v1")})
}

// TestASuspendedRunProvesAnewBeforeItRemoves: while it is suspended, for less time than its lock
// lives, the registry turns writable and what had been garbage is pushed again. When it wakes it
// removes nothing (1, 4).
func TestASuspendedRunProvesAnewBeforeItRemoves(t *testing.T) {
	t.Parallel()
	onBoth(t, func(c *contested) {
		first := startProgram(c.T, "regsweep", nil, c.slowly...)
		c.midway()
		first.signal(c.T, syscall.SIGSTOP)
		if c.left() == 0 {
			c.Fatal("it was done already")
		}
		suspended := time.Now()
		c.must(c.registry.SetReadOnly(false))
		pushed := []image{c.image}
		for n := range 60 { // the garbage of contest
			tag := fmt.Sprintf("again-%d", n)
			m := app(10+3*n, 11+3*n)
			c.push("team/app:"+tag, m)
			pushed = append(pushed, pulls("team/app", tag, m))
		}
		time.Sleep(guard.ProofAge + time.Second - time.Since(suspended)) // nothing but time makes a proof old
		everything, sent := len(c.files()), c.sent()
		first.signal(c.T, syscall.SIGCONT)
		c.proceed()
		// Where the pushes took longer than the lock lives, that is what it finds first.
		told := c.ends(first, 3, 5)
		isLost := strings.Contains(told, "the lock is lost")
		if !isLost && !strings.Contains(told, "writable") {
			c.Errorf("it says %q", told)
		}
		if !isLost && c.isLocked() {
			c.Error("its lock is left")
		} else if c.tree != nil && !isLost {
			everything-- // the lock
		}
		gone := everything - len(c.files())
		// On a filesystem each of four batches may have been between its lease and a removal.
		if c.tree != nil && gone > 4 || c.tree == nil && c.sent() != sent {
			c.Errorf("it went on: %d files are gone, %d more removals were sent", gone, c.sent()-sent)
		}
		if gone == 0 || c.tree == nil {
			c.pull("after it all", c.client, pushed)
		}
	})
}

// turning is a storage whose registry becomes writable during the last listing before the removal.
// Only this moment is a fake.
type turning struct {
	storage.Store
	scans *atomic.Int64
	turn  func()
}

func (s turning) Scan(ctx context.Context, dir string, visit func([]storage.Object) error) error {
	if dir == storage.RepositoriesDir && s.scans.Add(1) == 3 { // as in storeFault.scan
		s.turn()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Second):
		}
	}
	return s.Store.Scan(ctx, dir, visit)
}

// TestTheProofIsRepeatedFromTheSecondListingOn: a registry that becomes writable while all
// is listed once more, or the plan of a quarantine written, ends the run before anything is
// removed (4).
func TestTheProofIsRepeatedFromTheSecondListingOn(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	_, alive := s.unrelated()
	s.must(s.registry.SetReadOnly(true))
	before := s.files()
	var scans atomic.Int64
	wrapped.Store(s.tree.Root(), func(store storage.Store) storage.Store {
		return turning{store, &scans, func() { s.must(s.registry.SetReadOnly(false)) }}
	})
	defer wrapped.Delete(s.tree.Root())
	run := s.gc("-m")
	if run.code != 3 || !strings.Contains(run.report.Error, "writable") || len(run.report.Removed.counts()) > 0 {
		t.Errorf("it ends with %d, %q, and removed %v", run.code, run.report.Error, run.report.Removed.counts())
	}
	s.same("the files", keys(s.files()), keys(before))
	s.pull("afterwards", s.client, []image{alive})
}

// A replica that nobody named takes pushes, while the one that was named is read-only. Promise 4.
func TestAPushThroughAnotherReplicaRefuses(t *testing.T) {
	onEach(t, "completed", func(t *testing.T, on backend) {
		s := newFixture(t)
		s.unrelated()
		s.on(on)
		s.must(s.registry.SetReadOnly(true))
		target := s.config(s.registry.ConfigYAML())
		shared := registrytest.Config{}
		if on == bucket {
			shared.Storage = s.s3.Storage(s.bucket, s3Root)
		} else {
			shared.Root = s.tree.Root()
		}
		replica := registrytest.StartT(t, shared)
		time.Sleep(1100 * time.Millisecond) // S3 has whole seconds
		if err := replica.Client().Push(t.Context(), "sound:pushed", app(1, 902)); err != nil {
			t.Fatal(err)
		}
		for _, flags := range [][]string{nil, {"--registry", s.registry.URL()}} {
			run := s.gcOn(target, append(flags, "-m")...)
			if run.code != 3 || !strings.Contains(run.report.Error, "an image was pushed to sound less than 10 minutes ago") {
				t.Errorf("gc %v ends with %d: %s", flags, run.code, run.report.Error)
			}
			code, stdout, _ := regsweep(s, append([]string{"check", target}, flags...)...)
			if code != 3 || !strings.Contains(stdout, "an image was pushed to sound less than 10 minutes ago") {
				t.Errorf("check %v ends with %d: %s", flags, code, stdout)
			}
		}
	})
}

// What was pushed before the registry was made read-only is no sign of another one, and
// neither is what a former run has removed.
func TestPushesBeforeTheWindowAreExplained(t *testing.T) {
	t.Parallel()
	onEach(t, "explained", func(t *testing.T, on backend) {
		s := newFixture(t)
		s.unrelated()
		s.tree.Upload("sound", "old", time.Now().Add(-1000*time.Hour), []byte("half a layer"))
		s.on(on)
		s.must(s.registry.SetReadOnly(true))
		for range 2 {
			if run := s.gc("-m"); run.code != 0 {
				t.Errorf("ends with %d: %s", run.code, run.report.Error)
			}
		}
	})
	s := newFixture(t)
	s.unrelated()
	s.tree.Age("repositories", time.Hour)
	s.tree.Upload("sound", "old", time.Now().Add(-1000*time.Hour), []byte("half a layer"))
	s.must(s.registry.SetReadOnly(true))
	for _, removed := range []int{1, 0} {
		run := s.gcOn(s.tree.Root(), "-m", "--registry", s.registry.URL())
		if run.code != 0 || run.report.Removed.Uploads.Count != removed {
			t.Errorf("a directory: ends with %d, and %d uploads are removed: %s", run.code, run.report.Removed.Uploads.Count, run.report.Error)
		}
	}
}

// A run that will be refused does not ask first.
func TestARecentPushRefusesBeforeTheQuestion(t *testing.T) {
	t.Parallel()
	tree, garbage := treeWithGarbage(t)
	registry := registrytest.StartT(t, registrytest.Config{Root: tree.Root(), ReadOnly: true})
	s := mustStart(t, program(t, "gc", "--registry", registry.URL(), tree.Root()))
	must(t, s.waitFor("REFUSED"))
	code, err := s.end()
	must(t, err)
	if code != 3 || strings.Contains(s.shows(), "[y/N]") || !tree.Exists(garbage) {
		t.Errorf("exit code %d: %s", code, s.shows())
	}
}

// Your word that the registry is stopped proves, but a push just now speaks against it.
func TestARecentUploadWarnsOfARegistryThatIsNotStopped(t *testing.T) {
	t.Parallel()
	for age, want := range map[time.Duration]bool{time.Minute: true, time.Hour: false} {
		tree := imagetest.NewTree(t, t.TempDir())
		tree.Tag("team/app", "v1", tree.Manifest("team/app", app(1, 2)))
		tree.Upload("team/app", "01234567-89ab-cdef-0123-456789abcdef", time.Now().Add(-age), []byte("half"))
		out, err := program(t, "gc", "--yes", "--registry-stopped", tree.Root()).CombinedOutput()
		if err != nil {
			t.Errorf("%v: %s", err, out)
		}
		if said := strings.Contains(string(out), "warning: an upload in team/app was touched less than 10 minutes ago"); said != want {
			t.Errorf("an upload %s ago: warned: %v\n%s", age, said, out)
		}
	}
}

// nobody is who owns nothing. Root heeds no permission.
const nobody = 65534

// asNobody runs the program as somebody whom permissions bind.
func asNobody(t *testing.T, args ...string) (code int, stderr string) {
	t.Helper()
	if os.Getuid() != 0 {
		servertest.Lacks(t, "only root can be somebody else")
	}
	program := filepath.Join(t.TempDir(), "regsweep")
	path, err := exec.LookPath("regsweep")
	if err != nil {
		t.Fatal(err)
	}
	// Were it written here, a program that another test starts meanwhile would have it open for
	// writing too, and it could not be run.
	if output, err := exec.Command("cp", path, program).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	for dir := filepath.Dir(program); strings.HasPrefix(dir, os.TempDir()+"/"); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var errs bytes.Buffer
	run := exec.Command(program, args...)
	run.Stderr = &errs
	run.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	run.Env = append(os.Environ(), "XDG_CACHE_HOME="+t.TempDir())
	if err := run.Run(); err != nil && run.ProcessState == nil {
		t.Fatal(err)
	}
	return run.ProcessState.ExitCode(), errs.String()
}

// give lets somebody else own a tree, and reach it.
func give(t *testing.T, root string) {
	t.Helper()
	out, err := exec.Command("chown", "-R", "65534:65534", root).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for dir := root; strings.HasPrefix(dir, os.TempDir()+"/"); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// Advice to give a flag is for a run without it.
func TestAFlagThatWasGivenIsNotAdvised(t *testing.T) {
	s := newFixture(t)
	tagged, untagged := app(1, 11), app(1, 12)
	s.push("dangling:v1", tagged)
	s.push("dangling", untagged)
	s.tree.Remove(path.Dir(imagetest.BlobPath(untagged.Digest())))
	target := s.config(s.registry.ConfigYAML())
	for flags, advised := range map[string]bool{"-d": true, "-dm": false} {
		code, stdout, stderr := regsweep(s, "gc", flags, target)
		if code != 0 || !strings.Contains(stdout, "whose manifest is gone") || strings.Contains(stdout, "is removed with --delete-untagged") != advised {
			t.Errorf("gc %s ends with %d: %s%s", flags, code, stdout, stderr)
		}
	}
}
