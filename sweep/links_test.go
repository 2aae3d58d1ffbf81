package sweep_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"regsweep/inventory"
	"regsweep/mark"
	"regsweep/storage"
	"regsweep/storage/layout"
	"regsweep/sweep"
)

// Two plans of one registry can be compared line by line: links to what is not stored
// are in the order of their digests too, and not in that of a directory.
func TestLinksAreInOrder(t *testing.T) {
	d := worn(1)
	for i := range 100 {
		d.layer(fmt.Sprintf("lost%d", i%2), sha256Of(fmt.Sprint("lost", i)))
	}
	var order []string
	for removal := range planFor(t, d.put(t), thorough).All() {
		if removal.Kind == sweep.LayerLink && (removal.Repository == "lost0" || removal.Repository == "lost1") {
			order = append(order, removal.Repository+" "+string(removal.Digest))
		}
	}
	if len(order) != 100 || !slices.IsSorted(order) {
		t.Errorf("%d links, in this order: %q", len(order), order)
	}
}

// halfListed is a storage whose listing has the size of every second blob.
type halfListed struct{ storage.Store }

func (h halfListed) Scan(ctx context.Context, dir string, visit func([]storage.Object) error) error {
	return h.Store.Scan(ctx, dir, func(page []storage.Object) error {
		for i := range page {
			if dir == storage.BlobsDir && i%2 == 0 && !page[i].Dir {
				object, err := h.Stat(ctx, page[i].Path)
				if err != nil {
					return err
				}
				page[i].Size, page[i].Named = object.Size, false
			}
		}
		return visit(page)
	})
}

// The size of garbage comes from the storage: from its listing, or from a stat.
func TestSizesOfWhatGoes(t *testing.T) {
	d := worn(0)
	want := sweep.Tally{}
	for i := range 20 {
		content := fmt.Sprintf("%*d", 100+i*i, i)
		d.blob(content)
		want.Add(1, int64(len(content)))
	}
	store := halfListed{openStore(t, d.put(t))}
	inventory, err := inventory.Take(t.Context(), store, inventory.Options{})
	if err != nil {
		t.Fatal(err)
	}
	live, err := liveIn(t.Context(), inventory, store, mark.ReadOptions{}, mark.Roots{})
	if err != nil {
		t.Fatal(err)
	}
	plan, err := sweep.NewPlan(t.Context(), inventory, live, store, sweep.Options{Now: now, AllowEmpty: true})
	if err != nil {
		t.Fatal(err)
	}
	got := sweep.Tally{}
	for removal := range plan.All() {
		if removal.Kind == sweep.Blob {
			got.Add(1, removal.Bytes)
		}
	}
	if got != want || plan.Garbage[sweep.Blob] != want {
		t.Errorf("%+v, counted %+v, want %+v", got, plan.Garbage[sweep.Blob], want)
	}
}

// A plan removes the same if the inventory has sizes already: then it knows which blobs are young and
// which files have other hard links.
func TestRequestedSizesChangeNoPlan(t *testing.T) {
	d := worn(1)
	d.blob("with another hard link")
	root := d.put(t)
	path := filepath.Join(root, "docker/registry/v2", layout.BlobPath(digest.FromString("with another hard link")))
	if err := os.Link(path, filepath.Join(root, "copy")); err != nil {
		t.Fatal(err)
	}
	store := openStore(t, root)
	plans := map[bool]string{}
	for _, sizes := range []bool{false, true} {
		inv, err := inventory.Take(t.Context(), store, inventory.Options{Since: now.Add(-time.Hour), Sizes: sizes})
		if err != nil {
			t.Fatal(err)
		}
		live, err := liveIn(t.Context(), inv, store, mark.ReadOptions{}, mark.Roots{})
		if err != nil {
			t.Fatal(err)
		}
		plan, err := sweep.NewPlan(t.Context(), inv, live, store, sweep.Options{Now: now, MinAge: time.Hour, AllowEmpty: true})
		if err != nil {
			t.Fatal(err)
		}
		if plan.HardLinked.Count != 1 {
			t.Errorf("sizes %t: hard linked %+v", sizes, plan.HardLinked)
		}
		plans[sizes] = fmt.Sprint(slices.Collect(plan.All()), plan.Garbage, plan.HardLinked)
	}
	if plans[false] != plans[true] {
		t.Errorf("without\n%s\nwith\n%s", plans[false], plans[true])
	}
}
