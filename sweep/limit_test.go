package sweep_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"regsweep/storage"
	"regsweep/sweep"
)

// sized is a blob of n bytes that nothing reaches.
func (d *disk) sized(name string, n int) (path string) {
	return blobFile(d.blob(name + strings.Repeat("-", n-len(name))))
}

// The largest blobs go first, so that a run that ends early has freed the most. Blobs of one size go in the order of
// their digests.
func TestTheLargestBlobsGoFirst(t *testing.T) {
	d := worn(1)
	for i := range 20 {
		d.sized("s"+string(rune('a'+i)), 100*(i*7%5+1))
	}
	root := d.put(t)
	store := &recorder{Remover: openStore(t, root)}
	if _, err := planFor(t, root, thorough).Execute(t.Context(), store, sweep.ExecuteOptions{Bulk: storage.Bulk{Objects: 1, Calls: 1}}); err != nil {
		t.Fatal(err)
	}
	var removed []string
	for _, call := range store.calls {
		if kindOf(call[0]) == "blob" {
			removed = append(removed, call[0])
		}
	}
	want := slices.Sorted(slices.Values(removed))
	slices.SortStableFunc(want, func(a, b string) int { return len(d.files[b].content) - len(d.files[a].content) })
	if len(removed) < 20 || !slices.Equal(removed, want) {
		t.Errorf("they go in this order: %v\nwant %v", removed, want)
	}
	// A run that is stopped has removed the largest ones, and counts their bytes.
	refusing := &recorder{Remover: openStore(t, d.put(t)), refuse: func(path string) error {
		if slices.Contains(want[5:], path) {
			return errStopped
		}
		return nil
	}}
	plan := planFor(t, d.put(t), thorough)
	result, err := plan.Execute(t.Context(), refusing, sweep.ExecuteOptions{Bulk: storage.Bulk{Objects: 1, Calls: 1}})
	bytes := int64(0)
	for _, path := range want[:5] {
		bytes += int64(len(d.files[path].content))
	}
	if got := result.Removed[sweep.Blob]; !errors.Is(err, errStopped) || got != (sweep.Tally{Count: 5, Bytes: bytes}) {
		t.Errorf("it has removed %+v, want 5 blobs of %d bytes: %v", got, bytes, err)
	}
	if path := strings.TrimPrefix(result.Failed[0].Path, "/"+storage.Root+"/"); path != want[5] {
		t.Errorf("%s has failed, want %s", path, want[5])
	}
}

// A limit takes the largest blobs and uploads that fit, and says what it leaves. A repository with an upload that is
// left stays. A file with other hard links counts, although its removal frees nothing.
func TestALimitTakesTheLargestThatFit(t *testing.T) {
	d := newDisk()
	d.tag("app", "v1", d.image("app", "alive"))
	huge, hardLinked, second, third, tiny := d.sized("huge", 2000), d.sized("hard linked", 700), d.sized("second", 300), d.sized("third", 299), d.sized("tiny", 10)
	d.upload("old", "u1", old, strings.Repeat("u", 250))
	root := d.put(t)
	if err := os.Link(filepath.Join(root, storage.Root, hardLinked), filepath.Join(root, "copy")); err != nil {
		t.Fatal(err)
	}
	r := rules{uploadAge: time.Hour, pruneEmpty: true, maxBytes: 1010}
	plan := planFor(t, root, r)
	sameNames(t, "blobs", paths(plan)["blob"], []string{hardLinked, second, tiny})
	sameNames(t, "uploads", paths(plan)["upload"], nil)
	sameNames(t, "repositories", paths(plan)["repository"], nil)
	uploaded := int64(250 + len(d.files["repositories/old/_uploads/u1/startedat"].content))
	want := sweep.Left{
		Blobs: sweep.Tally{Count: 2, Bytes: 2299}, Uploads: sweep.Tally{Count: 1, Bytes: uploaded}, TooLarge: sweep.Tally{Count: 1, Bytes: 2000},
	}
	if plan.Left != want {
		t.Errorf("it leaves %+v, want %+v", plan.Left, want)
	}
	if plan.HardLinked != (sweep.Tally{Count: 1, Bytes: 700}) || plan.Unlinked != (sweep.Tally{Count: 3, Bytes: 1010}) {
		t.Errorf("hard linked %+v, unlinked %+v", plan.HardLinked, plan.Unlinked)
	}
	kept := map[sweep.Kept]bool{}
	for _, row := range plan.Kept {
		kept[row] = true
	}
	for _, row := range []sweep.Kept{{Reason: sweep.KeptLimit, Blobs: 2, Bytes: 2299}, {Reason: sweep.KeptLimit, Repository: "old", Blobs: 1, Bytes: uploaded}} {
		if !kept[row] {
			t.Errorf("%+v has no row among %+v", row, plan.Kept)
		}
	}
	result, err := plan.Execute(t.Context(), openStore(t, root), sweep.ExecuteOptions{})
	if err != nil || result.HardLinked != plan.HardLinked {
		t.Errorf("%+v, %v", result, err)
	}
	after := readDisk(t, root)
	for _, path := range []string{huge, third} {
		if _, found := after.files[path]; !found {
			t.Errorf("%s has gone", path)
		}
	}
	d.sized("as huge", 2000)
	r.maxBytes = 2000
	if left := planFor(t, d.put(t), r).Left; left.Blobs.Count != 5 || left.TooLarge.Count != 0 {
		t.Errorf("of two blobs that are as large as the limit it leaves %+v", left)
	}
	r.maxBytes = 0
	rest := planFor(t, root, r)
	sameNames(t, "blobs of the next run", paths(rest)["blob"], []string{huge, third})
	sameNames(t, "repositories of the next run", paths(rest)["repository"], []string{"repositories/old"})
}

// A line of a plan file that does not fit in the limit is left out, with the reason.
func TestALimitLeavesOutLinesOfAPlan(t *testing.T) {
	d := newDisk()
	d.tag("app", "v1", d.image("app", "alive"))
	large, small := d.sized("large", 500), d.sized("small", 400)
	d.upload("app", "u1", old, "u")
	root := d.put(t)
	r := rules{uploadAge: time.Hour}
	file, err := sweep.OpenFile(strings.NewReader(write(t, planFor(t, root, r))))
	if err != nil {
		t.Fatal(err)
	}
	r.maxBytes = 410
	plan, err := planOf(t.Context(), openStore(t, root), r, file)
	if err != nil {
		t.Fatal(err)
	}
	sameNames(t, "blobs", paths(plan)["blob"], []string{small})
	left := map[string]sweep.Reason{}
	if err := plan.LeftOut(file, func(removal sweep.Removal, reason sweep.Reason) { left[removal.Path] = reason }); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{large, "repositories/app/_uploads/u1"} {
		if left["/"+storage.Root+"/"+path] != sweep.KeptLimit {
			t.Errorf("%s is left out because of %q", path, left["/"+storage.Root+"/"+path])
		}
	}
	if len(left) != 2 {
		t.Errorf("%v are left out", left)
	}
}
