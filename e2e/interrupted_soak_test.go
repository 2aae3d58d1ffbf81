package e2e

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"regsweep/internal/imagetest"

	"github.com/opencontainers/go-digest"
)

var (
	soakFor  = flag.Duration("soak", 0, "how long TestSoak goes on; 0 for a few registries")
	soakSeed = flag.Uint64("soak-seed", 0, "the seed of TestSoak's first registry; 0 for one by the clock")
)

// TestSoak makes one random registry after the other, and runs into it with faults, kills
// and pushes. Whatever happens every live image pulls, and an undisturbed run at the end
// leaves exactly the blobs that an oracle says: it knows what was pushed and what became of
// it, and nothing of how the storage is read (1, 3).
func TestSoak(t *testing.T) {
	t.Parallel()
	seed := *soakSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	troubles := map[string]int{}
	few := 6
	if testing.Short() {
		few = 2
	}
	goesOn := func(n int) bool { return n < few }
	if *soakFor > 0 {
		end := time.Now().Add(*soakFor)
		goesOn = func(int) bool { return time.Now().Before(end) }
	}
	for n := 0; goesOn(n) && !t.Failed(); n++ {
		seed := seed + uint64(n)
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			s := newSoak(t, seed)
			for range 1 + s.IntN(3) {
				trouble := []string{"fault", "spoilt", "killed", "pushes", "quarantine"}[s.IntN(5)]
				troubles[trouble]++
				s.meets(trouble)
				if t.Failed() {
					t.Logf("after %s; again: make soak SOAK=1s SEED=%d", trouble, seed)
					return
				}
			}
			s.endsWell()
			if t.Failed() {
				t.Logf("again: make soak SOAK=1s SEED=%d", seed)
			}
		})
	}
	t.Logf("met: %v", troubles)
}

// soak is a random registry, and what is known of it.
type soak struct {
	*fixture
	*rand.Rand
	base     imagetest.Blob // a layer that everybody builds on
	number   int            // of layers
	tags     map[string]map[string]*imagetest.Manifest
	untagged map[string][]*imagetest.Manifest
	flags    []string
	mu       sync.Mutex
}

func newSoak(t *testing.T, seed uint64) *soak {
	s := &soak{
		fixture: newFixture(t), Rand: rand.New(rand.NewPCG(seed, 3)), base: layer(0), number: int(seed % 1_000_000),
		tags: map[string]map[string]*imagetest.Manifest{}, untagged: map[string][]*imagetest.Manifest{},
	}
	if s.IntN(3) > 0 {
		s.flags = append(s.flags, "-m")
	}
	if s.IntN(2) == 0 {
		s.flags = append(s.flags, "--prune-empty")
	}
	for _, repository := range []string{"app", "app/web", "team/one", "z"}[:1+s.IntN(4)] {
		s.tags[repository] = map[string]*imagetest.Manifest{}
		s.put(repository, "base", s.image())
		for range s.IntN(8) {
			switch m := s.manifest(); s.IntN(6) {
			case 0:
				s.put(repository, "", m)
			case 1: // deleted through the API, which leaves a directory behind
				s.plant(repository, "", m)
				s.tree.Remove(imagetest.RevisionPath(repository, m.Digest()))
				for _, entry := range m.Manifests { // which were not deleted with their index
					s.note(repository, "", entry)
				}
			case 2:
				s.put(repository, "", imagetest.Referrer(s.tags[repository]["base"], "application/vnd.example.signature", fmt.Append(nil, s.next())))
				s.put(repository, "v1", m)
			default:
				s.put(repository, fmt.Sprint("v", s.IntN(3)), m)
			}
		}
		for range s.IntN(4) {
			s.tree.LayerLink(repository, s.tree.Blob(layer(s.next()).Content))
			s.tree.Blob(layer(s.next()).Content)
		}
		s.tree.Upload(repository, fmt.Sprint("upload-", s.next()), time.Now().Add(-1000*time.Hour), []byte("half"))
	}
	s.tree.Age("", 48*time.Hour)
	return s
}

func (s *soak) next() int { s.number++; return s.number }

func (s *soak) image() *imagetest.Manifest {
	layers := []imagetest.Blob{s.base}
	for range 1 + s.IntN(3) {
		layers = append(layers, layer(s.next()))
	}
	return imagetest.Image(imagetest.Format(s.IntN(2)), layers...)
}

func (s *soak) manifest() *imagetest.Manifest {
	if s.IntN(3) == 0 {
		return imagetest.Index(imagetest.OCI, s.image(), s.image())
	}
	return s.image()
}

// put stores a manifest under a tag, which moves, or under none.
func (s *soak) put(repository, tag string, m *imagetest.Manifest) {
	s.plant(repository, tag, m)
	s.note(repository, tag, m)
}

// note is what the oracle learns.
func (s *soak) note(repository, tag string, m *imagetest.Manifest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if tag == "" {
		s.untagged[repository] = append(s.untagged[repository], m)
		return
	}
	if former := s.tags[repository][tag]; former != nil {
		s.untagged[repository] = append(s.untagged[repository], former)
	}
	s.tags[repository][tag] = m
}

// alive is the oracle: what has to pull, and the blobs that have to be there.
func (s *soak) alive() (images []image, blobs map[string]bool) {
	blobs = map[string]bool{}
	for repository, tags := range s.tags {
		of := image{repository: repository}
		live := map[digest.Digest]bool{}
		keep := func(m *imagetest.Manifest, reference string) {
			of.references = append(of.references, reference)
			for _, d := range m.Digests() {
				live[d] = true
				blobs[imagetest.BlobPath(d)] = true
			}
		}
		for tag, m := range tags {
			keep(m, tag)
		}
		for more := true; more; {
			more = false
			for _, m := range s.untagged[repository] {
				isAttached := false
				for d := range live {
					isAttached = isAttached || strings.Contains(string(m.Content), `"subject":`) && strings.Contains(string(m.Content), d.String())
				}
				if d := m.Digest(); !live[d] && (isAttached || !slices.Contains(s.flags, "-m")) {
					keep(m, d.String())
					more = true
				}
			}
		}
		images = append(images, of)
	}
	return images, blobs
}

// meets is a run that something happens to.
func (s *soak) meets(trouble string) {
	s.Helper()
	before, _ := s.alive()
	root := s.tree.Root()
	args := append([]string{"gc", root, "--json"}, s.flags...)
	switch trouble {
	case "quarantine":
		s.quarantines(append(args, "--quarantine", "--registry-stopped", oneByOne))
	case "fault", "spoilt":
		f := &storeFault{at: 1 + s.IntN(60), err: storeErrors[pickName(s.Rand, storeErrors)]}
		if trouble == "spoilt" {
			f = &storeFault{on: "Read", at: 1 + s.IntN(20), spoil: flipped(s.Int())}
		}
		f.mayMiss = true // nobody knows how many operations there are
		f.before(s.T, root)
		run := s.reported(append(args, "--registry-stopped", oneByOne)...)
		wrapped.Delete(root)
		if !slices.Contains([]int{0, 1, 4, 5}, run.code) {
			s.Errorf("%s: it ends with %d: %s", trouble, run.code, run.report.Error)
		}
	case "killed":
		run := start(s.T, append(args, "--registry-stopped", "--max-requests=500")...)
		time.Sleep(time.Duration(s.IntN(1500)) * time.Millisecond) // the moment of the kill is random too
		if run.ProcessState == nil {
			if err := run.Process.Kill(); err != nil {
				s.Fatal(err)
			}
		}
		run.exit(s.T)
	case "pushes":
		run := start(s.T, append(args, "--unsafe-online", "--min-age=24h", "--max-requests=800")...)
		var pushes sync.WaitGroup
		for range 3 {
			// All that is random is drawn here, in an order that the seed decides.
			repository := pickName(s.Rand, s.tags)
			images := []*imagetest.Manifest{s.image(), s.image()}
			tag := fmt.Sprint("v", s.IntN(3), "-", s.next())
			pushes.Go(func() {
				for _, m := range images {
					if err := s.client.Push(s.Context(), repository+":"+tag, m); err != nil {
						s.Errorf("push: %v", err)
						return
					}
					s.note(repository, tag, m)
				}
			})
		}
		pushes.Wait()
		if code := run.exit(s.T); code != 0 && code != 4 {
			s.Errorf("beside pushes it ends with %d: %s", code, &run.stderr)
		}
		if s.IntN(2) == 0 {
			s.tree.Age("", 48*time.Hour)
		}
		before, _ = s.alive()
	}
	if err := os.RemoveAll(s.tree.Path(".regsweep")); err != nil { // whose run was killed
		s.Fatal(err)
	}
	s.pull("after a run with "+trouble, s.client, before)
}

// quarantines moves what is garbage away, in a run or two, and puts it back byte for byte, or
// purges it. Faults come in between.
func (s *soak) quarantines(args []string) {
	s.Helper()
	first := s.shape()
	root := s.tree.Root()
	faultIn := func(args ...string) {
		f := &storeFault{at: 1 + s.IntN(100), err: storeErrors[pickName(s.Rand, storeErrors)], dies: s.IntN(2) == 0, mayMiss: true}
		f.before(s.T, root)
		s.reported(args...)
		wrapped.Delete(root)
		// A run that dies leaves its lock, in a directory that may have nothing else.
		for _, left := range []string{".regsweep/lock", ".regsweep"} {
			if err := os.Remove(s.tree.Path(left)); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) {
				s.Fatal(err)
			}
		}
	}
	if s.IntN(2) == 0 {
		faultIn(args...)
	}
	if run := s.reported(args...); run.code != 0 {
		s.Errorf("quarantine: it ends with %d: %s", run.code, run.report.Error)
	}
	images, _ := s.alive()
	s.pull("after moving", s.client, images)
	moved := s.shape()
	if s.IntN(3) == 0 {
		purge := []string{"quarantine", "purge", "--older-than", "0h", "--yes", "--json", oneByOne, root}
		faultIn(purge...)
		if run := s.reported(purge...); run.code != 0 {
			s.Errorf("purge: it ends with %d: %s", run.code, run.report.Error)
		}
		maps.DeleteFunc(moved, func(name, _ string) bool { return strings.HasPrefix(name, ".regsweep") })
		s.differsNot("purged", s.shape(), moved)
		return
	}
	for _, run := range slices.Sorted(maps.Keys(runsIn(moved))) {
		faultIn("quarantine", "restore", run, root, "--json", oneByOne)
	}
	s.restoreAll("after faults")
	s.differsNot("restored", filesOf(s.shape()), filesOf(first))
}

func (s *soak) differsNot(what string, got, want map[string]string) {
	s.Helper()
	if d := difference(got, want); d != "" {
		s.Errorf("%s:%s", what, d)
	}
}

// filesOf is a shape without its directories.
func filesOf(shape map[string]string) map[string]string {
	files := maps.Clone(shape)
	maps.DeleteFunc(files, func(_, content string) bool { return content == aDirectory })
	return files
}

// pickName picks a key.
func pickName[V any](r *rand.Rand, from map[string]V) string {
	names := slices.Sorted(maps.Keys(from))
	return names[r.IntN(len(names))]
}

// endsWell is an undisturbed run, after which there is what the oracle says.
func (s *soak) endsWell() {
	s.Helper()
	run := s.reported(append([]string{"gc", s.tree.Root(), "--json", "--registry-stopped"}, s.flags...)...)
	if run.code != 0 {
		s.Errorf("undisturbed it ends with %d: %s", run.code, run.report.Error)
	}
	images, blobs := s.alive()
	s.pull("at the end", s.client, images)
	var left []string
	for path := range s.files() {
		if isBlob(path) {
			left = append(left, path)
		}
	}
	slices.Sort(left)
	s.same("the blobs at the end", left, slices.Sorted(maps.Keys(blobs)))
	s.isTidy()
}

// isTidy fails the test if a directory is empty that no registry has left so.
func (s *soak) isTidy() {
	s.Helper()
	leaves, err := filepath.Glob(s.tree.Path("blobs/sha256/*"))
	s.must(err)
	for _, dir := range leaves {
		if entries, err := os.ReadDir(dir); err != nil || len(entries) == 0 {
			s.Errorf("%s is empty, %v", dir, err)
		}
	}
}
