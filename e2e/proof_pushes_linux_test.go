package e2e

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"regsweep/guard"
	"regsweep/internal/imagetest"
	"regsweep/internal/registrytest"

	"github.com/opencontainers/go-digest"
)

// elsewhere is a registry that runs in a network namespace of its own. regsweep runs in
// another one. Both use the same directory. A client pushes images all the time.
type elsewhere struct {
	*testing.T
	here, there *registrytest.Namespace
	tree        *imagetest.Tree
	config      string // a config.yml, which says at first that the registry takes pushes
	program     string
	garbage     []imagetest.Blob // layers that only garbage refers to
	pusher      *pusher
}

const (
	hereAddress  = "10.77.1.1"
	thereAddress = "10.77.1.2"
	registryPort = 5000
	there        = "http://" + thereAddress + ":5000"
)

// newElsewhere makes a repository with one tagged image, and n layers that no manifest
// refers to.
func newElsewhere(t *testing.T, n int) *elsewhere {
	t.Helper()
	e := &elsewhere{T: t, program: registrytest.BinaryT(t), here: registrytest.NewNamespaceT(t), there: registrytest.NewNamespaceT(t)}
	e.here.ConnectT(t, hereAddress, e.there, thereAddress)
	e.tree = imagetest.NewTree(t, t.TempDir())
	e.tree.Tag("team/app", "v1", e.tree.Manifest("team/app", app(1, 2)))
	for i := range n {
		e.garbage = append(e.garbage, layer(100+i))
		e.tree.LayerLink("team/app", e.tree.Blob(e.garbage[i].Content))
	}
	e.tree.Age("", time.Hour)
	// regsweep removes the largest blobs first, and blobs of the same size in the order of their digests. The
	// pusher begins with the ones that it removes last.
	slices.SortFunc(e.garbage, func(a, b imagetest.Blob) int {
		return cmp.Or(len(a.Content)-len(b.Content), strings.Compare(b.Digest().String(), a.Digest().String()))
	})
	e.config = filepath.Join(t.TempDir(), "config.yml")
	e.setReadOnly(false)
	e.pusher = &pusher{garbage: e.garbage}
	return e
}

// setReadOnly writes config.yml, which a registry reads when it starts.
func (e *elsewhere) setReadOnly(readOnly bool) {
	e.Helper()
	config := strings.Replace(registrytest.FilesystemConfig(e.tree.Root(), readOnly), "addr: 127.0.0.1:", "addr: :", 1)
	if err := os.WriteFile(e.config, []byte(config), 0o644); err != nil {
		e.Fatal(err)
	}
}

// start starts a registry as config.yml says now.
func (e *elsewhere) start(where *registrytest.Namespace) *registrytest.Server {
	e.Helper()
	return where.StartBinaryT(e.T, e.program, e.config, registryPort)
}

func (e *elsewhere) stop(server *registrytest.Server) {
	e.Helper()
	if err := server.Stop(); err != nil {
		e.Fatal(err)
	}
}

// gc starts regsweep where no registry runs.
func (e *elsewhere) gc(args ...string) *running {
	e.Helper()
	command := e.here.Command(append([]string{"regsweep", "gc", "-m", "--yes", "--json"}, args...)...)
	return startProgram(e.T, command[0], nil, command[1:]...)
}

// pushesBegin pushes through a registry until the test ends.
func (e *elsewhere) pushesBegin(server *registrytest.Server) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		e.pusher.push(ctx, server.Client())
	}()
	e.Cleanup(func() { cancel(); <-done })
}

// pushesGoOn waits until more images were pushed.
func (e *elsewhere) pushesGoOn() {
	e.Helper()
	n := len(e.pusher.acknowledged())
	eventually(e.T, "images are pushed", func() bool { return len(e.pusher.acknowledged()) >= n+3 })
}

// whole pulls the tagged image and each image that was pushed after some time, with every
// blob. The registry that serves them is a new one, which has nothing in a cache.
func (e *elsewhere) whole(since time.Time) {
	e.Helper()
	client := registrytest.StartT(e.T, registrytest.Config{Root: e.tree.Root(), ReadOnly: true}).Client()
	if err := client.PullAll(e.Context(), "team/app", "v1"); err != nil {
		e.Error(err)
	}
	broken, pushed := 0, e.pusher.acknowledged()
	for _, image := range pushed {
		if image.begun.Before(since) {
			continue
		}
		if err := client.PullAll(e.Context(), "team/app", image.digest); err != nil {
			if broken++; broken == 1 {
				e.Error(err)
			}
		}
	}
	if broken > 0 {
		e.Errorf("%d of %d images that were pushed are broken", broken, len(pushed))
	}
}

func (e *elsewhere) report(run *running) (code int, report gcReport) {
	e.Helper()
	code = run.exit(e.T)
	if err := json.Unmarshal([]byte(run.stdout.String()), &report); err != nil {
		e.Fatalf("%v: %s", err, &run.stdout)
	}
	return code, report
}

// atOnce runs tests at once that wait most of the time, whatever -parallel says.
type atOnce struct {
	*testing.T
	wait  sync.WaitGroup
	slots [8]sync.Mutex // so many at once: dozens of registries do not start within a minute on two cores
	next  int
}

func (a *atOnce) run(name string, test func(*testing.T)) {
	slot := &a.slots[a.next%len(a.slots)]
	a.next++
	a.wait.Go(func() {
		slot.Lock()
		defer slot.Unlock()
		a.Run(name, test)
	})
}

// refused checks that a run ended with exit code 3 and removed nothing.
func (e *elsewhere) refused(run *running) {
	e.Helper()
	code, report := e.report(run)
	if code != 3 || report.Removed != (tallies{}) {
		e.Errorf("it ends with %d, %q, and removed %+v\n%s", code, report.Error, report.Removed, &run.stderr)
	}
}

// pusher pushes images, each with a layer that was garbage: some in a second, which leaves the processor
// to what is tested.
type pusher struct {
	garbage []imagetest.Blob

	mu     sync.Mutex
	pushed []pushedImage
}

// pushedImage is an image whose every part the registry has acknowledged.
type pushedImage struct {
	digest string
	begun  time.Time // before the first request
}

func (p *pusher) push(ctx context.Context, client *registrytest.Client) {
	for i := 0; ctx.Err() == nil; i++ {
		image := imagetest.Image(imagetest.OCI, p.garbage[i%len(p.garbage)], imagetest.Layer(uint64(1_000_000+i), 100))
		begun := time.Now()
		attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := client.Push(attempt, fmt.Sprintf("team/app:new-%d", i), image)
		cancel()
		if err == nil { // or it is read-only, or stopped
			p.mu.Lock()
			p.pushed = append(p.pushed, pushedImage{image.Digest().String(), begun})
			p.mu.Unlock()
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (p *pusher) acknowledged() []pushedImage {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.pushed)
}

// TestSilenceProvesNothing: the registry takes pushes where regsweep does not see it. The
// run is refused and removes nothing, so that every pushed image is whole (4).
func TestSilenceProvesNothing(t *testing.T) {
	t.Parallel()
	type silence struct {
		name     string
		endpoint string // "" if none is named
		config   bool   // the target is config.yml, which says read-only
		pushed   bool   // images are pushed before regsweep starts, too
	}
	all := atOnce{T: t}
	for _, c := range some([]silence{
		{"the config was edited and the registry was not restarted", "", true, false},
		{"the same after recent pushes", "", true, true},
		{"a wrong port", "http://" + thereAddress + ":5001", false, false},
		{"a wrong port after recent pushes", "http://" + thereAddress + ":5001", false, true},
		{"a wrong port and a config that was edited", "http://" + thereAddress + ":5001", true, false},
		{"an address that no machine has", "http://10.77.1.99:5000", false, false},
		{"an address without a route", "http://10.77.2.1:5000", false, false},
		{"a name that no resolver knows", "http://registry.invalid:5000", false, false},
	}, 2) {
		all.run(c.name, func(t *testing.T) {
			e := newElsewhere(t, 40)
			registry := e.start(e.there)
			if c.pushed {
				e.pushesBegin(registry)
				e.pushesGoOn()
			}
			args := []string{e.tree.Root()}
			if c.config {
				e.setReadOnly(true)
				args = []string{e.config}
			}
			if c.endpoint != "" {
				args = append(args, "--registry", c.endpoint)
			}
			e.refused(e.gc(args...))
			if !c.pushed {
				e.pushesBegin(registry)
			}
			e.pushesGoOn()
			e.whole(time.Time{})
		})
	}
	all.wait.Wait()
}

// TestARolloutProvesNothing: nothing listens at the address that is named until a new
// replica does, which takes pushes (4).
func TestARolloutProvesNothing(t *testing.T) {
	t.Parallel()
	e := newElsewhere(t, 40)
	run := e.gc("--registry", there, e.tree.Root())
	e.refused(run)
	e.pushesBegin(e.start(e.there))
	e.pushesGoOn()
	e.whole(time.Time{})
}

// TestAReplicaThatIsNotNamedIsNoticed: one replica is read-only and named. Another one is
// not named and takes pushes (4).
func TestAReplicaThatIsNotNamedIsNoticed(t *testing.T) {
	t.Parallel()
	e := newElsewhere(t, 40)
	e.pushesBegin(e.start(registrytest.NewNamespaceT(t)))
	e.pushesGoOn()
	e.setReadOnly(true)
	e.start(e.there)
	e.refused(e.gc("--registry", there, e.config))
	e.pushesGoOn()
	e.whole(time.Time{})
}

// exposure is how long a registry may take pushes until no removal begins any more, as
// docs/safety.md says.
const exposure = guard.ProofAge

// TestARegistryThatTurnsWritableMidway: the registry is read-only until the removal is under
// way. Then one takes its place which takes pushes. Each image whose push begins after the
// exposure is whole (4).
func TestARegistryThatTurnsWritableMidway(t *testing.T) {
	t.Parallel()
	type turn struct {
		name    string
		removes func(e *elsewhere) bool
		// turn starts the writable registry. Each image whose push begins after the time
		// that it returns must be whole.
		turn func(e *elsewhere, run *running) time.Time
	}
	all := atOnce{T: t}
	for _, c := range some([]turn{
		{"while it removes links", (*elsewhere).removesLinks, restarted},
		{"while it removes blobs", (*elsewhere).removesBlobs, restarted},
		{"a rollout while it removes links", (*elsewhere).removesLinks, rolledOut},
		{"a rollout while it removes blobs", (*elsewhere).removesBlobs, rolledOut},
		{"regsweep is suspended while it removes links", (*elsewhere).removesLinks, suspended},
		{"regsweep is suspended while it removes blobs", (*elsewhere).removesBlobs, suspended},
	}, 1) {
		all.run(c.name, func(t *testing.T) { turnsMidway(t, c.removes, c.turn) })
	}
	all.wait.Wait()
}

func turnsMidway(t *testing.T, removes func(*elsewhere) bool, turn func(*elsewhere, *running) time.Time) {
	e := newElsewhere(t, 150)
	e.setReadOnly(true)
	former := e.start(e.there)
	e.pushesBegin(former)
	run := e.gc("--registry", there, "--max-requests=23", e.tree.Root())
	eventually(t, "it removes", func() bool { return removes(e) })
	e.stop(former)
	e.setReadOnly(false)
	since := turn(e, run)
	code, report := e.report(run)
	e.pushesGoOn()
	e.whole(since)
	if removed := report.Removed; code != 3 || removed.LayerLinks.Count == 0 || removed.Blobs.Count == len(e.garbage) {
		t.Errorf("it ends with %d, and removed %+v\n%s", code, removed, &run.stderr)
	}
}

// first is the layer that regsweep removes first.
func (e *elsewhere) first() digest.Digest { return e.garbage[len(e.garbage)-1].Digest() }

func (e *elsewhere) removesLinks() bool {
	return !e.tree.Exists(imagetest.LayerPath("team/app", e.first()))
}

func (e *elsewhere) removesBlobs() bool { return !e.tree.Exists(imagetest.BlobPath(e.first())) }

func restarted(e *elsewhere, run *running) time.Time {
	turned := time.Now()
	e.start(e.there)
	return turned.Add(exposure)
}

// rolledOut starts the next registry when the proof is too old to remove anything.
func rolledOut(e *elsewhere, run *running) time.Time {
	time.Sleep(exposure) // nothing but time makes a proof old
	e.start(e.there)
	return time.Time{}
}

// suspended stops regsweep, not only the registry, until all that was garbage is in images and its
// proof is too old.
func suspended(e *elsewhere, run *running) time.Time {
	run.signal(e.T, syscall.SIGSTOP)
	e.start(e.there)
	eventually(e.T, "each layer is in an image", func() bool { return len(e.pusher.acknowledged()) >= len(e.garbage) })
	time.Sleep(exposure) // nothing but time makes a proof old
	run.signal(e.T, syscall.SIGCONT)
	return time.Time{}
}

// TestAPushThroughAnotherReplicaEndsTheRemoval: the registry that is named is read-only. Another
// one takes pushes while regsweep removes. The run says so, whatever it has removed. What is pushed
// to a repository while links are removed ends the run before a blob goes (4, 6).
func TestAPushThroughAnotherReplicaEndsTheRemoval(t *testing.T) {
	t.Parallel()
	type push struct {
		name    string
		removes func(e *elsewhere) bool
	}
	all := atOnce{T: t}
	for _, c := range some([]push{
		{"while it removes links", (*elsewhere).removesLinks},
		{"while it removes blobs", (*elsewhere).removesBlobs},
	}, 1) {
		all.run(c.name, func(t *testing.T) {
			e := newElsewhere(t, 150)
			e.setReadOnly(true)
			e.start(e.there)
			run := e.gc("--registry", there, "--max-requests=23", e.tree.Root())
			eventually(t, "it removes", func() bool { return c.removes(e) })
			e.setReadOnly(false)
			e.pushesBegin(e.start(registrytest.NewNamespaceT(t)))
			code, report := e.report(run)
			ended := time.Now()
			if code != 3 || !strings.Contains(report.Error, "somebody pushed during the removal") {
				t.Errorf("it ends with %d, %q", code, report.Error)
			}
			if n := report.Removed.Blobs.Count; n > 0 && c.name == "while it removes links" {
				t.Errorf("it removed %d blobs", n)
			}
			e.pushesGoOn()
			e.whole(ended)
		})
	}
	all.wait.Wait()
}
