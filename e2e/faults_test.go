package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"regsweep/internal/imagetest"

	"github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/factory"
	fsdriver "github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
	"github.com/opencontainers/go-digest"
)

// variedFixture is a small registry. It has an example of everything that keeps an image alive, and
// of everything that is removed. It is put back as it was before each run of a command.
type variedFixture struct {
	*fixture
	// alive are the images that the command under test must leave whole.
	alive []image
	// needed are the files that they consist of.
	needed []string
	// sole are those links among them without which nothing tells that there is more.
	sole   []string
	before map[string]string // all files and directories
	copied string            // a copy of them
}

// removing are the commands that remove, as they are tried with each fault and kill. A
// command that removes belongs here.
var removing = []struct {
	name string
	// args are those that all of them do not have. It makes what they need.
	args func(g *variedFixture) []string
	// untagged is set where untagged manifests stay.
	untagged bool
}{
	{name: "gc", args: func(g *variedFixture) []string { return []string{"gc", g.tree.Root(), "--prune-empty"} }, untagged: true},
	{name: "gc -m", args: func(g *variedFixture) []string { return []string{"gc", g.tree.Root(), "-m", "--prune-empty"} }},
	{name: "apply", args: func(g *variedFixture) []string {
		plan := filepath.Join(g.TempDir(), "plan.jsonl")
		if code, _, stderr := regsweep(g.fixture, "gc", g.tree.Root(), "-dm", "--prune-empty", "--plan", plan); code != 0 {
			g.Fatalf("no plan to apply: %s", stderr)
		}
		return []string{"apply", plan, g.tree.Root()}
	}},
}

// newVariedFixture plants the registry. With untagged, untagged manifests are to live.
func newVariedFixture(t *testing.T, untagged bool) *variedFixture {
	t.Helper()
	g := &variedFixture{fixture: newFixture(t)}
	amd, arm, single := app(1, 2), app(1, 3), app(1, 4)
	index := imagetest.Index(imagetest.OCI, amd, arm)
	signature := imagetest.Referrer(index, "application/vnd.example.signature", []byte("signed"))
	wide := layer(5)
	wide.Algorithm = digest.SHA512
	aliased := imagetest.Image(imagetest.OCI, layer(1), wide)
	former, loose := app(1, 6), app(1, 7)
	schema1 := imagetest.Schema1("old", "v1", layer(8))

	g.plant("app", "former", former)
	g.plant("app", "former", single)
	g.plant("app", "v1", index)
	g.plant("app", "", signature)
	g.plant("app", "", loose)
	g.plant("team/wide", "v1", aliased)
	g.plant("old", "v1", schema1)
	signed := g.tree.Blob([]byte("a signature of schema 1"))
	g.tree.Write(imagetest.SignaturePath("old", schema1.Digest(), signed), signed.String())
	g.keep("app", "former", single)
	g.keep("app", "v1", index, signature)
	g.keep("team/wide", "v1", aliased)
	if untagged {
		g.keep("app", "", loose, former)
	}
	g.alive = append(g.alive, pulls("app", "v1", "former", index, amd, arm, signature, single), pulls("team/wide", "v1"))
	g.sole = append(g.sole, imagetest.RevisionPath("app", signature.Digest()))
	if untagged {
		g.sole = append(g.sole, imagetest.RevisionPath("app", loose.Digest()), imagetest.RevisionPath("app", former.Digest()))
		g.alive = append(g.alive, pulls("app", loose, former))
	}
	// No registry of today serves schema 1.
	g.keep("old", "v1", schema1)
	g.needed = append(g.needed, imagetest.SignaturePath("old", schema1.Digest(), signed), imagetest.BlobPath(signed))
	g.sole = append(g.sole, imagetest.SignaturePath("old", schema1.Digest(), signed))

	g.tree.LayerLink("app", g.tree.Blob([]byte("an unreferenced layer")))
	// What a deletion leaves, and a kill: directories that are named like links.
	g.tree.Mkdir(strings.TrimSuffix(imagetest.RevisionPath("app", digest.FromString("deleted")), "/link"))
	g.tree.Mkdir(strings.TrimSuffix(imagetest.LayerPath("app", digest.SHA512.FromString("deleted")), "/link"))
	g.tree.LayerLink("left/over", g.tree.Blob([]byte("all that is left")))
	g.tree.Blob([]byte("an unreferenced blob"))
	g.tree.Upload("app", "old-upload", time.Now().Add(-1000*time.Hour), []byte("half"))
	g.tree.Upload("app", "young-upload", time.Now(), []byte("half"))
	g.age()

	g.remember()
	for _, path := range g.needed {
		if g.before[path] == "" {
			t.Fatalf("%s is needed and was never there", path)
		}
	}
	return g
}

// remember makes what there is now what restore puts back.
func (g *variedFixture) remember() {
	g.Helper()
	g.before = g.shape()
	g.copied = g.TempDir()
	g.must(os.CopyFS(g.copied, os.DirFS(g.tree.Root())))
}

// aDirectory stands in a shape for what has no content.
const aDirectory = "a directory"

// inventoryScan is the number of the scan of a directory that makes the inventory. The scan before it
// checks whether there is an object, and finds the manifest that identifies the storage.
const inventoryScan = 2

// keep notes the files of manifests under a tag, or under none.
func (g *variedFixture) keep(repository, tag string, manifests ...*imagetest.Manifest) {
	if tag != "" {
		g.needed = append(g.needed, imagetest.TagPath(repository, tag))
	}
	for _, m := range manifests {
		g.needed = append(g.needed, imagetest.BlobPath(m.Digest()), imagetest.RevisionPath(repository, m.Digest()))
		for _, blob := range m.Blobs {
			stored := digest.FromBytes(blob.Content)
			g.needed = append(g.needed, imagetest.BlobPath(stored), imagetest.LayerPath(repository, blob.Digest()), imagetest.LayerPath(repository, stored))
		}
		g.keep(repository, "", m.Manifests...)
	}
}

// shape is all that is stored: files with what is in them, and directories.
func (s *fixture) shape() map[string]string {
	s.Helper()
	shape := map[string]string{}
	root := s.tree.Path("")
	s.must(filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			shape[name] = aDirectory
			return nil
		}
		content, err := os.ReadFile(path)
		shape[name] = digest.FromBytes(content).String()
		return err
	}))
	return shape
}

// restore puts back what is not as it was. Files keep their times, which tell the ages of
// uploads.
func (g *variedFixture) restore() {
	g.Helper()
	now := g.shape()
	for _, path := range slices.Backward(slices.Sorted(maps.Keys(now))) {
		if g.before[path] != now[path] {
			g.must(os.RemoveAll(g.tree.Path(path)))
		}
	}
	for _, path := range slices.Sorted(maps.Keys(g.before)) {
		switch {
		case now[path] == g.before[path]:
		case g.before[path] == aDirectory:
			g.tree.Mkdir(path)
		default:
			from := filepath.Join(g.copied, layoutRoot, path)
			content, err := os.ReadFile(from)
			g.must(err)
			g.tree.Write(path, string(content))
		}
	}
	g.age()
}

// age makes all repositories old, so that no run sees a push in what was just written. Otherwise the
// calls of a run would depend on the clock.
func (g *variedFixture) age() {
	g.Helper()
	g.tree.Age("repositories", time.Hour)
	if old := "repositories/app/_uploads/old-upload"; g.tree.Exists(old) { // it may be in a quarantine
		g.tree.Age(old, 1000*time.Hour)
	}
}

// inspected is what there is after a run, looked at once. It fails the test if something
// is gone, or changed, that an image needs, and if the images don't pull.
func (g *variedFixture) inspected(what string) map[string]string {
	g.Helper()
	now := g.shape()
	for _, path := range g.needed {
		if now[path] != g.before[path] {
			g.Errorf("%s: %s is gone", what, g.readable(path))
		}
	}
	if len(now) < len(g.before) { // or every file is as it was when they did
		g.pull(what, g.client, g.alive)
	}
	return now
}

// run runs a command.
func (g *variedFixture) run(args ...string) gcRun {
	g.Helper()
	return g.reported(append(args, "--registry-stopped", "--json")...)
}

// unlock takes away the lock of a run that was killed, which the next one would otherwise
// watch for a minute before it takes it over: see guard/lock_test.go.
func (g *variedFixture) unlock() {
	g.Helper()
	if err := os.Remove(g.tree.Path(".regsweep/lock")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		g.Fatal(err)
	}
}

// goesOn runs a command once more, which has to end as an undisturbed one does, and puts
// the ground back as it was.
func (g *variedFixture) goesOn(what string, args []string, want map[string]string) {
	g.Helper()
	g.unlock()
	if next := g.run(args...); next.code != 0 {
		g.Errorf("%s: the next run ends with %d: %s", what, next.code, next.report.Error)
	}
	if d := difference(g.shape(), want); d != "" {
		g.Errorf("%s: after the next run:%s", what, g.readable(d))
	}
	g.restore()
}

// confirmed fails the test where a report says of anything that it is removed and it is
// not, or the other way round (6).
func (g *variedFixture) confirmed(what string, run gcRun, now map[string]string) {
	g.Helper()
	gone := tallies{}
	for path := range g.before {
		if _, there := now[path]; there {
			continue
		}
		switch {
		case isBlob(path):
			gone.Blobs.Count++
		case strings.Contains(path, "/_layers/") && strings.HasSuffix(path, "/link"):
			gone.LayerLinks.Count++
		case strings.HasSuffix(path, "/link") && strings.Contains(path, "/revisions/") && !strings.Contains(path, "/signatures/"):
			gone.Revisions.Count++
		case strings.HasSuffix(path, "/link") && strings.Contains(path, "/index/"):
			gone.TagIndexEntries.Count++
		case strings.HasSuffix(path, "/current/link"):
			gone.Tags.Count++
		}
	}
	got := run.report.Removed
	if got.Blobs.Count != gone.Blobs.Count || got.LayerLinks.Count != gone.LayerLinks.Count ||
		got.Revisions.Count != gone.Revisions.Count || got.TagIndexEntries.Count+got.EarlierEntries.Count != gone.TagIndexEntries.Count || got.Tags.Count != gone.Tags.Count {
		g.Errorf("%s: it says that it removed %+v, and %+v is gone", what, got, gone)
	}
}

// difference says how two shapes differ.
func difference(got, want map[string]string) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got[name] != want[name] {
			fmt.Fprintf(&b, "\n  missing or changed: %s", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if want[name] == "" {
			fmt.Fprintf(&b, "\n  too much: %s", name)
		}
	}
	return b.String()
}

// undisturbed is what a run without any fault leaves, and the calls of it.
func (g *variedFixture) undisturbed(args []string) (after map[string]string, calls []string) {
	g.Helper()
	watch := &storeFault{at: -1}
	g.Run("undisturbed", func(t *testing.T) {
		watch.before(t, g.tree.Root())
		if run := g.run(args...); run.code != 0 || len(run.report.Removed.counts()) < 4 {
			t.Fatalf("ends with %d, removed %v, %s", run.code, run.report.Removed.counts(), run.report.Error)
		}
	})
	after = g.inspected("undisturbed")
	g.restore()
	return after, watch.seen
}

// oneByOne makes the calls of a run come in the same order every time.
const oneByOne = "--concurrency=1"

// judgeStop judges a run that a fault has disturbed. Where it ends well, what it leaves is
// what it should, or more.
func (g *variedFixture) judgeStop(what string, run gcRun, want map[string]string) {
	g.Helper()
	now := g.inspected(what)
	g.confirmed(what, run, now)
	switch run.code {
	case 0, 4:
		if run.code == 4 && len(run.report.Problems)+len(run.report.Failed) == 0 {
			g.Errorf("%s: it ends with 4 and names no problem", what)
		}
		goes := run.report.Garbage
		for _, failed := range run.report.Failed { // an upload with a file that was not listed
			of := goes.of(failed.Kind)
			of.Count, of.Bytes = of.Count-1, of.Bytes-failed.Bytes
			if failed.Kind != "upload" {
				g.Errorf("%s: %+v has failed", what, failed)
			}
		}
		if run.report.Removed != goes {
			g.Errorf("%s: it ends with %d and has removed %+v of %+v", what, run.code, run.report.Removed, goes)
		}
		for path := range want {
			if now[path] == "" && !strings.HasPrefix(path, ".regsweep") {
				g.Errorf("%s: %s is gone, which stays without the fault", what, g.readable(path))
			}
		}
	case 1, 5:
		if run.report.Error == "" {
			g.Errorf("%s: it ends with %d and does not say why", what, run.code)
		}
	default:
		g.Errorf("%s: it ends with %d: %s", what, run.code, run.report.Error)
	}
}

// flipped has one bit of its content flipped, another one for each n.
func flipped(n int) func(content []byte) []byte {
	return func(content []byte) []byte {
		if len(content) > 0 {
			bit := int(uint64(n) * 2654435761 % uint64(8*len(content)))
			content[bit/8] ^= 1 << (bit % 8)
		}
		return content
	}
}

// TestABitIsFlipped in whatever is read, a link or a manifest: what it said is not known
// then, and all that it could have kept is kept (1, 2).
func TestABitIsFlipped(t *testing.T) {
	t.Parallel()
	for _, command := range removing[:2] {
		t.Run(command.name, func(t *testing.T) {
			g := newVariedFixture(t, command.untagged)
			args := append(command.args(g), oneByOne)
			want, calls := g.undisturbed(args)
			flips := 0
			spoil := func(on, path string, n int) {
				if flips++; !isTried(flips, stride()) {
					return
				}
				what := fmt.Sprintf("bit %d, by %s of %s", n, on, path)
				g.Run(what, func(t *testing.T) {
					(&storeFault{on: on, path: path, spoil: flipped(n)}).before(t, g.tree.Root())
					run := g.run(args...)
					g.judgeStop(what, run, want)
				})
				g.restore()
			}
			for n, call := range calls {
				if on, path, _ := strings.Cut(call, " "); on == "Read" {
					spoil(on, path, n)
				}
			}
			n := 0
			for _, path := range slices.Sorted(maps.Keys(g.before)) {
				if strings.HasSuffix(path, "/link") && (strings.Contains(path, "/revisions/") && !strings.Contains(path, "/signatures/") || strings.Contains(path, "/current/")) {
					for range 2 {
						n++
						spoil("Scan", path, n)
					}
				}
			}
		})
	}
}

// TestAKeyIsMissingFromTheListing proves what docs/safety.md says of a listing that misses a
// key: each key of a small registry in turn is missing from the first listing, and from
// both. The first is seen, or costs nothing. Of the second this is what is lost, and no
// more: what nothing but the missing key has led to.
func TestAKeyIsMissingFromTheListing(t *testing.T) {
	t.Parallel()
	manyAlike(t)
	for _, command := range removing[:2] {
		t.Run(command.name, func(t *testing.T) {
			g := newVariedFixture(t, command.untagged)
			args := append(command.args(g), oneByOne)
			want, _ := g.undisturbed(args)
			tried, seen := 0, 0
			for _, key := range slices.Sorted(maps.Keys(g.before)) {
				if g.before[key] == aDirectory || strings.HasPrefix(key, ".regsweep") {
					continue
				}
				tried++
				what := key + " is missing from the first listing"
				g.Run(what, func(t *testing.T) {
					(&storeFault{on: "Scan", path: key, drop: true, scan: inventoryScan}).before(t, g.tree.Root())
					run := g.run(args...)
					if run.code == 1 {
						seen++
					}
					g.judgeStop(what, run, want)
				})
				g.restore()
			}
			t.Logf("%d of %d keys were seen to be missing", seen, tried)
			if seen < tried/3 {
				t.Errorf("only %d of %d keys were seen to be missing", seen, tried)
			}

			var lost []string
			for _, key := range slices.Sorted(maps.Keys(g.before)) {
				if g.before[key] == aDirectory || strings.HasPrefix(key, ".regsweep") {
					continue
				}
				(&storeFault{on: "Scan", path: key, drop: true}).before(t, g.tree.Root())
				run := g.run(args...)
				now := g.shape()
				if slices.ContainsFunc(g.needed, func(path string) bool { return now[path] != g.before[path] }) {
					lost = append(lost, key)
					if run.code != 0 {
						t.Errorf("with %s something is lost, and the run ends with %d", key, run.code)
					}
				}
				g.restore()
			}
			slices.Sort(g.sole)
			g.same("the keys with which something is lost that are missing from both listings", lost, g.sole)
		})
	}
}

// TestAPageIsMissingOrComesTwice in a listing: a page that comes twice changes nothing, and
// one that is missing is seen by the second listing, or costs nothing.
func TestAPageIsMissingOrComesTwice(t *testing.T) {
	t.Parallel()
	for _, command := range removing[:2] {
		t.Run(command.name, func(t *testing.T) {
			g := newVariedFixture(t, command.untagged)
			args := append(command.args(g), oneByOne)
			want, _ := g.undisturbed(args)
			for i, key := range slices.Sorted(maps.Keys(g.before)) {
				if g.before[key] == aDirectory || strings.HasPrefix(key, ".regsweep") || !isTried(i, 3*stride()) {
					continue
				}
				for what, f := range map[string]*storeFault{
					"the page is missing": {on: "Scan", path: key, drop: true, wholePage: true, scan: inventoryScan},
					"the key comes twice": {on: "Scan", path: key, twice: true},
				} {
					what = key + ": " + what
					g.Run(what, func(t *testing.T) {
						f.before(t, g.tree.Root())
						run := g.run(args...)
						g.judgeStop(what, run, want)
						if f.twice {
							if d := difference(g.shape(), want); d != "" || run.code != 0 {
								t.Errorf("ends with %d, %s:%s", run.code, run.report.Error, g.readable(d))
							}
						}
					})
					g.restore()
				}
			}
		})
	}
}

// The fakes in here are for faults alone, which no real storage has when a test wants
// it to. All else that they answer is a real storage's answer.

// faultyDriver is Distribution's filesystem driver with a fault in its reading. The
// program knows it by the name "faulty", as it would any driver that it has no code of
// its own for.
type faultyDriver struct {
	driver.StorageDriver
	*fault
}

// fault is a failure, and how often it was met.
type fault struct {
	// on is the operation: List, Stat or Reader.
	on string
	// path is the end of the path that it goes wrong with.
	path string
	err  error
	// times is how often it goes wrong; 0 is every time.
	times int64
	met   atomic.Int64
}

func (f *fault) strike(on, path string) error {
	if on != f.on || !strings.HasSuffix(path, f.path) {
		return nil
	}
	if n := f.met.Add(1); f.times > 0 && n > f.times {
		return nil
	}
	return f.err
}

func (d faultyDriver) List(ctx context.Context, path string) ([]string, error) {
	if err := d.strike("List", path); err != nil {
		return nil, err
	}
	return d.StorageDriver.List(ctx, path)
}

func (d faultyDriver) Stat(ctx context.Context, path string) (driver.FileInfo, error) {
	if err := d.strike("Stat", path); err != nil {
		return nil, err
	}
	return d.StorageDriver.Stat(ctx, path)
}

func (d faultyDriver) Reader(ctx context.Context, path string, offset int64) (io.ReadCloser, error) {
	if err := d.strike("Reader", path); err != nil {
		return nil, err
	}
	return d.StorageDriver.Reader(ctx, path, offset)
}

// faults are those of the drivers to come, by root directory.
var faults sync.Map

type faultyFactory struct{}

func (faultyFactory) Create(ctx context.Context, parameters map[string]any) (driver.StorageDriver, error) {
	f, ok := faults.Load(parameters["rootdirectory"])
	if !ok {
		return nil, fmt.Errorf("no fault for %v", parameters["rootdirectory"])
	}
	d, err := fsdriver.FromParameters(parameters)
	return faultyDriver{d, f.(*fault)}, err
}

func init() { factory.Register("faulty", faultyFactory{}) }

// withFault is the config.yml of the registry, its storage read through the driver that
// fails.
func (s *fixture) withFault(f *fault) string {
	s.Helper()
	root := s.tree.Root()
	faults.Store(root, f)
	s.Cleanup(func() { faults.Delete(root) })
	return s.config(strings.Replace(s.registry.ConfigYAML(), "  filesystem:\n", "  faulty:\n", 1))
}

// errUnavailable is what a driver makes of an answer with 503, once its own tries are
// used up.
var errUnavailable = errors.New("503 Service Unavailable")

// faultyFront stands before an S3 server, passes on what it is sent, and answers with a
// status of its own where it is told to.
type faultyFront struct {
	*httptest.Server
	// matches is asked of each request, with its body.
	matches func(r *http.Request, body string) bool
	status  int
	code    string // of the S3 error
	times   int64  // 0 is every time
	met     atomic.Int64
}

func (f *faultyFront) start(t testing.TB, endpoint string) {
	t.Helper()
	behind, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	pass := &httputil.ReverseProxy{ErrorLog: log.New(io.Discard, "", 0), Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(behind)
		r.Out.Host = r.In.Host // which is signed
	}}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("read a request: %v", err)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		if f.matches(r, string(body)) {
			if n := f.met.Add(1); f.times == 0 || n <= f.times {
				w.Header().Set("Content-Type", "application/xml")
				w.WriteHeader(f.status)
				if r.Method != http.MethodHead {
					fmt.Fprintf(w, "<Error><Code>%s</Code><Message>a fault on purpose</Message></Error>", f.code)
				}
				return
			}
		}
		pass.ServeHTTP(w, r)
	}))
	t.Cleanup(f.Close)
}

// behindFront is the config.yml of the registry in a bucket, reached through the front.
func (s *fixture) behindFront(f *faultyFront) string {
	s.Helper()
	f.start(s, s.s3.Endpoint)
	return s.config(strings.ReplaceAll(s.registry.ConfigYAML(), s.s3.Endpoint, f.URL))
}
