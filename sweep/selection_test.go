package sweep_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"regsweep/inventory"
	"regsweep/mark"
	"regsweep/storage"
	"regsweep/sweep"
)

// testSelection applies some lines of a plan. The run removes the objects that the oracle names, and
// keeps every tag whole. A full run after it ends in the same state as a full run without it
// (promises 1 and 3).
func testSelection(t *testing.T, d *disk, r rules, take func(sweep.Removal) bool, want *disk) {
	t.Helper()
	root := d.put(t)
	defer remove(t, root)
	file, taken := selectLines(t, planFor(t, root, r), take)
	selected := r
	selected.only = map[string]bool{}
	for path := range taken {
		selected.only[path] = true
	}
	plan, err := planOf(t.Context(), openStore(t, root), r, file)
	if err != nil {
		t.Fatal(err)
	}
	removals, gone := judge(d, selected)
	what := fmt.Sprintf("%+v, %d of the lines", r, len(taken))
	for _, kind := range sweep.Kinds {
		sameNames(t, what+": "+string(kind), paths(plan)[string(kind)], removals[string(kind)])
	}
	leftOut := map[string]bool{}
	if err := plan.LeftOut(file, func(removal sweep.Removal, _ sweep.Reason) { leftOut[below(removal)] = true }); err != nil {
		t.Fatal(err)
	}
	for removal := range plan.All() {
		if leftOut[below(removal)] {
			t.Errorf("%s: %s goes, and is said to be left out", what, removal.Path)
		}
	}
	if plan.Len()+len(leftOut) != len(taken) {
		t.Errorf("%s: %d go and %d are left out", what, plan.Len(), len(leftOut))
	}
	checkSizes(t, d, plan)
	if _, err := plan.Execute(t.Context(), openStore(t, root), sweep.ExecuteOptions{}); err != nil {
		t.Fatal(err)
	}
	left := newDisk()
	for path, f := range d.files {
		if !gone[path] {
			left.files[path] = f
		}
	}
	after := readDisk(t, root)
	sameNames(t, what+": what is left", after.names(), left.names())
	for _, path := range whole(d, r) {
		if _, found := after.files[path]; !found {
			t.Errorf("%s: a tag has lost %s", what, path)
		}
	}
	if r.untag != nil { // a part of it may leave manifests that are untagged now
		return
	}
	if _, err := planFor(t, root, r).Execute(t.Context(), openStore(t, root), sweep.ExecuteOptions{}); err != nil {
		t.Fatal(err)
	}
	sameNames(t, what+", and then all", readDisk(t, root).names(), want.names())
}

func below(removal sweep.Removal) string {
	return strings.TrimPrefix(removal.Path, "/"+storage.Root+"/")
}

// selectLines writes a plan out and takes lines from it, as one would with jq.
func selectLines(t *testing.T, plan *sweep.Plan, take func(sweep.Removal) bool) (file *sweep.File, taken map[string]sweep.Removal) {
	t.Helper()
	var written, cut, remade bytes.Buffer
	if _, err := plan.WriteTo(&written); err != nil {
		t.Fatal(err)
	}
	taken = map[string]sweep.Removal{}
	lines := strings.SplitAfter(written.String(), "\n")
	cut.WriteString(lines[0])
	for _, line := range lines[1 : len(lines)-2] {
		var removal sweep.Removal
		if err := json.Unmarshal([]byte(line), &removal); err != nil {
			t.Fatal(err)
		}
		if take(removal) {
			taken[below(removal)] = removal
			cut.WriteString(line)
		}
	}
	if err := sweep.Remake(&remade, bytes.NewReader(cut.Bytes())); err != nil {
		t.Fatal(err)
	}
	file, err := sweep.OpenFile(bytes.NewReader(remade.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	return file, taken
}

// Every line that is left out has its reason, and what a file says beyond names and
// digests counts for nothing.
func TestReasonsForLeavingOut(t *testing.T) {
	d := newDisk()
	d.tag("app", "latest", d.image("app", "current"))
	for _, text := range []string{"tagged again", "goes", "below an index", "struck", "damaged"} {
		repository := "app"
		if text == "damaged" {
			repository = "bad"
		}
		d.image(repository, text)
	}
	moved := d.image("app", "moved")
	d.write(indexFile("app", "latest", moved), moved)
	d.layer("left", d.blob("linked, and its link is struck"))
	d.layer("left", d.blob("gone later"))
	d.upload("app", "dated anew", old, "half")
	d.upload("left", "gone", old, "half")
	d.blob("written anew")
	root := d.put(t)
	r := rules{deleteUntagged: true, pruneEmpty: true, minAge: 24 * 30 * time.Hour, uploadAge: 24 * time.Hour}
	struck := map[string]bool{
		revisionFile("app", imageOf("struck")): true, indexFile("app", "latest", moved): true,
		layerFile("left", sha256Of("linked, and its link is struck")): true,
	}
	reviewed, taken := selectLines(t, planFor(t, root, r), func(removal sweep.Removal) bool { return !struck[below(removal)] })

	d.tag("app", "again", imageOf("tagged again"))
	index := d.blob(json1(map[string]any{"schemaVersion": 2, "mediaType": ociIndex, "manifests": []any{
		descriptor(ociImage, imageOf("below an index"), len(d.files[blobFile(imageOf("below an index"))].content)),
	}}))
	d.revision("app", index)
	d.write(layerFile("bad", sha256Of("rotten")), "no digest")
	for _, path := range []string{layerFile("left", sha256Of("gone later")), blobFile(sha256Of("gone later"))} {
		delete(d.files, path)
	}
	for path := range d.files {
		if strings.HasPrefix(path, "repositories/left/_uploads/gone/") {
			delete(d.files, path)
		}
	}
	d.upload("app", "dated anew", time.Hour, "half")
	d.files[blobFile(sha256Of("written anew"))] = file{"written anew", time.Hour}
	plan, err := planOf(t.Context(), openStore(t, d.put(t)), r, reviewed)
	if err != nil {
		t.Fatal(err)
	}

	image := func(reason sweep.Reason, repository, text string, revision bool) (want map[string]sweep.Reason) {
		want = map[string]sweep.Reason{blobFile(imageOf(text)): reason}
		if revision {
			want[revisionFile(repository, imageOf(text))] = reason
		}
		for _, blob := range []string{"config of ", "layer of "} {
			want[blobFile(sha256Of(blob+text))], want[layerFile(repository, sha256Of(blob+text))] = reason, reason
		}
		return want
	}
	want := map[string]sweep.Reason{
		layerFile("left", sha256Of("gone later")):            sweep.LeftGone,
		blobFile(sha256Of("gone later")):                     sweep.LeftGone,
		"repositories/left/_uploads/gone":                    sweep.LeftGone,
		"repositories/left":                                  sweep.LeftNotEmpty,
		blobFile(sha256Of("linked, and its link is struck")): sweep.KeptLinked,
		"repositories/app/_uploads/dated anew":               sweep.KeptUpload,
		blobFile(sha256Of("written anew")):                   sweep.KeptAge,
		"repositories/bad":                                   sweep.LeftNotEmpty,
	}
	for _, rows := range []map[string]sweep.Reason{
		image(sweep.LeftTagged, "app", "tagged again", true), image(sweep.KeptUntagged, "app", "below an index", true),
		image(sweep.KeptUntagged, "app", "struck", false), image(sweep.KeptDamage, "bad", "damaged", true),
		image(sweep.KeptUntagged, "app", "moved", true), {revisionFile("app", moved): sweep.KeptLinked},
	} {
		maps.Copy(want, rows)
	}
	got := map[string]sweep.Reason{}
	err = plan.LeftOut(reviewed, func(removal sweep.Removal, reason sweep.Reason) { got[below(removal)] = reason })
	if err != nil {
		t.Fatal(err)
	}
	for path := range taken {
		if got[path] != want[path] {
			t.Errorf("%s is left out for %q, want %q", path, got[path], want[path])
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d are left out, want %d", len(got), len(want))
	}
	sameNames(t, "goes", paths(plan)["blob"], []string{
		blobFile(imageOf("goes")), blobFile(sha256Of("config of goes")), blobFile(sha256Of("layer of goes")),
	})
}

// No line, whatever it says, removes what gc with the plan's options would not, or
// anything but what it names.
func TestLinesWrittenByHand(t *testing.T) {
	d := worn(1)
	d.tag("other", "v1", d.image("other", "alive"))
	d.layer("other", sha256Of("a blob that is gone, and its link is not"))
	root := d.put(t)
	current := imageOf("current")
	var written strings.Builder
	written.WriteString(strings.SplitAfter(write(t, planFor(t, root, thorough)), "\n")[0])
	dead := sha256Of("unreferenced0")
	for _, line := range []map[string]any{
		{"kind": "blob", "digest": current},
		{"kind": "blob", "digest": sha256Of("a blob that is gone, and its link is not")},
		{"kind": "blob", "digest": dead, "repository": "app", "path": "/docker/registry/v2/" + blobFile(current), "bytes": -5},
		{"kind": "layer_link", "digest": dead, "repository": "left0", "path": "/etc/passwd", "tag": "latest"},
		{"kind": "layer_link", "digest": dead, "repository": "app"},
		{"kind": "layer_link", "digest": dead, "repository": "../left0"},
		{"kind": "revision", "digest": current, "repository": "app"},
		{"kind": "tag_index_entry", "digest": current, "repository": "app", "tag": "latest"},
		{"kind": "tag_index_entry", "digest": current, "repository": "app", "tag": "nowhere"},
		{"kind": "upload", "upload": "upload0"},
		{"kind": "upload", "upload": "../../_layers", "repository": "app"},
		{"kind": "repository", "repository": "app"},
	} {
		written.WriteString(json1(line) + "\n")
	}
	var remade bytes.Buffer
	if err := sweep.Remake(&remade, strings.NewReader(written.String())); err != nil {
		t.Fatal(err)
	}
	file, err := sweep.OpenFile(bytes.NewReader(remade.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	plan, err := planOf(t.Context(), openStore(t, root), thorough, file)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for removal := range plan.All() {
		got = append(got, below(removal))
	}
	sameNames(t, "goes", got, []string{layerFile("left0", dead), blobFile(dead)})
	if err := plan.LeftOut(file, func(sweep.Removal, sweep.Reason) { got = append(got, "left out") }); err != nil || len(got) != file.Removals {
		t.Errorf("%d of %d lines are accounted for: %v", len(got), file.Removals, err)
	}
}

// A selection that the mark does not know of is a mistake, which removes nothing.
func TestSelectionWithoutItsMark(t *testing.T) {
	root := worn(1).put(t)
	store := openStore(t, root)
	file, _ := selectLines(t, planFor(t, root, thorough), func(removal sweep.Removal) bool { return removal.Kind != sweep.Revision })
	inv, err := inventory.Take(t.Context(), store, inventory.Options{})
	if err != nil {
		t.Fatal(err)
	}
	only, err := sweep.Select(t.Context(), file, inv, store)
	if err != nil {
		t.Fatal(err)
	}
	live, err := liveIn(t.Context(), inv, store, mark.ReadOptions{}, mark.Roots{Revision: mark.None})
	if err != nil {
		t.Fatal(err)
	}
	if plan, err := sweep.NewPlan(t.Context(), inv, live, store, sweep.Options{Now: now, Only: only}); err == nil {
		t.Errorf("it plans %v", paths(plan))
	}
}

// An object that the plan has no line for is kept, with everything that it leads to, even a manifest
// that has lost its revision link. The rows of kept objects have it. The empty directory of an index
// entry keeps nothing.
func TestWhatIsNotNamedStays(t *testing.T) {
	d := newDisk()
	d.tag("app", "latest", d.image("app", "current"))
	lost := d.blob("a manifest whose revision link is gone")
	d.write(indexFile("app", "latest", lost), lost)
	d.layer("app", sha256Of("a blob that is gone"))
	d.upload("app", "one", old, "half a layer")
	d.upload("app", "two", time.Hour, "half")
	removed := d.image("app", "its index entry was removed")
	d.dirs[strings.TrimSuffix(indexFile("app", "latest", removed), "/link")] = true
	root := d.put(t)
	r := rules{deleteUntagged: true, uploadAge: 24 * time.Hour}
	all := planFor(t, root, r)
	file, taken := selectLines(t, all, func(removal sweep.Removal) bool {
		return removal.Kind != sweep.TagIndexEntry && removal.Kind != sweep.Upload
	})
	if len(taken) != all.Len()-2 {
		t.Fatalf("%d of %d lines are taken", len(taken), all.Len())
	}
	plan, err := planOf(t.Context(), openStore(t, root), r, file)
	if err != nil {
		t.Fatal(err)
	}
	gone := paths(plan)
	sameNames(t, "revisions that go", gone["revision"], []string{revisionFile("app", removed)})
	sameNames(t, "blobs that go", gone["blob"], []string{
		blobFile(removed), blobFile(sha256Of("config of its index entry was removed")), blobFile(sha256Of("layer of its index entry was removed")),
	})
	rows := map[sweep.Reason]int{}
	for _, row := range plan.Kept {
		rows[row.Reason] += row.Blobs
	}
	if want := map[sweep.Reason]int{sweep.KeptLinked: 1, sweep.KeptUnselected: 1, sweep.KeptUpload: 1}; !maps.Equal(rows, want) {
		t.Errorf("kept: %v, want %v", rows, want)
	}
}
