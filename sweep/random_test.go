package sweep_test

import (
	"cmp"
	"context"
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
	"sync/atomic"
	"testing"
	"time"

	"regsweep/inventory"
	"regsweep/mark"
	"regsweep/policy"
	"regsweep/storage"
	"regsweep/sweep"
)

var (
	seedFlag  = flag.Uint64("seed", 1, "the first random registry")
	seedsFlag = flag.Int("seeds", 0, "how many random registries to try (default 100, and 4 with -short)")
)

func seeds() int {
	if *seedsFlag > 0 {
		return *seedsFlag
	}
	if testing.Short() {
		return 4
	}
	return 100
}

// Registries of all sorts, healthy and damaged, are collected under all options, and
// each time exactly that goes which the oracle says (promises 1, 2 and 5); a second
// run finds nothing, and a run that is interrupted and run again ends where an
// uninterrupted one does, with every tag whole in between (promise 3).
func TestRandomRegistries(t *testing.T) {
	for seed := *seedFlag; seed < *seedFlag+uint64(seeds()); seed++ {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			testRegistry(t, seed)
			if t.Failed() {
				t.Logf("again: go test ./sweep -run TestRandomRegistries -seed %d -seeds 1", seed)
			}
		})
	}
}

func testRegistry(t *testing.T, seed uint64) {
	young := seed%4 == 0
	d := generate(seed, seed%3 == 0, young)
	random := rand.New(rand.NewPCG(seed, 2))
	options := []rules{}
	for _, deleteUntagged := range []bool{false, true} {
		for _, pruneEmpty := range []bool{false, true} {
			r := rules{deleteUntagged: deleteUntagged, pruneEmpty: pruneEmpty, uploadAge: 7 * 24 * time.Hour}
			if young {
				r.minAge = 24 * time.Hour
			}
			options = append(options, r)
		}
	}
	root := d.put(t)
	if seed%5 == 1 {
		r := options[2] // with -m
		r.deleteUnlinkedChildren = true
		options = append(options, r, r, r)
	}
	if lines := listOf(d, random); len(lines) > 0 {
		r := options[2] // with -m
		r.roots, r.onlyRoots = lines, random.IntN(4) > 0
		options = append(options, r)
		_, err := tryPlan(t.Context(), openStore(t, root), r)
		if isRefused := err != nil && strings.Contains(err.Error(), "nothing tells what it keeps alive"); isRefused {
			options = options[:len(options)-1] // what it names is damaged
		} else if random.IntN(2) == 0 { // so that half of all runs have a list
			options = options[len(options)-1:]
		}
	}
	for _, r := range options {
		plan := planFor(t, root, r)
		want, _ := judge(d, r)
		for _, kind := range sweep.Kinds {
			sameNames(t, fmt.Sprintf("%+v: %s", r, kind), paths(plan)[string(kind)], want[string(kind)])
		}
		checkSizes(t, d, plan)
	}
	sameNames(t, "planning removes nothing", readDisk(t, root).names(), d.names())
	if t.Failed() {
		return
	}

	r := options[random.IntN(len(options))]
	_, gone := judge(d, r)
	left := newDisk()
	for path := range d.files {
		if !gone[path] {
			left.files[path] = file{}
		}
	}
	plan := planFor(t, root, r)
	result, err := plan.Execute(t.Context(), openStore(t, root), sweep.ExecuteOptions{})
	if err != nil {
		t.Fatalf("%+v: %v", r, err)
	}
	if !maps.Equal(result.Removed, plan.Garbage) {
		t.Errorf("%+v: a dry run says %v, and what was removed is %v", r, plan.Garbage, result.Removed)
	}
	after := readDisk(t, root)
	sameNames(t, fmt.Sprintf("%+v: what is left", r), after.names(), left.names())
	if again := planFor(t, root, r); again.Len() > 0 {
		t.Errorf("%+v: a second run removes %v", r, paths(again))
	}

	objects := len(gone)
	for range 3 {
		testInterruption(t, d, r, random.IntN(objects+1), random.IntN(2) == 0, after)
	}
	testTimeUp(t, d, r, random.IntN(objects+1), after)
	testLimit(t, d, r, random.Int64N(plan.Garbage[sweep.Blob].Bytes+plan.Garbage[sweep.Upload].Bytes+2)+1, after)
	for _, percent := range []int{100, 90, 50, 10} {
		testSelection(t, d, r, func(sweep.Removal) bool { return random.IntN(100) < percent }, after)
	}
	for _, kind := range sweep.Kinds {
		testSelection(t, d, r, func(removal sweep.Removal) bool { return removal.Kind != kind }, after)
	}
}

// testInterruption stops a run after so many objects, and runs again.
func testInterruption(t *testing.T, d *disk, r rules, objects int, killed bool, want *disk) {
	root := d.put(t)
	defer remove(t, root)
	store := openStore(t, root)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	remover := &faulty{Remover: store, layout: filepath.Join(root, storage.Root), left: objects, killed: killed, at: func() { cancel(errStopped) }}
	_, err := planFor(t, root, r).Execute(ctx, remover, sweep.ExecuteOptions{Bulk: storage.Bulk{Calls: 1}})
	if remover.met && !errors.Is(err, errStopped) {
		t.Errorf("%+v: interrupted after %d objects: %v", r, objects, err)
	}
	runAgain(t, fmt.Sprintf("%+v: interrupted after %d objects", r, objects), d, r, root, want)
}

// testTimeUp ends a run at a deadline, after so many objects, and runs again. It comes in the middle of a batch.
func testTimeUp(t *testing.T, d *disk, r rules, steps int, want *disk) {
	root := d.put(t)
	defer remove(t, root)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	var left atomic.Int64
	left.Store(int64(steps))
	ctx = storage.WithBegin(ctx, func() error {
		if left.Add(-1) < 0 {
			cancel(errStopped)
			return errStopped
		}
		return nil
	})
	what := fmt.Sprintf("%+v: the time is up after %d steps", r, steps)
	plan := planFor(t, root, r)
	if result, err := plan.Execute(ctx, openStore(t, root), sweep.ExecuteOptions{}); err != nil && !errors.Is(err, errStopped) || len(result.Failed) > 0 {
		t.Errorf("%s: %v, %v", what, err, result.Failed)
	}
	runAgain(t, what, d, r, root, want)
}

// testLimit removes the largest blobs and uploads that fit in a limit, and no other ones, and runs again.
func testLimit(t *testing.T, d *disk, r rules, maxBytes int64, want *disk) {
	root := d.put(t)
	defer remove(t, root)
	limited := r
	limited.maxBytes = maxBytes
	all, plan := planFor(t, root, r), planFor(t, root, limited)
	what := fmt.Sprintf("%+v", limited)

	var files []sweep.Removal
	for removal := range all.All() {
		if removal.Kind == sweep.Blob || removal.Kind == sweep.Upload {
			files = append(files, removal)
		}
	}
	slices.SortStableFunc(files, func(a, b sweep.Removal) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(string(a.Kind), string(b.Kind))) // blobs first
	})
	rest, planned := maxBytes, map[string]bool{}
	var left sweep.Left
	for _, removal := range files {
		switch {
		case removal.Bytes <= rest:
			rest -= removal.Bytes
			planned[removal.Path] = true
		case removal.Kind == sweep.Blob:
			left.Blobs.Add(1, removal.Bytes)
		default:
			left.Uploads.Add(1, removal.Bytes)
		}
		if removal.Bytes > maxBytes {
			left.TooLarge.Add(1, removal.Bytes)
		}
	}
	var links, wantLinks []string
	for removal := range all.All() {
		if removal.Kind.Form() == sweep.Links {
			wantLinks = append(wantLinks, removal.Path)
		}
	}
	for removal := range plan.All() {
		switch {
		case removal.Kind.Form() == sweep.Links:
			links = append(links, removal.Path)
		case removal.Kind.Form().HasBytes() && !planned[removal.Path]:
			t.Errorf("%s: it removes %s", what, removal.Path)
		}
		delete(planned, removal.Path)
	}
	if len(planned) > 0 || plan.Left != left {
		t.Errorf("%s: %v are missing; left is %+v, want %+v", what, planned, plan.Left, left)
	}
	sameNames(t, what+": links", links, wantLinks)
	if blobs := func(p *sweep.Plan) int { return p.Live.Blobs + p.Garbage[sweep.Blob].Count }; blobs(plan) != blobs(all) {
		t.Errorf("%s: %d blobs are kept or garbage, of %d", what, blobs(plan), blobs(all))
	}
	if result, err := plan.Execute(t.Context(), openStore(t, root), sweep.ExecuteOptions{}); err != nil || !maps.Equal(result.Removed, plan.Garbage) {
		t.Errorf("%s: it removes %v of %v: %v", what, result.Removed, plan.Garbage, err)
	}
	runAgain(t, what, d, r, root, want)
}

// runAgain checks that every tag is whole after a run that did not remove all garbage, and that another run ends in
// the wanted state.
func runAgain(t *testing.T, what string, d *disk, r rules, root string, want *disk) {
	between := readDisk(t, root)
	for _, path := range whole(d, r) {
		if _, found := between.files[path]; !found {
			t.Errorf("%s: a tag has lost %s", what, path)
		}
	}
	if _, err := planFor(t, root, r).Execute(t.Context(), openStore(t, root), sweep.ExecuteOptions{}); err != nil {
		t.Fatal(err)
	}
	after := readDisk(t, root)
	sameNames(t, what+", and run again", after.names(), want.names())
	if r.minAge > 0 { // where somebody may be pushing young directories stay
		return
	}
	sameNames(t, what+", and run again, directories", slices.Sorted(maps.Keys(after.dirs)), slices.Sorted(maps.Keys(want.dirs)))
}

var errStopped = errors.New("stopped on purpose")

// faulty removes so many objects and then none any more, as a storage that is lost,
// or a process that is killed.
type faulty struct {
	storage.Remover
	layout string // where the files are
	killed bool   // between the last file and its directory; the context ends at the same time
	at     func()

	mu   sync.Mutex
	left int
	met  bool
}

func (f *faulty) Remove(ctx context.Context, refs []storage.Ref) []storage.Outcome {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := min(f.left, len(refs))
	outcomes := f.Remover.Remove(ctx, refs[:n])
	f.left -= n
	if n < len(refs) && f.killed && !f.met {
		if err := os.Remove(filepath.Join(f.layout, refs[n].Path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			panic(err)
		}
	}
	for range refs[n:] {
		f.stop()
		outcomes = append(outcomes, storage.Outcome{Err: errStopped})
	}
	return outcomes
}

func (f *faulty) Prune(ctx context.Context, dir string) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.left == 0 {
		f.stop()
		return false, errStopped
	}
	return f.Remover.Prune(ctx, dir)
}

func (f *faulty) stop() {
	f.met = true
	if f.killed {
		f.at()
	}
}

// listOf is a list of some of what is in a registry, in all the forms that a line may have.
func listOf(d *disk, random *rand.Rand) (lines []string) {
	for _, path := range d.names() {
		if !strings.HasPrefix(path, "repositories/") || random.IntN(100) < 75 {
			continue
		}
		host := []string{"", "registry.example:5000/"}[random.IntN(2)]
		if name, rest, found := strings.Cut(strings.TrimPrefix(path, "repositories/"), "/_manifests/revisions/sha256/"); found && len(rest) > 64 && goodName.MatchString(name) {
			digest := "sha256:" + rest[:64]
			lines = append(lines, []string{digest, host + name + "@" + digest}[random.IntN(2)])
		}
		if name, rest, found := strings.Cut(strings.TrimPrefix(path, "repositories/"), "/_manifests/tags/"); found && goodName.MatchString(name) {
			tag, _, _ := strings.Cut(rest, "/")
			lines = append(lines, host+name+":"+tag)
		}
		if _, rest, found := strings.Cut(path, "/_layers/sha256/"); found && len(rest) > 64 && random.IntN(4) == 0 {
			lines = append(lines, "sha256:"+rest[:64])
		}
	}
	return lines
}

// planFor takes the whole way from the files to the plan.
func planFor(t testing.TB, root string, r rules) *sweep.Plan {
	t.Helper()
	plan, err := tryPlan(t.Context(), openStore(t, root), r)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

func tryPlan(ctx context.Context, store storage.Store, r rules) (*sweep.Plan, error) {
	return planOf(ctx, store, r, nil)
}

// planOf plans what is in a file and still garbage, or all garbage where there is none.
func planOf(ctx context.Context, store storage.Store, r rules, file *sweep.File) (*sweep.Plan, error) {
	listing := inventory.Options{}
	if r.minAge > 0 {
		listing.Since = now.Add(-r.minAge)
	}
	inv, err := inventory.Take(ctx, store, listing)
	if err != nil {
		return nil, err
	}
	ahead, err := readAhead(ctx, store, inv)
	if err != nil {
		return nil, err
	}
	var only *sweep.Selection
	if file != nil {
		if only, err = sweep.Select(ctx, file, inv, store); err != nil {
			return nil, err
		}
	}
	var lists []*mark.ListRoots
	if r.roots != nil {
		list, err := mark.ReadRoots("list", strings.NewReader(strings.Join(r.roots, "\n")))
		if err != nil {
			return nil, err
		}
		lists = append(lists, list.Find(inv))
	}
	graph, err := mark.Read(ctx, inv, store, mark.ReadOptions{Ahead: ahead, Lists: lists})
	if err != nil {
		return nil, err
	}
	roots := only.Roots(r.deleteUntagged, r.onlyRoots)
	if r.untag != nil && only != nil {
		facts := policy.Facts{Inventory: inv, Graph: graph}
		followers := facts.Followers(true)
		for i := range followers {
			if !r.deleteUntagged {
				facts.AddEarlier(i, followers[i])
			}
		}
		roots = only.RootsWithoutTags(func(repository int) []mark.Follower { return followers[repository] })
	} else if r.untag != nil {
		if roots, err = untagRoots(ctx, inv, graph, store, r); err != nil {
			return nil, err
		}
	}
	roots.Lists, roots.DeleteUnlinkedChildren = lists, r.deleteUnlinkedChildren
	live, err := graph.Live(ctx, roots)
	if err == nil {
		live, err = live.CheckLinks(ctx, store, 0)
	}
	if err != nil {
		return nil, err
	}
	return sweep.NewPlan(ctx, inv, live, store, sweep.Options{
		Now: now, MinAge: r.minAge, UploadAge: r.uploadAge, DeleteUntagged: r.deleteUntagged,
		PruneEmpty: r.pruneEmpty, AllowEmpty: !r.refuseEmpty, Only: only, RemovesTags: r.untag != nil, MaxBytes: r.maxBytes,
	})
}

// liveIn finds what is alive in an inventory.
func liveIn(ctx context.Context, inv *inventory.Inventory, store storage.Store, read mark.ReadOptions, roots mark.Roots) (*mark.Live, error) {
	graph, err := mark.Read(ctx, inv, store, read)
	if err != nil {
		return nil, err
	}
	live, err := graph.Live(ctx, roots)
	if err != nil {
		return nil, err
	}
	return live.CheckLinks(ctx, store, 0)
}

// readAhead reads every other manifest as a listing of a bucket would.
func readAhead(ctx context.Context, store storage.Store, inv *inventory.Inventory) (*mark.Ahead, error) {
	ahead := mark.NewAhead(store)
	read := map[inventory.ID]bool{}
	for _, r := range inv.Repositories {
		for _, link := range r.Revisions {
			id := link.ID()
			if id%2 == 0 || read[id] || !inv.Stored(id) {
				continue
			}
			read[id] = true
			if err := ahead.Read(ctx, inv, id); err != nil {
				return nil, err
			}
		}
	}
	return ahead, nil
}

// paths are the paths of a plan's removals below the layout's root, by kind.
func paths(plan *sweep.Plan) map[string][]string {
	removals := map[string][]string{}
	for removal := range plan.All() {
		path := strings.TrimPrefix(removal.Path, "/"+storage.Root+"/")
		removals[string(removal.Kind)] = append(removals[string(removal.Kind)], path)
	}
	return removals
}

// checkSizes proves that the bytes of a plan are those of the files.
func checkSizes(t *testing.T, d *disk, plan *sweep.Plan) {
	t.Helper()
	total := map[sweep.Kind]sweep.Tally{}
	for _, kind := range sweep.Kinds {
		total[kind] = sweep.Tally{}
	}
	total[sweep.EmptyDirectory] = plan.Garbage[sweep.EmptyDirectory] // which are no removals
	for removal := range plan.All() {
		var want int64
		path := strings.TrimPrefix(removal.Path, "/"+storage.Root+"/")
		for name, f := range d.files {
			if removal.Kind == sweep.Blob && name == path || removal.Kind == sweep.Upload && strings.HasPrefix(name, path+"/") {
				want += int64(len(f.content))
			}
		}
		if removal.Bytes != want {
			t.Errorf("%s gives back %d bytes, and has %d", path, removal.Bytes, want)
		}
		tally := total[removal.Kind]
		tally.Add(1, want)
		total[removal.Kind] = tally
	}
	byRepository, links := plan.Unlinked, 0
	for _, row := range plan.ByRepository {
		byRepository.Add(row.Blobs, row.Bytes)
		links += row.Links
	}
	allLinks := 0
	for kind, tally := range total {
		if kind.Form() == sweep.Links {
			allLinks += tally.Count
		}
	}
	if byRepository != total[sweep.Blob] || links != allLinks {
		t.Errorf("by repository there are %v and %d links, and %v and %d in all", byRepository, links, total[sweep.Blob], allLinks)
	}
	if !maps.Equal(total, plan.Garbage) {
		t.Errorf("the plan counts %v, and lists %v", plan.Garbage, total)
	}
}
