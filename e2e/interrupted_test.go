package e2e

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"regsweep/internal/imagetest"
	"regsweep/internal/registrytest"
	"regsweep/internal/servertest"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/opencontainers/go-digest"
)

// running is regsweep in a process of its own, as TestMain made it.
type running struct {
	*exec.Cmd
	stdout, stderr output
}

// output can be read while a process writes to it.
type output struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buffer.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buffer.String()
}

func start(t *testing.T, args ...string) *running {
	t.Helper()
	return startIn(t, nil, args...)
}

// startIn is start with more in the environment, which has a cache directory that
// nobody else uses.
func startIn(t *testing.T, env []string, args ...string) *running {
	t.Helper()
	return startProgram(t, "regsweep", env, args...)
}

func startProgram(t *testing.T, name string, env []string, args ...string) *running {
	t.Helper()
	r := &running{Cmd: exec.Command(name, args...)}
	r.Env = append(append(r.Environ(), "XDG_CACHE_HOME="+t.TempDir()), env...)
	r.Stdout, r.Stderr = &r.stdout, &r.stderr
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Errorf("kill: %v", err)
		}
	})
	return r
}

// exit waits for the process and returns its code, -1 where a signal ended it.
func (r *running) exit(t *testing.T) int {
	t.Helper()
	timer := time.AfterFunc(patience, func() {
		t.Errorf("it does not end\n%s", &r.stderr)
		if err := r.Process.Kill(); err != nil {
			t.Errorf("kill: %v", err)
		}
	})
	defer timer.Stop()
	if exit := (*exec.ExitError)(nil); !errors.As(r.Wait(), &exit) {
		return 0
	}
	return r.ProcessState.ExitCode()
}

func (r *running) signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := r.Process.Signal(s); err != nil {
		t.Fatalf("signal: %v\n%s", err, &r.stderr)
	}
}

// patience is how long a test waits for what has to come. It is long for a busy machine.
const patience = 3 * time.Minute

// eventually waits until something is so.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// garbageTree is a registry with an image, and n blobs that nothing reaches.
func garbageTree(t *testing.T, n int) (root string, image *imagetest.Manifest) {
	t.Helper()
	root = t.TempDir()
	tree := imagetest.NewTree(t, root)
	image = imagetest.Image(imagetest.OCI, imagetest.Layer(1, 0))
	tree.Tag("team/app", "v1", tree.Manifest("team/app", image))
	for i := range n {
		tree.Blob(fmt.Appendf(nil, "garbage %d %s", i, strings.Repeat("x", i%7)))
	}
	return root, image
}

// firstGarbage is the file of the blob that goes first: the largest, and of several the one whose
// digest is first.
func firstGarbage(t *testing.T, root string, image *imagetest.Manifest) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, layoutRoot, "blobs/sha256/*/*/data"))
	if err != nil {
		t.Fatal(err)
	}
	first, most := "", int64(-1)
	for _, file := range files {
		isAlive := slices.ContainsFunc(image.Digests(), func(d digest.Digest) bool {
			return strings.Contains(file, d.Encoded())
		})
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if !isAlive && info.Size() > most {
			first, most = file, info.Size()
		}
	}
	if first != "" {
		return first
	}
	t.Fatal("there is no garbage")
	return ""
}

type interruptedReport struct {
	ExitCode int    `json:"exit_code"`
	Error    string `json:"error"`
	Removed  struct {
		Blobs struct {
			Count int
			Bytes int64
		}
	}
}

// TestAnInterruptedSweepSaysWhatItRemoved proves promises 3 and 6: what is reported is
// what has gone from the disk, all that is alive pulls, and a second run ends where one
// that is not interrupted would have.
func TestAnInterruptedSweepSaysWhatItRemoved(t *testing.T) {
	t.Parallel()
	// Where SIGHUP is ignored, as under nohup, a process hands that down to those that it
	// starts, unless it listens itself.
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	t.Cleanup(func() { signal.Stop(hangups) })
	for _, sent := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		t.Run(sent.String(), func(t *testing.T) {
			t.Parallel()
			// On a busy machine a run may be done before the signal reaches it.
			garbage := 4_000
			for !interrupted(t, sent, garbage) {
				if garbage *= 2; garbage > 100_000 {
					t.Fatal("it was never interrupted in time to prove anything")
				}
			}
		})
	}
}

// interrupted is one run on that many unreferenced blobs; false if it was done before it
// was interrupted.
func interrupted(t *testing.T, sent syscall.Signal, garbage int) bool {
	t.Helper()
	root, image := garbageTree(t, garbage)
	files, size, err := blobsIn(root)
	if err != nil {
		t.Fatal(err)
	}
	alive := files - garbage
	first := firstGarbage(t, root, image)

	run := start(t, "gc", "--json", "--registry-stopped", root)
	removing := filepath.Join(root, layoutRoot, ".regsweep", "lock")
	// Looking at one file, and not at all, leaves it no time to get far.
	eventually(t, "it removes", func() bool {
		_, err := os.Stat(first)
		return errors.Is(err, os.ErrNotExist)
	})
	run.signal(t, sent)
	code := run.exit(t)
	left, sizeLeft, err := blobsIn(root)
	if err != nil {
		t.Fatal(err)
	}
	if left == alive {
		return false
	}
	if code != 130 {
		t.Fatalf("it exits with %d\n%s", code, &run.stderr)
	}
	var report interruptedReport
	if err := json.Unmarshal([]byte(run.stdout.String()), &report); err != nil {
		t.Fatalf("%v\n%s", err, &run.stdout)
	}
	if report.ExitCode != 130 || report.Error != "interrupted: run it again to remove the rest" {
		t.Errorf("it reports %+v", report)
	}
	if count, bytes := files-left, size-sizeLeft; report.Removed.Blobs.Count != count || report.Removed.Blobs.Bytes != bytes {
		t.Errorf("it reports %+v, and %d blobs of %d bytes have gone", report.Removed.Blobs, count, bytes)
	}
	if _, err := os.Stat(removing); err == nil {
		t.Error("it leaves its lock")
	}

	rest := start(t, "gc", "--json", "--registry-stopped", root)
	if code := rest.exit(t); code != 0 {
		t.Fatalf("the second run exits with %d\n%s", code, &rest.stderr)
	}
	if left, _, err := blobsIn(root); err != nil || left != alive {
		t.Errorf("after the second run there are %d blobs, %v, and not %d", left, err, alive)
	}
	registry := registrytest.StartT(t, registrytest.Config{Root: root, ReadOnly: true})
	if err := registry.Client().PullAll(t.Context(), "team/app", "v1", image.Digest().String()); err != nil {
		t.Error(err)
	}
	return true
}

// TestAnInterruptionEndsAWait: nothing that it waits for keeps a run alive. It ends before a run that
// is not interrupted, and that began to wait earlier.
func TestAnInterruptionEndsAWait(t *testing.T) {
	root, _ := garbageTree(t, 3)
	before := imagetest.SnapshotT(t, root)

	t.Setenv("AWS_ACCESS_KEY_ID", "any")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "any")
	locked := t.TempDir()
	if err := os.CopyFS(locked, os.DirFS(root)); err != nil {
		t.Fatal(err)
	}
	imagetest.NewTree(t, locked).Write(".regsweep/lock", `{"token":"of a run that was killed"}`)

	for _, wait := range []struct {
		name string
		args func(silent string) []string
	}{
		{"while it lists", func(silent string) []string {
			return []string{"gc", "-d", "s3://bucket?region=x&forcepathstyle=true&endpoint=" + silent}
		}},
		{"while it asks the registry", func(silent string) []string { return []string{"gc", "--registry", silent, root} }},
		{"while it checks", func(silent string) []string { return []string{"check", "--registry", silent, root} }},
		{"while it watches a lock", func(string) []string { return []string{"gc", "--registry-stopped", locked} }},
	} {
		t.Run(wait.name, func(t *testing.T) {
			waiting := func() *running {
				var asked atomic.Bool
				silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					asked.Store(true)
					<-r.Context().Done() // it never answers
				}))
				t.Cleanup(silent.Close)
				p := start(t, wait.args(silent.URL)...)
				eventually(t, "it waits", func() bool {
					return asked.Load() || strings.Contains(p.stderr.String(), "watching for up to")
				})
				return p
			}
			undisturbed := waiting()
			run := waiting()
			run.signal(t, os.Interrupt)
			if code := run.exit(t); code != 130 {
				t.Errorf("it exits with %d", code)
			}
			undisturbed.signal(t, os.Kill)
			if code := undisturbed.exit(t); code != -1 {
				t.Errorf("it waits as long as a run that exits with %d", code)
			}
			if text := run.stderr.String(); !strings.Contains(text, "regsweep: interrupted") {
				t.Errorf("it says %q", text)
			}
		})
	}
	if after := imagetest.SnapshotT(t, root); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Error("the storage has changed")
	}
	if _, err := os.Stat(imagetest.NewTree(t, locked).Path(".regsweep/lock")); err != nil {
		t.Errorf("the lock of another run: %v", err)
	}
}

// TestASecondSignalEndsItAtOnce: the run then leaves its lock, which the next one takes
// over once it is seen to be dead.
func TestASecondSignalEndsItAtOnce(t *testing.T) {
	t.Parallel()
	root, image := garbageTree(t, 1_000)
	first := firstGarbage(t, root, image)
	run := start(t, "gc", "--registry-stopped", "--max-requests=300", root)
	eventually(t, "it removes", func() bool {
		_, err := os.Stat(first)
		return errors.Is(err, os.ErrNotExist)
	})
	run.signal(t, os.Interrupt)
	eventually(t, "it says so", func() bool { return strings.Contains(run.stderr.String(), "once more ends it at once") })
	run.signal(t, os.Interrupt)
	// It may have been about to end by itself.
	if code := run.exit(t); code != -1 && code != 130 {
		t.Errorf("it exits with %d\n%s", code, &run.stderr)
	}
	rest := start(t, "gc", "--registry-stopped", "--json", root)
	eventually(t, "the next run ends, or sees the lock that was left", func() bool {
		return strings.Contains(rest.stderr.String(), "watching for up to") || rest.stdout.String() != ""
	})
}

// TestAReaderThatGoesAwayDoesNotEndASweep: `regsweep gc … 2>&1 | head -1`.
func TestAReaderThatGoesAwayDoesNotEndASweep(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"gc", "--registry-stopped"}, {"gc", "--registry-stopped", "--json"}} {
		root, _ := garbageTree(t, 2000)
		reader, writer, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := reader.Close(); err != nil {
			t.Fatal(err)
		}
		run := exec.Command("regsweep", append(args, root)...)
		run.Stdout, run.Stderr = writer, writer
		if err := run.Run(); err != nil {
			t.Errorf("%v: %v", args, err)
		}
		if left, _, err := blobsIn(root); err != nil || left != 3 {
			t.Errorf("%v: there are %d blobs, %v, and not 3", args, left, err)
		}
		if err := writer.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestAReportThatCannotBeWrittenIsAFailure, unlike one that nobody wants to read.
func TestAReportThatCannotBeWrittenIsAFailure(t *testing.T) {
	t.Parallel()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		servertest.Lacks(t, "%v", err)
	}
	defer func() {
		if err := full.Close(); err != nil {
			t.Error(err)
		}
	}()
	root, _ := garbageTree(t, 1)
	for _, args := range [][]string{{"gc", "-d"}, {"gc", "-d", "--json"}} {
		var stderr bytes.Buffer
		run := exec.Command("regsweep", append(args, root)...)
		run.Stdout, run.Stderr = full, &stderr
		exit := (*exec.ExitError)(nil)
		if err := run.Run(); !errors.As(err, &exit) || exit.ExitCode() != 1 {
			t.Errorf("%v: %v", args, err)
		}
		if !strings.Contains(stderr.String(), "regsweep: write the report: ") {
			t.Errorf("%v: it says %q", args, &stderr)
		}
	}
}

// killSignal is what no process hears.
const killSignal = syscall.SIGKILL

func (s *fixture) removeKey(key string) error {
	_, err := s.s3.Client().DeleteObject(s.Context(), &s3.DeleteObjectInput{Bucket: &s.bucket, Key: &key})
	return err
}

// TestKilledWhileItRemoves: the program itself is killed while it removes, slowly, each time
// after one file more. Every image pulls, and the next run leaves what an undisturbed one
// leaves, files and directories (3).
func TestKilledWhileItRemoves(t *testing.T) {
	t.Parallel()
	g := newVariedFixture(t, false)
	args := []string{"gc", g.tree.Root(), "-m", "--prune-empty", "--registry-stopped"}
	g.must(os.RemoveAll(g.tree.Path(".regsweep")))
	if code := start(t, args...).exit(t); code != 0 {
		t.Fatalf("undisturbed it ends with %d", code)
	}
	want := g.inspected("undisturbed")
	var going []string
	for path, content := range g.before {
		if content != aDirectory && want[path] == "" {
			going = append(going, path)
		}
	}
	size := func(path string) int64 {
		if info, err := os.Stat(filepath.Join(g.copied, layoutRoot, path)); err == nil && isBlob(path) {
			return info.Size()
		}
		return 0
	}
	slices.SortFunc(going, func(a, b string) int {
		return cmp.Or(strings.Compare(kindOfPath(a), kindOfPath(b)), cmp.Compare(size(b), size(a)), strings.Compare(a, b))
	})
	killed, tried := 0, 0
	for k := 0; k < len(going); k += apart(2) {
		tried++
		g.restore()
		run := start(t, append(args, "--max-requests=400", "--concurrency=1")...)
		eventually(t, "it removes "+going[k], func() bool {
			_, err := os.Lstat(g.tree.Path(going[k]))
			return errors.Is(err, fs.ErrNotExist)
		})
		if err := run.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if run.exit(t) == -1 {
			killed++
		}
		g.inspected("killed after " + going[k])
		g.unlock()
		if code := start(t, args...).exit(t); code != 0 {
			t.Errorf("the next run ends with %d", code)
		}
		if d := difference(g.shape(), want); d != "" {
			t.Errorf("killed after %s: after the next run:%s", going[k], g.readable(d))
		}
	}
	if killed < tried/4 { // a slow machine kills some too late
		t.Errorf("of %d runs only %d were killed before they ended", tried, killed)
	}
}

// kindOfPath puts paths in the order of their removal.
func kindOfPath(path string) string {
	for i, part := range []string{"/index/", "/revisions/", "/_layers/", "/_uploads/"} {
		if strings.Contains(path, part) {
			return string(rune('a' + i))
		}
	}
	return "z"
}
