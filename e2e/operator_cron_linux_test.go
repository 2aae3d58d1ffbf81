package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"regsweep/guard"
	"regsweep/internal/imagetest"
	"regsweep/internal/registrytest"
	"regsweep/internal/servertest"

	"github.com/opencontainers/go-digest"
)

// cronScript is the recipe.
const cronScript = "deploy/cron/regsweep-cron.sh"

// cronSettings are settings of the recipe for a registry that is a process. They take the
// directory of its files and its program.
const cronSettings = `
target=%[1]s/storage
proof='--registry http://127.0.0.1:5000'
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

// cron is a registry that the recipe makes read-only and writable.
type cron struct {
	*testing.T
	namespace *registrytest.Namespace
	dir       string
	tree      *imagetest.Tree
	garbage   int           // blobs, each with a link
	first     digest.Digest // the one that is removed first
}

func newCron(t *testing.T, settings string) *cron {
	t.Helper()
	for _, tool := range []string{"flock", "setsid"} {
		if _, err := exec.LookPath(tool); err != nil {
			servertest.Lacks(t, "%v", err)
		}
	}
	registry := registrytest.BinaryT(t)
	c := &cron{T: t, namespace: registrytest.NewNamespaceT(t), dir: t.TempDir(), garbage: 300}
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
	c.write("settings", fmt.Sprintf(cronSettings, c.dir, registry)+settings, 0o644)
	c.write("pid", "0", 0o644)
	// A program that kills itself in place of a collection: a fake of this fault alone.
	c.write("dying", "#!/bin/sh\n[ \"$1\" != gc ] || kill -KILL $$\nexec regsweep \"$@\"\n", 0o755)
	// One that notes its flags and removes nothing: a fake for what the script passes on.
	c.write("words", "#!/bin/sh\nprintf '%s\\n' \"$*\" >>"+c.dir+"/said\n[ \"$1\" = gc ] || exec regsweep \"$@\"\n", 0o755)
	// One that is slow to check a registry that is read-only: a fake of this delay alone.
	c.write("slow", "#!/bin/sh\n[ \"$1 $(ls "+c.dir+"/closed)\" != \"check "+c.dir+"/closed\" ] || { touch "+c.dir+"/closing; sleep 60 >/dev/null 2>&1; }\nexec regsweep \"$@\"\n", 0o755)
	c.shell("start")
	t.Cleanup(func() { c.shell("stop") })
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

func (c *cron) write(name, content string, mode os.FileMode) {
	c.Helper()
	if err := os.WriteFile(filepath.Join(c.dir, name), []byte(content), mode); err != nil {
		c.Fatal(err)
	}
}

// shell runs a function of the settings.
func (c *cron) shell(function string) {
	c.Helper()
	command := c.namespace.Command("sh", "-c", ". "+filepath.Join(c.dir, "settings")+"; "+function)
	// What starts a registry has no output that the registry would hold open.
	if err := exec.Command(command[0], command[1:]...).Run(); err != nil {
		c.Fatalf("%s: %v", function, err)
	}
}

// takesPushes pushes an image, as soon as the registry listens, and pulls it.
func (c *cron) takesPushes(tag string) {
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
func (c *cron) pid() string {
	c.Helper()
	pid, err := os.ReadFile(filepath.Join(c.dir, "pid"))
	if err != nil {
		c.Fatal(err)
	}
	return string(pid)
}

func (c *cron) blobs() int {
	c.Helper()
	blobs, err := filepath.Glob(c.tree.Path("blobs/sha256/*/*/data"))
	if err != nil {
		c.Fatal(err)
	}
	return len(blobs)
}

// run starts the recipe, in a group of processes of its own as a terminal would.
func (c *cron) run() *running {
	c.Helper()
	command := c.namespace.Command("sh", cronScript, filepath.Join(c.dir, "settings"))
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

// noted compares the commands that words has noted with those that the recipe has to run.
func (c *cron) noted(untagged, flags string) {
	c.Helper()
	said, err := os.ReadFile(filepath.Join(c.dir, "said"))
	if err != nil {
		c.Fatal(err)
	}
	end := "--registry http://127.0.0.1:5000 " + c.tree.Root()
	want := []string{"check --json " + untagged + end, "gc --quiet --yes " + untagged + flags + end}
	lines := slices.Compact(strings.Split(strings.TrimSpace(string(said)), "\n")) // it checks until the registry is read-only
	if !slices.Equal(lines, want) {
		c.Errorf("the commands are %q, want %q", lines, want)
	}
}

// TestCronMakesTheRegistryWritableAgain runs the cron recipe with a real registry. However
// it ends, the registry takes pushes afterwards and every image is whole (3, 4).
func TestCronMakesTheRegistryWritableAgain(t *testing.T) {
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
		name     string
		settings string // added to those of the registry
		signal   syscall.Signal
		at       string        // the file whose appearance brings the signal, or else the first removal
		toGroup  bool          // as from a terminal
		upload   time.Duration // an upload was interrupted so long ago
		code     int
		removes  bool
		says     string
		untagged string // the flag that check and gc get, with a space, if words notes it
		flags    string // the further flags that gc gets
	}
	all := atOnce{T: t}
	for _, test := range some([]ending{
		{name: "success", settings: "collect=-m", removes: true},
		{name: "untagged and a flush that fails", settings: "collect=; untagged=-m; before_writable() { false; }", code: 1, removes: true, says: "before_writable failed"},
		{name: "no flag for untagged", settings: "regsweep=$(dirname $target)/words", flags: "--max-delete 30% "},
		{name: "the flag for untagged", settings: "regsweep=$(dirname $target)/words; untagged=-m; collect=", untagged: "-m "},
		{name: "refusal", code: 3, says: "--max-delete"},
		{name: "wait for an interrupted upload", settings: "collect=-m", upload: guard.RecentUpload - 6*time.Second, removes: true},
		{name: "an upload interrupted just now", upload: time.Second, settings: "wait_seconds=3", code: 3, says: "an upload in team/app"},
		{name: "failure of regsweep", settings: "collect=--no-such-flag", code: 2, says: "no-such-flag"},
		{name: "killed regsweep", settings: "regsweep=$(dirname $target)/dying", code: 137, says: "killed by a signal (exit code 137)"},
		{name: "wrong target", settings: "target=/no/such/registry", code: 2, says: "/no/such/registry"},
		{name: "SIGTERM", settings: "collect='-m --max-requests=200'", signal: syscall.SIGTERM, code: 130, says: "SIGTERM"},
		{name: "SIGHUP", settings: "collect='-m --max-requests=200'", signal: syscall.SIGHUP, toGroup: true, code: 130, says: "SIGHUP"},
		{name: "Ctrl-C", settings: "collect='-m --max-requests=200'", signal: syscall.SIGINT, toGroup: true, code: 130, says: "SIGINT"},
		{name: "not read-only in time", settings: "wait_seconds=3; read_only() { :; }", code: 3, says: "takes pushes"},
		{name: "read_only fails half-way", settings: "read_only() { stop; false; start; }", code: 1, says: "read_only failed"},
		{name: "SIGTERM while it closes", settings: "read_only() { stop; touch ${target%/*}/closing; sleep 1; start; }", signal: syscall.SIGTERM, at: "closing", code: 130, says: "SIGTERM"},
		{name: "Ctrl-C while it closes", settings: "read_only() { stop; touch ${target%/*}/closing; sleep 60; }", signal: syscall.SIGINT, at: "closing", toGroup: true, code: 130, says: "SIGINT"},
		{name: "SIGTERM while it waits", settings: "read_only() { touch ${target%/*}/closing; }", signal: syscall.SIGTERM, at: "closing", code: 130, says: "SIGTERM"},
		{name: "Ctrl-C while it waits", settings: "read_only() { touch ${target%/*}/closing; }", signal: syscall.SIGINT, at: "closing", toGroup: true, code: 130, says: "SIGINT"},
		{name: "SIGTERM while it checks", settings: "regsweep=${target%/*}/slow; read_only() { touch ${target%/*}/closed; }", signal: syscall.SIGTERM, at: "closing", code: 130, says: "SIGTERM"},
		{name: "settings that end with an error", settings: "[ -f /no/such/file ] && untagged=-m", code: 2, says: "the settings"},
		{name: "settings with set -eC", settings: "set -e; [ $# -eq 0 ] || set -C; collect=-m", removes: true},
		{name: "another source of truth", settings: "mkdir -p $target/docker/registry/lockfiles; touch $target/docker/registry/lockfiles/database-in-use; read_only() { false; }", code: 3, says: "GitLab"},
		{name: "a pull-through cache", settings: "read_only() { stop; start REGISTRY_STORAGE_MAINTENANCE_READONLY='{enabled: true}'; touch $target/scheduler-state.json; }", code: 3, says: "pull-through cache"},
		{name: "writable fails once", settings: "writable() { stop; start; mkdir $target/tried || return 0; return 1; }; collect=-m", removes: true, says: "writable failed"},
		// Mistakes in the settings.
		{name: "no function read_only", settings: "unset -f read_only", code: 2, says: "no function read_only"},
		{name: "a misspelt writable", settings: "unset -f writable; writeable() { :; }", code: 2, says: "no function writable"},
		{name: "a wrong wait_seconds", settings: "wait_seconds=10m", code: 2, says: `not "10m"`},
		{name: "an empty wait_seconds", settings: "wait_seconds=", code: 2, says: `not ""`},
		{name: "an empty target", settings: "target=", code: 2, says: "the target is empty"},
		{name: "a variable that is unset", settings: "unset collect", code: 2, says: "collect"},
		{name: "a misspelt command", settings: "read_only() { stop; dokcer stop registry; start; }", code: 1, says: "dokcer"},
		// Nowhere to write.
		{name: "no TMPDIR", settings: "export TMPDIR=/no/such; collect=-m", removes: true},
		{name: "no TMPDIR, and read_only fails", settings: "export TMPDIR=/no/such; read_only() { echo the reason; false; }", code: 1, says: "the reason"},
		{name: "a full /dev/shm", settings: "mount -t tmpfs -o size=4k full /dev/shm; collect=-m", removes: true},
		{name: "no inode in /dev/shm, and no TMPDIR", settings: "mount -t tmpfs -o nr_inodes=1 full /dev/shm; export TMPDIR=/no/such", code: 2, says: "/no/such has room"},
		{name: "a full /dev/shm and a full TMPDIR", settings: "mount -t tmpfs -o size=4k full /dev/shm; export TMPDIR=/dev/shm", code: 2, says: "/dev/shm has room"},
		{name: "/dev/shm gets full", settings: "mount -t tmpfs -o size=64k small /dev/shm; wait_seconds=3; read_only() { head -c 99999 /dev/zero >/dev/shm/else || true; }", code: 3, says: "takes pushes"},
	}, 2) {
		all.run(test.name, func(t *testing.T) {
			c := newCron(t, test.settings)
			if test.upload > 0 {
				c.tree.Upload("team/app", "01234567-89ab-cdef-0123-456789abcdef", time.Now().Add(-test.upload), []byte("half of a layer"))
			}
			before, pid := c.blobs(), c.pid()
			run := c.run()
			if test.signal != 0 {
				eventually(t, "it is time for the signal", func() bool {
					if test.at != "" {
						_, err := os.Stat(filepath.Join(c.dir, test.at))
						return err == nil
					}
					return !c.tree.Exists(imagetest.LayerPath("team/app", c.first))
				})
				pid := run.Process.Pid
				if test.toGroup {
					pid = -pid
				}
				if err := syscall.Kill(pid, test.signal); err != nil {
					t.Fatal(err)
				}
			}
			code, said := run.exit(t), run.stdout.String()+run.stderr.String()
			if code != test.code || !strings.Contains(said, test.says) || test.says == "" && said != "" && code == 0 {
				t.Errorf("it ends with %d, want %d, and says %q", code, test.code, said)
			}
			if removed := before - c.blobs(); test.removes != (removed == c.garbage) || !test.removes && test.signal == 0 && removed > 0 {
				t.Errorf("it removed %d of %d blobs\n%s", removed, c.garbage, said)
			}
			if leaves := strings.Contains(said, "left as it is"); leaves && c.pid() != pid {
				t.Errorf("it restarted the registry, and says %q", said)
			}
			if strings.Contains(test.settings, "/words") {
				c.noted(test.untagged, test.flags)
			}
			c.takesPushes("afterwards")
		})
	}
	all.wait.Wait()
}

// TestCronNamesAProgramThatIsMissing: a missing flock is not taken for another run (2).
func TestCronNamesAProgramThatIsMissing(t *testing.T) {
	t.Parallel()
	settings := filepath.Join(t.TempDir(), "settings")
	must(t, os.WriteFile(settings, []byte("read_only() { :; }; writable() { :; }"), 0o644))
	shell, err := exec.LookPath("sh")
	must(t, err)
	for _, missing := range []string{"flock", "setsid"} {
		programs := t.TempDir()
		for _, program := range []string{"flock", "setsid", "mktemp", "rm"} {
			if path, err := exec.LookPath(program); err == nil && program != missing {
				must(t, os.Symlink(path, filepath.Join(programs, program)))
			}
		}
		command := exec.Command(shell, cronScript, settings)
		command.Env = []string{"PATH=" + programs}
		output, _ := command.CombinedOutput() // the exit code is checked
		if code := command.ProcessState.ExitCode(); code != 2 || !strings.Contains(string(output), "regsweep-cron: "+missing+" is missing") {
			t.Errorf("without %s it ends with %d: %s", missing, code, output)
		}
	}
}

// TestCronNamesSettingsThatAreMissing (2).
func TestCronNamesSettingsThatAreMissing(t *testing.T) {
	t.Parallel()
	command := exec.Command("sh", cronScript, "/no/such/settings")
	output, _ := command.CombinedOutput() // the exit code is checked
	if code := command.ProcessState.ExitCode(); code != 2 || !strings.Contains(string(output), "/no/such/settings can't be read") {
		t.Errorf("it ends with %d: %s", code, output)
	}
}

// TestCronSettingsNoticeARegistryThatEndsAtOnce: docker start succeeds then.
func TestCronSettingsNoticeARegistryThatEndsAtOnce(t *testing.T) {
	t.Parallel()
	script := ". deploy/cron/regsweep-cron.conf; docker() { :; }; set -e; writable"
	command := registrytest.NewNamespaceT(t).Command("sh", "-c", script)
	output, err := exec.Command(command[0], command[1:]...).CombinedOutput()
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || !strings.Contains(string(output), "connect") {
		t.Errorf("nothing answers, and writable ends with %v: %s", err, output)
	}
}

// TestCronLeavesARunAlone: a second run ends at once and does nothing to the registry (4).
func TestCronLeavesARunAlone(t *testing.T) {
	t.Parallel()
	c := newCron(t, "collect='-m --max-requests=300'")
	first := c.run()
	writable := c.pid()
	eventually(t, "it is read-only", func() bool { return c.pid() != writable && c.pid() != "" })
	readOnly := c.pid()
	second := c.run()
	if code := second.exit(t); code != 5 || !strings.Contains(second.stderr.String(), "not over") {
		t.Errorf("the second one ends with %d: %s", code, &second.stderr)
	}
	if c.pid() != readOnly {
		t.Error("the second one restarted the registry")
	}
	if code := first.exit(t); code != 0 {
		t.Errorf("the first one ends with %d: %s", code, &first.stderr)
	}
	c.takesPushes("afterwards")
}

// TestCronIsKilled: after SIGKILL the registry is read-only. The next run finds the
// regsweep that goes on (5), and the one after it makes the registry writable (3, 4).
func TestCronIsKilled(t *testing.T) {
	t.Parallel()
	c := newCron(t, "collect='-m --max-requests=300'")
	killed := c.run()
	eventually(t, "it removes", func() bool { return !c.tree.Exists(imagetest.LayerPath("team/app", c.first)) })
	killed.signal(t, syscall.SIGKILL)
	killed.exit(t)
	if err := c.namespace.Client(registryPort).Push(t.Context(), "team/app:meanwhile", app(1, 5)); err == nil {
		t.Error("the registry takes pushes")
	}
	eventually(t, "another run succeeds", func() bool {
		run := c.run()
		code := run.exit(t)
		if code != 0 && code != 5 {
			t.Fatalf("it ends with %d: %s", code, &run.stderr)
		}
		return code == 0
	})
	c.takesPushes("afterwards")
}

// TestCronSaysThatTheRegistryIsNotWritable, and why (6).
func TestCronSaysThatTheRegistryIsNotWritable(t *testing.T) {
	t.Parallel()
	all := atOnce{T: t}
	for name, settings := range map[string]string{
		"success":                 "collect=-m",
		"SIGTERM while it checks": "regsweep=${target%/*}/slow; read_only() { touch ${target%/*}/closed; }",
	} {
		all.run(name, func(t *testing.T) {
			c := newCron(t, settings+"; writable() { dokcer start registry; }")
			run := c.run()
			if name != "success" {
				eventually(t, "it checks", func() bool { _, err := os.Stat(filepath.Join(c.dir, "closing")); return err == nil })
				run.signal(t, syscall.SIGTERM)
			}
			if code := run.exit(t); code != 6 || !strings.Contains(run.stderr.String(), "or not run at all") || !strings.Contains(run.stderr.String(), "dokcer") {
				t.Errorf("it ends with %d: %s", code, &run.stderr)
			}
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
	for _, pattern := range []string{"deploy/*/*.sh", "e2e/testdata/standin/*"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		scripts = append(scripts, found...)
	}
	// A file of settings is a part of a script, which uses its variables and functions.
	settings := []string{"--shell=sh", "--exclude=SC2034,SC2317", "deploy/cron/regsweep-cron.conf"}
	for _, arguments := range [][]string{scripts, settings} {
		if output, err := exec.Command(shellcheck, arguments...).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, output)
		}
	}
}
