package sweep_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"regsweep/audit"
	"regsweep/internal/audittest"
	"regsweep/inventory"
	"regsweep/mark"
	"regsweep/policy"
	"regsweep/storage"
	"regsweep/sweep"
)

// The bytes of a tag in a report are those that a run frees which removes only this tag, and --free removes the
// fewest of the oldest tags with which a run frees enough. If manifests that only an index leads to are deleted, a
// tag may free more.
func TestThePromisedBytesAreFreed(t *testing.T) {
	for seed := *seedFlag; seed < *seedFlag+uint64(seeds()); seed++ {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			testFreed(t, seed)
			if t.Failed() {
				t.Logf("again: go test ./sweep -run TestThePromisedBytesAreFreed -seed %d -seeds 1", seed)
			}
		})
	}
}

func testFreed(t *testing.T, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 6))
	d := generate(seed, false, seed%2 == 0)
	r := rules{uploadAge: uploadAge, deleteUntagged: random.IntN(2) == 0, deleteUnlinkedChildren: random.IntN(4) == 0, untag: map[string]bool{}}
	if seed%2 == 0 {
		r.minAge = 24 * time.Hour
	}
	if seed%3 == 0 {
		r.roots = listOf(d, random)
	}
	d.follow(random, r.deleteUntagged)
	repositories := newOracle(d, rules{}).repos
	var names []string // of all tags
	for _, name := range slices.Sorted(maps.Keys(repositories)) {
		for _, tag := range slices.Sorted(maps.Keys(repositories[name].tags())) {
			if path := tagFile(name, tag); d.files[path].content != "" && followerName.FindString(tag) == "" {
				names = append(names, name+":"+tag)
				d.files[path] = file{d.files[path].content, old + time.Duration(random.IntN(5))*time.Hour}
			}
		}
	}
	root := d.put(t)
	for _, path := range d.names() {
		if _, isBlob := storedBlob(path); isBlob && random.IntN(10) == 0 {
			if err := os.Link(filepath.Join(root, storage.Root, path), filepath.Join(root, fmt.Sprint("copy", random.Uint64()))); err != nil {
				t.Fatal(err)
			}
		}
	}
	freed := func(names []string) int64 {
		with := r
		with.untag = map[string]bool{}
		for _, name := range names {
			with.untag[name] = true
		}
		plan, err := tryPlan(t.Context(), openStore(t, root), with)
		if err != nil {
			t.Fatal(err)
		}
		return plan.Garbage[sweep.Blob].Bytes + plan.Garbage[sweep.Upload].Bytes - plan.HardLinked.Bytes
	}

	store := openStore(t, root)
	options := audittest.Bill
	if r.minAge > 0 {
		options.Since = now.Add(-r.minAge)
	}
	inv, err := inventory.Take(t.Context(), store, options)
	if err != nil {
		t.Fatal(err)
	}
	var lists []*mark.ListRoots
	if r.roots != nil {
		list, err := mark.ReadRoots("list", strings.NewReader(strings.Join(r.roots, "\n")))
		if err != nil {
			t.Fatal(err)
		}
		lists = append(lists, list.Find(inv))
	}
	graph, err := mark.Read(t.Context(), inv, store, mark.ReadOptions{Lists: lists})
	if err != nil {
		t.Fatal(err)
	}
	p, _, err := policy.Untag(names)
	if err != nil {
		t.Fatal(err)
	}
	decision, err := p.Decide(t.Context(), policy.Facts{Inventory: inv, Graph: graph, Lists: lists, Reader: store, Now: now}, policy.Options{DeleteUntagged: r.deleteUntagged, DeleteUnlinkedChildren: r.deleteUnlinkedChildren})
	if err != nil {
		t.Fatal(err)
	}
	roots := func() mark.Roots {
		of := decision.Roots()
		of.Lists, of.DeleteUnlinkedChildren = lists, r.deleteUnlinkedChildren
		return of
	}
	facts := audit.Facts{Inventory: inv, Graph: graph, Now: now, UploadAge: r.uploadAge}
	of := roots()
	of.Followers = decision.Followers
	alone, err := audit.Alone(t.Context(), facts, of)
	if err != nil {
		t.Fatal(err)
	}
	bytes := alone.Bytes(func(id inventory.ID) int64 {
		bytes, exact := inv.Size(id)
		if !exact {
			return 0
		}
		return bytes
	})
	today, all := freed(nil), freed(names)
	for _, tag := range decision.Tags {
		of := inv.Repositories[tag.Repository]
		name := of.Name + ":" + of.Tags[tag.Tag].Name
		if got, want := bytes(tag.TagPlace), freed([]string{name})-today; got > want || got < want && !r.deleteUnlinkedChildren {
			t.Errorf("%+v: %s alone: %d bytes, and %d are freed", r, name, got, want)
		}
	}
	if t.Failed() || all == today {
		return
	}
	wanted := today + random.Int64N(all-today+all/10)
	err = decision.Spare(func() (bool, error) {
		live, err := graph.Live(t.Context(), roots())
		return err == nil && facts.Freed(live) >= wanted, err
	})
	if err != nil {
		t.Fatal(err)
	}
	var removed []policy.DecidedTag
	for _, tag := range decision.Tags {
		if tag.Remove {
			removed = append(removed, tag)
		}
	}
	slices.SortStableFunc(removed, func(a, b policy.DecidedTag) int { return a.Time.Compare(b.Time) })
	names = nil
	for _, tag := range removed {
		of := inv.Repositories[tag.Repository]
		names = append(names, of.Name+":"+of.Tags[tag.Tag].Name)
	}
	if freed(names) < wanted && len(removed) < len(decision.Tags) {
		t.Errorf("%+v: %d bytes are wanted, and %d are freed, of %d", r, wanted, freed(names), all)
	}
	if n := len(names); n > 0 && freed(names[:n-1]) >= wanted {
		t.Errorf("%+v: %d bytes are wanted, and one tag less frees %d", r, wanted, freed(names[:n-1]))
	}
	for _, tag := range decision.Tags {
		if last := len(removed) - 1; !tag.Remove && last >= 0 && tag.Time.Before(removed[last].Time) {
			t.Errorf("a tag of %v is spared, and one of %v is not", tag.Time, removed[last].Time)
		}
	}
}
