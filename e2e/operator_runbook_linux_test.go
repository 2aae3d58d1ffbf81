package e2e

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"regsweep/internal/imagetest"
	"regsweep/internal/registrytest"
	"regsweep/window"

	"github.com/opencontainers/go-digest"
	batch "k8s.io/api/batch/v1"
	"sigs.k8s.io/yaml"
)

// recipes are the code blocks of the runbook, by the names in the comment before each.
func recipes(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile("docs/runbook.md")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string][]string{}
	for _, block := range regexp.MustCompile("(?s)<!-- ([^>]+) -->\n```[a-z]+\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		for _, name := range strings.Split(block[1], ", ") {
			found[name] = append(found[name], block[2])
		}
	}
	return found
}

// crontab is the commands of the runbook's lines for cron.
func crontab(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("docs/runbook.md")
	must(t, err)
	var commands []string
	for _, line := range regexp.MustCompile(`(?m)^[0-9]+ [0-9]+ \* \* \*  root  (.*)$`).FindAllStringSubmatch(string(text), -1) {
		commands = append(commands, line[1])
	}
	if len(commands) != 1 {
		t.Errorf("the lines for cron are %q, want a purge", commands)
	}
	return commands
}

// TestRunbook runs each recipe of docs/runbook.md as it stands there, with real registries.
// docker and kubectl are stand-ins (e2e/testdata/standin). Afterwards the garbage is gone, and
// the registry takes pushes (4).
func TestRunbook(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("builds regsweep, as a user would")
	}
	program := filepath.Join(t.TempDir(), "regsweep")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	blocks := recipes(t)
	all := atOnce{T: t}
	for _, name := range []string{"docker exec", "docker run", "docker stopped", "kubernetes", "in use", "window docker", "window kubernetes", "policy"} {
		steps := append(slices.Clone(blocks["setup"]), blocks[name]...)
		if name == "policy" {
			steps = append(steps, crontab(t)...)
		}
		all.run(name, func(t *testing.T) {
			r := newRunbook(t, program)
			r.tree.Tag("team/app", "pr-1", r.tree.Manifest("team/app", app(1, 33)))
			r.tree.Age("", time.Hour)
			r.write("policy.yml", "version: 1\nrules: [{name: pull requests, tags: [\"pr-*\"]}]\n")
			r.run(steps)
			r.collected()
			r.closed()
			kept := r.tree.Exists(imagetest.TagPath("team/app", "pr-1"))
			moved, err := filepath.Glob(r.tree.Path(".regsweep/quarantine/*/" + imagetest.BlobPath(app(1, 33).Digest())))
			if err != nil || kept == (name == "policy") || (len(moved) == 1) == kept {
				r.Errorf("the tag that a policy removes is kept: %t; in the quarantine are %q: %v", kept, moved, err)
			}
			if kept = r.tree.Exists(imagetest.BlobPath(r.inUse)); kept != (name == "in use") {
				r.Errorf("what a cluster runs is kept: %t", kept)
			}
		})
		delete(blocks, name)
	}
	delete(blocks, "setup")

	config := strings.Replace(blocks["config"][0], "/var/lib/registry", "storage", 1)
	for _, host := range []struct{ name, recipe, config, env string }{
		{"host read-only", "host read-only", "", "REGISTRY_STORAGE_MAINTENANCE_READONLY={enabled: true}"},
		{"host stopped", "host stopped", "", ""},
		{"config", "host read-only", config, "A=b"},
	} {
		steps := blocks[host.recipe]
		all.run(host.name, func(t *testing.T) {
			r := newRunbook(t, program)
			writable := registrytest.FilesystemConfig(r.tree.Root(), false)
			r.write("config.yml", writable)
			if host.config != "" {
				r.write("config.yml", strings.Replace(host.config, "storage\n", r.tree.Root()+"\n", 1))
			}
			stop := func() {}
			if host.env != "" {
				server := r.namespace.StartBinaryT(t, r.registry, filepath.Join(r.dir, "config.yml"), registryPort, host.env)
				stop = func() {
					if err := server.Stop(); err != nil {
						t.Error(err)
					}
				}
			}
			r.run(steps)
			stop()
			r.write("config.yml", writable)
			r.namespace.StartBinaryT(t, r.registry, filepath.Join(r.dir, "config.yml"), registryPort)
			r.collected()
		})
	}
	all.run("compose every Sunday", func(t *testing.T) {
		r := newRunbook(t, program)
		var settings []string // the file that systemd reads: its values are arguments, but for FLAGS
		for _, line := range strings.Split(strings.TrimSpace(blockOf(t, "docs/sunday.md", "3. **Say what to collect**, in `/etc/regsweep/window.env`:")), "\n") {
			name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			settings = append(settings, name+"="+shellQuote(value))
		}
		r.run([]string{`umount /srv/registry; mkdir -p /srv/registry/data; mount --bind "$1" /srv/registry/data
cp deploy/compose/*.yml /srv/registry/
docker compose -f /srv/registry/compose.yml up -d --wait
` + strings.Join(settings, "\n") + `
regsweep window -m --before "$BEFORE" --after "$AFTER" $FLAGS "$TARGET"`})
		r.collected()
		r.closed()
	})
	all.run("kubernetes every Sunday", func(t *testing.T) {
		r := newRunbook(t, program)
		content, err := os.ReadFile("deploy/kubernetes/directory.yaml")
		must(t, err)
		var job batch.CronJob
		must(t, yaml.UnmarshalStrict(content, &job))
		window := "regsweep"
		for _, argument := range job.Spec.JobTemplate.Spec.Template.Spec.Containers[0].Args {
			window += " " + shellQuote(argument)
		}
		r.run(append(slices.Clone(blocks["setup"]), `mount -t tmpfs tmpfs /var/lib; mkdir /var/lib/registry; mount --bind "$1" /var/lib/registry
`+window+" -m"))
		r.collected()
		r.closed()
	})
	steps := blocks["window host"]
	all.run("window host", func(t *testing.T) {
		r := newRunbook(t, program)
		r.write("config.yml", registrytest.FilesystemConfig(r.tree.Root(), false))
		must(t, os.Symlink(r.registry, filepath.Join(r.dir, "bin/registry")))
		t.Cleanup(func() {
			stop := exec.Command("sh", "-c", ". ./registry.sh; stop")
			stop.Dir = r.dir
			if output, err := stop.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, output)
			}
		})
		r.run(steps)
		r.collected()
		r.closed()
	})
	all.wait.Wait()
	for _, name := range []string{"config", "host read-only", "host stopped", "window host"} {
		delete(blocks, name)
	}
	for name := range blocks {
		if strings.HasPrefix(name, "verify ") {
			continue // of TestRunbookWhenPullsFail
		}
		t.Errorf("no test runs the recipe %q", name)
	}
}

// shellQuote quotes a text for sh.
func shellQuote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// runbook is a machine on which somebody follows the runbook.
type runbook struct {
	*testing.T
	namespace *registrytest.Namespace
	registry  string // the program
	dir       string // the directory that somebody works in
	standin   string // where the stand-in for docker keeps its containers
	tree      *imagetest.Tree
	garbage   digest.Digest
	inUse     digest.Digest // without a tag, and a cluster runs it
}

func newRunbook(t *testing.T, program string) *runbook {
	t.Helper()
	registry := registrytest.BinaryT(t)
	r := &runbook{T: t, namespace: registrytest.NewNamespaceT(t), registry: registry, dir: t.TempDir(), standin: t.TempDir()}
	r.tree = imagetest.NewTree(t, t.TempDir())
	r.tree.Tag("team/app", "v1", r.tree.Manifest("team/app", app(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20)))
	r.garbage = r.tree.Manifest("team/app", app(1, 31))
	r.inUse = r.tree.Manifest("team/app", app(1, 32))
	r.tree.Age("", time.Hour)
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(r.dir, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{program: "bin/regsweep", filepath.Join(here, "deploy"): "deploy", filepath.Join(here, "e2e/testdata/standin"): "standin"} {
		if err := os.Symlink(from, filepath.Join(r.dir, to)); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(r.stop)
	return r
}

func (r *runbook) write(name, content string) {
	r.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, name), []byte(content), 0o644); err != nil {
		r.Fatal(err)
	}
}

// run runs commands in the order in which they come. The machine has the storage at
// /srv/registry, and its own /etc and /usr/local/sbin. Between two blocks it waits until the
// registry listens, as somebody would who pastes one after the other.
func (r *runbook) run(blocks []string) {
	r.Helper()
	script := `
mount -t tmpfs tmpfs /srv && mkdir /srv/registry && mount --bind "$1" /srv/registry
cp -a /etc "$STANDIN/etc" && mount --bind "$STANDIN/etc" /etc
mount -t tmpfs tmpfs /usr/local/sbin
listens() {
	for container in "$STANDIN"/registry*/pid; do
		[ -e "$container" ] || return 0
	done
	until ss -ltn | grep -q :5000; do sleep 0.1; done
}
set -x
` + strings.Join(blocks, "\n{ listens; } 2>/dev/null\n")
	command := r.namespace.Command("unshare", "--mount", "sh", "-euc", script, "sh", r.tree.Root())
	c := exec.Command(command[0], command[1:]...)
	c.Dir = r.dir
	c.Env = append(c.Environ(), "PATH="+filepath.Join(r.dir, "standin")+":"+filepath.Join(r.dir, "bin")+":"+os.Getenv("PATH"),
		"STATE_DIRECTORY="+filepath.Join(r.standin, "state"), "STANDIN="+r.standin,
		"REGISTRY="+r.registry, "NAMESPACE="+r.namespace.Name(), "IN_USE="+r.inUse.String())
	output := &output{}
	c.Stdout, c.Stderr = output, output
	err := c.Run()
	if r.Logf("%s", output); err != nil {
		r.Fatal(err)
	}
}

// collected checks that the garbage is gone, and that the registry takes pushes.
func (r *runbook) collected() {
	r.Helper()
	if r.tree.Exists(imagetest.BlobPath(r.garbage)) {
		r.Error("the garbage is still there")
	}
	client := r.namespace.Client(registryPort)
	eventually(r.T, "the registry listens", func() bool { return client.Ping(r.Context()) == nil })
	if err := client.Push(r.Context(), "team/app:v2", app(1, 31)); err != nil {
		r.Errorf("the registry takes no pushes: %v", err)
	}
	if err := client.PullAll(r.Context(), "team/app", "v1", "v2"); err != nil {
		r.Error(err)
	}
}

// closed checks that no window is open.
func (r *runbook) closed() {
	r.Helper()
	if notes, err := filepath.Glob(filepath.Join(r.standin, "state/windows/*")); err != nil || len(notes) > 0 || r.tree.Exists(window.NotePath) {
		r.Errorf("a window is open: %q, %v", notes, err)
	}
}

// stop ends the registries in containers.
func (r *runbook) stop() {
	pids, err := filepath.Glob(filepath.Join(r.standin, "*/pid"))
	if err != nil {
		r.Fatal(err)
	}
	for _, file := range pids {
		content, err := os.ReadFile(file)
		if err != nil {
			r.Fatal(err)
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(content)))
		if err != nil {
			r.Fatal(err)
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			r.Errorf("kill %d: %v", pid, err)
		}
	}
}
