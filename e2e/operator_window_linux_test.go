package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"regsweep/internal/imagetest"
	"regsweep/internal/registrytest"
	"regsweep/internal/servertest"
	"regsweep/storage/layout"
	"regsweep/window"

	"github.com/opencontainers/go-digest"
)

// closing has the commands of a window for a registry that is a process. They take the directory of
// its files and its program.
const closing = `
set -e
start() {
	OTEL_TRACES_EXPORTER=none setsid env "$@" %[2]s serve %[1]s/config.yml >>%[1]s/log 2>&1 &
	echo $! >%[1]s/pid
}
stop() {
	pid=$(cat %[1]s/pid)
	kill -KILL "$pid" || true
	# Its first thread may be a zombie while another one still holds the port. Nobody may
	# be there to reap it.
	while grep -qs '^State:.[^Z]' "/proc/$pid/task/"*/status; do sleep 0.1; done
}
read_only() {
	stop
	start REGISTRY_STORAGE_MAINTENANCE_READONLY='{enabled: true}'
}
writable() {
	stop
	start
}
`

// windowed is a registry that the commands of a window make read-only and writable.
type windowed struct {
	*testing.T
	namespace *registrytest.Namespace
	dir       string
	tree      *imagetest.Tree
	garbage   int           // blobs, each with a link
	first     digest.Digest // the one that is removed first
}

// newWindowed starts the registry. functions are added to those of closing, and replace them.
func newWindowed(t *testing.T, functions string) *windowed {
	t.Helper()
	registry := registrytest.BinaryT(t)
	c := &windowed{T: t, dir: t.TempDir(), garbage: 300}
	c.namespace = registrytest.NewNamespaceT(t) // its end is that of all processes, before their directory is removed
	c.tree = imagetest.NewTree(t, filepath.Join(c.dir, "storage"))
	c.tree.Tag("team/app", "v1", c.tree.Manifest("team/app", app(1, 2)))
	for i := range c.garbage {
		d := c.tree.Blob(layer(100 + i).Content)
		c.tree.LayerLink("team/app", d)
		if c.first == "" || d < c.first {
			c.first = d
		}
	}
	c.tree.Age("", time.Hour)
	c.write("config.yml", registrytest.FilesystemConfig(c.tree.Root(), false), 0o644)
	c.write("commands", fmt.Sprintf(closing, c.dir, registry)+functions, 0o644)
	c.write("pid", "0", 0o644)
	c.shell("start")
	t.Cleanup(func() {
		if t.Failed() {
			output, err := os.ReadFile(filepath.Join(c.dir, "log"))
			t.Logf("the output of the registry (%v):\n%s", err, output)
		}
	})
	c.takesPushes("before")
	c.tree.Age("", time.Hour)
	return c
}

func (c *windowed) write(name, content string, mode os.FileMode) {
	c.Helper()
	if err := os.WriteFile(filepath.Join(c.dir, name), []byte(content), mode); err != nil {
		c.Fatal(err)
	}
}

// shell runs a function of the commands.
func (c *windowed) shell(function string) {
	c.Helper()
	command := c.namespace.Command("sh", "-c", c.function(function))
	// What starts a registry has no output that the registry would hold open.
	if err := exec.Command(command[0], command[1:]...).Run(); err != nil {
		c.Fatalf("%s: %v", function, err)
	}
}

// takesPushes pushes an image, as soon as the registry listens, and pulls it.
func (c *windowed) takesPushes(tag string) {
	c.Helper()
	client := c.namespace.Client(registryPort)
	image := app(1, 2, len(tag))
	eventually(c.T, "the registry answers", func() bool { return client.Ping(c.Context()) == nil })
	if err := client.Push(c.Context(), "team/app:"+tag, image); err != nil {
		c.Errorf("the registry takes no pushes: %v", err)
		return
	}
	if err := client.PullAll(c.Context(), "team/app", "v1", tag); err != nil {
		c.Error(err)
	}
}

// pid is that of the registry: another one after each restart.
func (c *windowed) pid() string {
	c.Helper()
	pid, err := os.ReadFile(filepath.Join(c.dir, "pid"))
	if err != nil {
		c.Fatal(err)
	}
	return string(pid)
}

func (c *windowed) blobs() int {
	c.Helper()
	blobs, err := filepath.Glob(c.tree.Path("blobs/sha256/*/*/data"))
	if err != nil {
		c.Fatal(err)
	}
	return len(blobs)
}

// function is the command that runs a function of the commands.
func (c *windowed) function(name string) string {
	return "cd " + c.dir + "; . ./commands; " + name
}

// run starts a window, in a group of processes of its own as a terminal would.
func (c *windowed) run(flags ...string) *running {
	c.Helper()
	return c.start(append([]string{"--before", c.function("read_only"), "--after", c.function("writable"), "--registry", "http://127.0.0.1:5000", "-m"}, flags...)...)
}

// start starts regsweep window.
func (c *windowed) start(flags ...string) *running {
	c.Helper()
	arguments := append([]string{"regsweep", "window", "--state-dir", filepath.Join(c.dir, "state"), c.tree.Root()}, flags...)
	command := c.namespace.Command(arguments...)
	r := &running{Cmd: exec.Command(command[0], command[1:]...)}
	r.Stdout, r.Stderr = &r.stdout, &r.stderr
	r.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := r.Start(); err != nil {
		c.Fatal(err)
	}
	c.Cleanup(func() {
		if err := r.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			c.Errorf("kill: %v", err)
		}
	})
	return r
}

// comes waits for a file that a command of the window makes.
func (c *windowed) comes(name string) {
	c.Helper()
	eventually(c.T, name+" is there", func() bool { return c.has(name) })
}

func (c *windowed) has(name string) bool {
	_, err := os.Stat(filepath.Join(c.dir, name))
	return err == nil
}

// removes waits until the removal has begun.
func (c *windowed) removes() {
	c.Helper()
	eventually(c.T, "it removes", func() bool { return !c.tree.Exists(imagetest.LayerPath("team/app", c.first)) })
}

// TestAWindowMakesTheRegistryWritableAgain: however it ends, the registry takes pushes afterwards and
// every image is whole (3, 4).
func TestAWindowMakesTheRegistryWritableAgain(t *testing.T) {
	t.Parallel()
	// A signal that is ignored here, as after nohup or in the background of a script, would be ignored
	// by what is started here. One that is caught is not.
	caught := make(chan os.Signal, 1)
	for _, ignored := range []os.Signal{syscall.SIGHUP, syscall.SIGINT} {
		if signal.Ignored(ignored) {
			signal.Notify(caught, ignored)
		}
	}
	t.Cleanup(func() { signal.Stop(caught) })
	type ending struct {
		name      string
		functions string // added to those of the registry
		flags     []string
		signal    syscall.Signal
		at        string // the file whose appearance brings the signal, or else the first removal
		toGroup   bool   // as from a terminal
		code      int
		removes   bool
		says      string
		untouched bool // the registry is not restarted
		isCut     bool // some of the garbage is left
	}
	slowly := []string{"--max-requests", "200"}
	all := atOnce{T: t}
	for _, test := range some([]ending{
		{name: "success", removes: true, says: "The window was open for"},
		{name: "quiet", flags: []string{"--quiet"}, removes: true},
		{name: "refusal", flags: []string{"--max-delete", "1"}, code: 3, says: "--max-delete"},
		{name: "wrong flag", flags: []string{"--no-such-flag"}, code: 2, says: "no-such-flag", untouched: true},
		{name: "another target", flags: []string{"/no/such/registry"}, code: 2, says: "one target at a time", untouched: true},
		{name: "SIGTERM", flags: slowly, signal: syscall.SIGTERM, code: 130, says: "interrupted"},
		{name: "SIGHUP", flags: slowly, signal: syscall.SIGHUP, toGroup: true, code: 130, says: "interrupted"},
		{name: "Ctrl-C", flags: slowly, signal: syscall.SIGINT, toGroup: true, code: 130, says: "interrupted"},
		{name: "SIGQUIT", flags: slowly, signal: syscall.SIGQUIT, toGroup: true, code: 130, says: "interrupted"},
		{name: "SIGUSR1", flags: slowly, signal: syscall.SIGUSR1, code: 130, says: "interrupted"},
		{name: "not read-only in time", functions: "read_only() { :; }", flags: []string{"--settle", "2s"}, code: 3, says: "takes pushes"},
		{name: "read-only after a while", functions: "read_only() { stop; (sleep 3; start REGISTRY_STORAGE_MAINTENANCE_READONLY='{enabled: true}') & }", removes: true},
		{name: "before fails half-way", functions: "read_only() { stop; false; start; }", code: 1, says: "--before: exit status 1"},
		{name: "a misspelt command", functions: "read_only() { stop; dokcer stop registry; start; }", code: 1, says: "dokcer"},
		{name: "a misspelt command, quietly", functions: "read_only() { stop; dokcer stop registry; start; }", flags: []string{"--quiet"}, code: 1, says: "dokcer"},
		{name: "SIGTERM while it closes", functions: "read_only() { stop; touch closing; sleep 60; }", signal: syscall.SIGTERM, at: "closing", code: 130, says: "interrupted"},
		{name: "Ctrl-C while it closes", functions: "read_only() { stop; touch closing; sleep 60; }", signal: syscall.SIGINT, at: "closing", toGroup: true, code: 130, says: "interrupted"},
		{name: "SIGTERM while it waits", functions: "read_only() { touch closing; }", signal: syscall.SIGTERM, at: "closing", code: 130, says: "interrupted"},
		{name: "Ctrl-C while it opens", functions: "writable() { stop; touch closing; sleep 1; start; }", signal: syscall.SIGINT, at: "closing", toGroup: true, removes: true},
		{name: "another source of truth", functions: "read_only() { false; }", at: "GitLab", code: 3, says: "GitLab", untouched: true},
		{name: "a pull-through cache", functions: "read_only() { stop; start REGISTRY_STORAGE_MAINTENANCE_READONLY='{enabled: true}'; touch storage/scheduler-state.json; }", code: 3, says: "pull-through cache"},
		{name: "the time is up while it removes", flags: []string{"--for", "30s", "--max-requests", "40"}, isCut: true, says: "The next run continues"},
		{name: "the time is up while it closes", functions: "read_only() { stop; sleep 1000; }", flags: []string{"--for", "3s"}, code: 1, says: "nothing was removed"},
		{name: "the time is up while it waits", functions: "read_only() { :; }", flags: []string{"--for", "3s"}, code: 1, says: "nothing was removed"},
		{name: "after fails once", functions: "writable() { stop; start; mkdir tried || return 0; return 1; }", removes: true, says: "tried again"},
		{name: "URLs from a command", flags: []string{"--registry-command", "echo http://127.0.0.1:5000"}, removes: true},
		{name: "URLs from a command, of which one is late", flags: []string{"--registry-command", `asked="$REGSWEEP_TARGET/../asked"; [ -e "$asked" ] && echo http://127.0.0.1:5000 || { touch "$asked"; echo http://:5000; }`}, removes: true, says: "asked again"},
		{name: "URLs from a command that fails", flags: []string{"--settle", "2s", "--registry-command", "exit 7"}, code: 1, says: "exit status 7"},
		{name: "no URL from a command", flags: []string{"--settle", "2s", "--registry-command", "true"}, code: 1, says: "printed no URL"},
		{name: "nowhere for a note", flags: []string{"--state-dir", "/proc/no/such"}, removes: true, says: "noted in the storage alone"},
	}, 3) {
		all.run(test.name, func(t *testing.T) {
			c := newWindowed(t, test.functions)
			if test.at == "GitLab" {
				must(t, os.MkdirAll(filepath.Join(c.tree.Root(), "docker/registry/lockfiles"), 0o755))
				must(t, os.WriteFile(filepath.Join(c.tree.Root(), "docker/registry/lockfiles/database-in-use"), nil, 0o644))
			}
			before, pid := c.blobs(), c.pid()
			run := c.run(test.flags...)
			if test.signal != 0 {
				if test.at != "" {
					c.comes(test.at)
				} else {
					c.removes()
				}
				pid := run.Process.Pid
				if test.toGroup {
					pid = -pid
				}
				for range 3 { // somebody is impatient
					if err := syscall.Kill(pid, test.signal); err != nil {
						t.Fatal(err)
					}
				}
			}
			code, said := run.exit(t), run.stdout.String()+run.stderr.String()
			if code != test.code || !strings.Contains(said, test.says) || test.name == "quiet" && said != "" {
				t.Errorf("it ends with %d, want %d, and says %q", code, test.code, said)
			}
			if removed := before - c.blobs(); test.removes != (removed == c.garbage) || !test.removes && !test.isCut && test.signal == 0 && removed > 0 {
				t.Errorf("it removed %d of %d blobs\n%s", removed, c.garbage, said)
			}
			if (c.pid() == pid) != test.untouched {
				t.Errorf("the registry is left as it was: %t\n%s", c.pid() == pid, said)
			}
			c.takesPushes("afterwards")
			c.closed()
		})
	}
	all.wait.Wait()
}

// closed checks that no window is open.
func (c *windowed) closed() {
	c.Helper()
	run := c.start("--recover")
	if code := run.exit(c.T); code != 0 || !strings.Contains(run.stderr.String(), "no window is open") {
		c.Errorf("a recovery ends with %d: %s", code, &run.stderr)
	}
	notes, err := filepath.Glob(filepath.Join(c.dir, "state/windows/*"))
	if err != nil || len(notes) > 0 || c.tree.Exists(window.NotePath) {
		c.Errorf("notes are left: %q (in the storage: %t), %v", notes, c.tree.Exists(window.NotePath), err)
	}
}

// TestAWindowTellsItsCommandsTheResult: what is in their environment (12).
func TestAWindowTellsItsCommandsTheResult(t *testing.T) {
	t.Parallel()
	note := "; env | grep ^REGSWEEP_ | sort >%[1]s; cp \"$REGSWEEP_REPORT\" report 2>/dev/null || true; }"
	c := newWindowed(t, "read_only() { stop; start REGISTRY_STORAGE_MAINTENANCE_READONLY='{enabled: true}'"+fmt.Sprintf(note, "before")+"\nwritable() { stop; start"+fmt.Sprintf(note, "after"))
	run := c.run("--json")
	code := run.exit(t)
	var printed, given struct {
		Command string
		Code    int `json:"exit_code"`
		Removed map[string]struct{ Count int }
		Window  struct {
			Closed        time.Time
			Before, After struct{ Error string }
		}
	}
	must(t, json.Unmarshal([]byte(run.stdout.String()), &printed))
	content, err := os.ReadFile(filepath.Join(c.dir, "report"))
	must(t, err)
	must(t, json.Unmarshal(content, &given))
	if code != 0 || printed.Command != "window" || printed.Window.Closed.IsZero() || given.Removed["blobs"].Count != c.garbage || printed.Removed["blobs"].Count != c.garbage {
		t.Errorf("it ends with %d, prints %+v and gives %+v\n%s", code, printed, given, &run.stderr)
	}
	for name, want := range map[string]string{
		"before": "REGSWEEP_REPORT=\nREGSWEEP_RESULT=\nREGSWEEP_TARGET=" + c.tree.Root() + "\n",
		"after":  "REGSWEEP_RESULT=0\nREGSWEEP_TARGET=" + c.tree.Root() + "\n",
	} {
		content, err := os.ReadFile(filepath.Join(c.dir, name))
		if err != nil || !strings.HasSuffix(string(content), want) {
			t.Errorf("%s has %q, want %q: %v", name, content, want, err)
		}
	}
}

// TestAWindowThatIsKilledIsClosedByTheNext: after SIGKILL the registry may be read-only. The next window
// or a recovery makes it writable (3, 4).
func TestAWindowThatIsKilledIsClosedByTheNext(t *testing.T) {
	t.Parallel()
	all := atOnce{T: t}
	for _, test := range some([]struct {
		name      string
		functions string
		at        string // the file whose appearance brings the signal, or else the first removal
		lost      bool   // with this machine's note
		moved     bool   // the storage is gone
		database  bool   // the next run is refused for ever
		recover   []string
		code      int
		says      string
	}{
		{name: "while it removes", says: "was not closed"},
		{name: "while it closes", functions: "read_only() { stop; touch closing; sleep 2; start REGISTRY_STORAGE_MAINTENANCE_READONLY='{enabled: true}'; }", at: "closing", says: "was not closed"},
		{name: "while it waits", functions: "read_only() { stop; [ -e closing ] || { touch closing; return; }; start REGISTRY_STORAGE_MAINTENANCE_READONLY='{enabled: true}'; }", at: "closing", says: "was not closed"},
		{name: "while it opens", functions: "writable() { stop; touch closing; [ -e second ] || { touch second; sleep 5; }; start; }", at: "closing", says: "was not closed"},
		{name: "with its machine", lost: true, says: "was not closed"},
		{name: "and the next is refused", database: true, code: 3, says: "was not closed"},
		{name: "recovery", recover: []string{"--recover"}, says: "was not closed"},
		{name: "recovery without the machine", lost: true, recover: []string{"--recover"}, code: 6, says: "was not run"},
		{name: "recovery without the storage", moved: true, recover: []string{"--recover"}, says: "does not exist"},
	}, 2) {
		all.run(test.name, func(t *testing.T) {
			c := newWindowed(t, test.functions)
			metrics := filepath.Join(c.dir, "window.prom")
			killed := c.run("--max-requests", "300", "--metrics", metrics)
			if test.at != "" {
				c.comes(test.at)
			} else {
				c.removes()
			}
			killed.signal(t, syscall.SIGKILL)
			killed.exit(t)
			if err := c.namespace.Client(registryPort).Push(t.Context(), "team/app:meanwhile", app(1, 5)); err == nil {
				t.Error("the registry takes pushes")
			}
			if content, err := os.ReadFile(metrics); err != nil || !strings.Contains(string(content), `regsweep_window_open{target="`+c.tree.Root()+`"} 1`) {
				t.Errorf("%v, the metrics are\n%s", err, content)
			}
			if test.lost {
				must(t, os.RemoveAll(filepath.Join(c.dir, "state")))
			}
			if test.moved {
				must(t, os.Rename(c.tree.Root(), c.tree.Root()+".moved"))
			}
			if test.database {
				file := filepath.Join(c.tree.Root(), layout.GitLabDatabaseFile)
				must(t, errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, nil, 0o644)))
			}
			next := c.run
			if test.recover != nil {
				next = func(...string) *running { return c.start(test.recover...) }
			}
			run := next()
			if code := run.exit(t); code != test.code || !strings.Contains(run.stderr.String(), test.says) {
				t.Fatalf("it ends with %d: %s", code, &run.stderr)
			}
			if test.moved {
				must(t, os.Rename(c.tree.Root()+".moved", c.tree.Root()))
				// Its note in the storage is still there.
				must(t, os.Remove(c.tree.Path(window.NotePath)))
			}
			if test.code == 6 {
				run = c.start("--recover", "--after", c.function("writable"))
				if code := run.exit(t); code != 0 {
					t.Fatalf("with --after it ends with %d: %s", code, &run.stderr)
				}
			}
			if test.recover == nil && !test.database && c.blobs() > c.garbage/10 {
				t.Errorf("%d blobs are left\n%s", c.blobs(), &run.stderr)
			}
			c.takesPushes("afterwards")
			c.closed()
		})
	}
	all.wait.Wait()
}

// TestAWindowIsKilledAtAnyMoment: a recovery makes the registry writable (3, 4).
func TestAWindowIsKilledAtAnyMoment(t *testing.T) {
	t.Parallel()
	moments := 40
	all := atOnce{T: t}
	for i := range moments {
		if !isOneOf(i, 8) {
			continue
		}
		all.run(fmt.Sprint(i), func(t *testing.T) {
			c := newWindowed(t, "")
			killed := c.run("--max-requests", "600")
			time.Sleep(time.Duration(i) * 100 * time.Millisecond) // the run takes some three seconds
			if err := killed.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
				t.Fatal(err)
			}
			killed.exit(t)
			recovery := c.start("--recover")
			if code := recovery.exit(t); code != 0 {
				t.Errorf("a recovery ends with %d: %s", code, &recovery.stderr)
			}
			c.takesPushes("afterwards")
			c.closed()
		})
	}
	all.wait.Wait()
}

// TestAWindowWhoseOutputNobodyReads: a pipe that is full, as a terminal that was stopped with Ctrl-S, does not keep
// the registry read-only (12).
func TestAWindowWhoseOutputNobodyReads(t *testing.T) {
	t.Parallel()
	c := newWindowed(t, `
		read_only() { stop; start REGISTRY_STORAGE_MAINTENANCE_READONLY='{enabled: true}'; head -c 200000 /dev/zero >&2; }
		writable() { stop; start; head -c 200000 /dev/zero; }`)
	reader, writer, err := os.Pipe()
	must(t, err)
	t.Cleanup(func() { _ = reader.Close() }) // it was only read
	for full := false; !full; {
		must(t, writer.SetWriteDeadline(time.Now().Add(100*time.Millisecond)))
		_, err := writer.Write(make([]byte, 4096))
		full = err != nil
	}
	command := c.namespace.Command("regsweep", "window", "--state-dir", filepath.Join(c.dir, "state"), c.tree.Root(),
		"--before", c.function("read_only"), "--after", c.function("writable"), "--registry", "http://127.0.0.1:5000", "-m")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	run := exec.CommandContext(ctx, command[0], command[1:]...)
	run.Stderr = writer
	if err := run.Run(); err != nil {
		t.Error(err)
	}
	must(t, writer.Close())
	if left := c.blobs(); left > c.garbage/10 {
		t.Errorf("%d blobs are left", left)
	}
	c.takesPushes("afterwards")
	c.closed()
}

// TestACommandFromTheStorageIsNeverRun: the registry itself can write to the storage.
func TestACommandFromTheStorageIsNeverRun(t *testing.T) {
	t.Parallel()
	c := newWindowed(t, "")
	c.tree.Write(window.NotePath, fmt.Sprintf(`{"window":1,"after":"touch %s/taken","user":"mallory\u001b[2J","host":"there"}`, c.dir))
	recovery := c.start("--recover")
	if code := recovery.exit(t); code != 6 || !strings.Contains(recovery.stderr.String(), "touch") || strings.Contains(recovery.stderr.String(), "\x1b") {
		t.Errorf("a recovery ends with %d: %q", code, &recovery.stderr)
	}
	run := c.run()
	if code := run.exit(t); code != 0 || !strings.Contains(run.stderr.String(), "was not closed") {
		t.Errorf("a window ends with %d: %s", code, &run.stderr)
	}
	if c.has("taken") {
		t.Error("it ran a command from the storage")
	}
	// Nor one from a directory where others can write.
	must(t, os.MkdirAll(filepath.Join(c.dir, "state/windows"), 0o700))
	must(t, os.Chmod(filepath.Join(c.dir, "state/windows"), 0o777))
	run = c.run()
	if code := run.exit(t); code != 1 || !strings.Contains(run.stderr.String(), "other users may write to it") {
		t.Errorf("with such a directory it ends with %d: %s", code, &run.stderr)
	}
	must(t, os.Chmod(filepath.Join(c.dir, "state/windows"), 0o700))
	c.takesPushes("afterwards")
	c.closed()
}

// TestAWindowSaysThatTheRegistryIsNotWritable, and how it can be made so (6).
func TestAWindowSaysThatTheRegistryIsNotWritable(t *testing.T) {
	t.Parallel()
	c := newWindowed(t, "writable() { [ -e repaired ] || dokcer start registry; stop; start; }")
	metrics := filepath.Join(c.dir, "window.prom")
	hasMetrics := func(open, code string) {
		t.Helper()
		content, err := os.ReadFile(metrics)
		labels := `target="` + c.tree.Root() + `"} `
		if err != nil || !strings.Contains(string(content), "regsweep_window_open{"+labels+open+"\n") || !strings.Contains(string(content), `regsweep_last_run_exit_code{command="window",`+labels+code+"\n") {
			t.Errorf("%v, the metrics are\n%s", err, content)
		}
	}
	run := c.run("--metrics", metrics)
	if code := run.exit(t); code != 6 {
		t.Errorf("it ends with %d", code)
	}
	lines := strings.Split(strings.TrimSpace(run.stderr.String()), "\n")
	if last := lines[len(lines)-1]; !strings.Contains(last, "THE REGISTRY MAY STILL REFUSE PUSHES") || !strings.Contains(run.stderr.String(), "dokcer") {
		t.Errorf("its last line is %q", last)
	}
	hasMetrics("1", "6")
	again := c.start("--recover", "--metrics", metrics)
	if code := again.exit(t); code != 6 {
		t.Errorf("a recovery ends with %d: %s", code, &again.stderr)
	}
	hasMetrics("1", "6")
	c.write("repaired", "", 0o644)
	again = c.start("--recover", "--metrics", metrics)
	if code := again.exit(t); code != 0 {
		t.Errorf("a recovery ends with %d: %s", code, &again.stderr)
	}
	hasMetrics("0", "6")
	c.takesPushes("afterwards")
	c.closed()
}

// TestAWindowLeavesAnotherAlone: a second one ends at once and does nothing to the registry (4).
func TestAWindowLeavesAnotherAlone(t *testing.T) {
	t.Parallel()
	c := newWindowed(t, "")
	first := c.run("--max-requests", "60")
	c.removes()
	readOnly := c.pid()
	for _, second := range []*running{c.run(), c.start("--recover")} {
		if code := second.exit(t); code != 5 {
			t.Errorf("the second one ends with %d: %s", code, &second.stderr)
		}
	}
	interrupted := c.start("--recover")
	eventually(t, "it waits for the lock", func() bool { return strings.Contains(interrupted.stderr.String(), "lock") })
	interrupted.signal(t, syscall.SIGINT)
	if code := interrupted.exit(t); code != 130 {
		t.Errorf("the interrupted one ends with %d: %s", code, &interrupted.stderr)
	}
	if c.pid() != readOnly {
		t.Error("the second one restarted the registry")
	}
	if code := first.exit(t); code != 0 {
		t.Errorf("the first one ends with %d: %s", code, &first.stderr)
	}
	c.takesPushes("afterwards")
}

// TestPushesBeforeAWindow: what was pushed through the registry before it was closed does not refuse,
// and what is pushed afterwards does (4).
func TestPushesBeforeAWindow(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("waits for half a minute")
	}
	all := atOnce{T: t}
	for name, pushed := range map[string]bool{"before": false, "afterwards": true} {
		all.run(name, func(t *testing.T) {
			c := newWindowed(t, "")
			c.takesPushes("just-now")
			run := c.run()
			eventually(t, "it waits", func() bool { return strings.Contains(run.stderr.String(), "waiting 30s") })
			time.Sleep(100 * time.Millisecond) // more than inventory.ClockTick
			if pushed {                        // as a registry does that nobody has named
				c.tree.Tag("team/other", "v1", c.tree.Manifest("team/other", app(1, 7)))
			}
			code, before := run.exit(t), c.blobs()
			if pushed && (code != 3 || before < c.garbage) || !pushed && (code != 0 || before >= c.garbage) {
				t.Errorf("it ends with %d, and %d blobs are left: %s", code, before, &run.stderr)
			}
			c.takesPushes("then")
		})
	}
	all.wait.Wait()
}

// TestShellScriptsPassShellcheck checks what a reader may copy, and what the tests run.
func TestShellScriptsPassShellcheck(t *testing.T) {
	t.Parallel()
	shellcheck, err := exec.LookPath("shellcheck")
	if err != nil {
		servertest.Lacks(t, "%v", err)
	}
	scripts := []string{".ci/run"}
	for _, pattern := range []string{"e2e/testdata/standin/*"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		scripts = append(scripts, found...)
	}
	if output, err := exec.Command(shellcheck, scripts...).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, output)
	}
}
