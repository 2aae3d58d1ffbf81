package sweep_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"regsweep/storage"
	"regsweep/sweep"

	"github.com/opencontainers/go-digest"
)

// A plan file has a header, the removals in their order, and a count, by which a file
// that was cut off is noticed.
func TestPlanFile(t *testing.T) {
	root := worn(3).put(t)
	r := thorough
	r.minAge = 36 * time.Hour
	plan := planFor(t, root, r)
	var file bytes.Buffer
	n, err := plan.WriteTo(&file)
	if err != nil || n != int64(file.Len()) {
		t.Fatalf("%d bytes are said to be written, of %d: %v", n, file.Len(), err)
	}
	lines := strings.Split(strings.TrimSuffix(file.String(), "\n"), "\n")

	identity := openStore(t, root).Identity()
	wantJSON(t, lines[0], map[string]any{
		"plan": 1, "time": now.UTC().Format(time.RFC3339), "storage": map[string]any{"driver": "filesystem", "root": identity.Root},
		"options": map[string]any{"delete_untagged": true, "prune_empty": true, "allow_empty": true, "min_age": "36h0m0s", "upload_age": "1h0m0s"},
	})
	removals := lines[1 : len(lines)-1]
	total, at := int64(0), 0
	for removal := range plan.All() {
		total += removal.Bytes
		want := map[string]any{"kind": removal.Kind, "bytes": removal.Bytes, "path": removal.Path, "reason": removal.Reason}
		if removal.Kind == sweep.Revision { // each of these has one
			want["signatures"], want["signature_digests"] = 1, removal.SignatureDigests
		}
		for key, value := range map[string]string{
			"repository": removal.Repository, "tag": removal.Tag, "upload": removal.Upload, "digest": string(removal.Digest),
		} {
			if value != "" {
				want[key] = value
			}
		}
		if at < len(removals) {
			wantJSON(t, removals[at], want)
		}
		at++
	}
	if at != len(removals) || at != plan.Len() {
		t.Errorf("%d removals are written, of %d", len(removals), at)
	}
	before := strings.Join(lines[:len(lines)-1], "\n") + "\n"
	wantJSON(t, lines[len(lines)-1], map[string]any{
		"removals": plan.Len(), "bytes": total, "sha256": strings.TrimPrefix(sha256Of(before), "sha256:"),
	})
}

// wantJSON compares a line as JSON, so that the order of fields does not matter.
func wantJSON(t *testing.T, line string, want any) {
	t.Helper()
	var got, wanted any
	if err := errors.Join(json.Unmarshal([]byte(line), &got), json.Unmarshal([]byte(json1(want)), &wanted)); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	if json1(got) != json1(wanted) {
		t.Errorf("%s\nwant %s", line, json1(wanted))
	}
}

// signaturesOf are the digests of the signature links below a revision of app.
func signaturesOf(d *disk, revision string) (digests []digest.Digest) {
	dir := strings.TrimSuffix(revisionFile("app", revision), "link") + "signatures/sha256/"
	for path := range d.files {
		if rest, found := strings.CutPrefix(path, dir); found {
			digests = append(digests, digest.Digest("sha256:"+strings.TrimSuffix(rest, "/link")))
		}
	}
	return digests
}

// Each kind of removal has its own line in the plan.
func TestRemovals(t *testing.T) {
	d := worn(1)
	gone := sha256Of("a blob that is gone")
	d.layer("app", gone)
	replaced := ""
	for path := range d.files {
		if rest, found := strings.CutPrefix(path, "repositories/app/_manifests/tags/latest/index/sha256/"); found {
			digest := "sha256:" + strings.TrimSuffix(rest, "/link")
			if digest != d.files[tagFile("app", "latest")].content {
				replaced = digest
			}
		}
	}
	all := map[string]sweep.Removal{}
	for removal := range planFor(t, d.put(t), thorough).All() {
		all[strings.TrimPrefix(removal.Path, "/docker/registry/v2/")] = removal
	}
	upload := d.files["repositories/app/_uploads/upload0/data"].content + d.files["repositories/app/_uploads/upload0/startedat"].content
	for path, want := range map[string]sweep.Removal{
		indexFile("app", "latest", replaced): {
			Kind: sweep.TagIndexEntry, Repository: "app", Tag: "latest", Digest: digest.Digest(replaced), Reason: "its revision goes",
		},
		revisionFile("app", replaced): {Kind: sweep.Revision, Repository: "app", Digest: digest.Digest(replaced), Reason: "untagged", Signatures: 1, SignatureDigests: signaturesOf(d, replaced)},
		layerFile("app", gone): {
			Kind: sweep.LayerLink, Repository: "app", Digest: digest.Digest(gone), Reason: "no live manifest of the repository reaches it, and its blob is missing",
		},
		layerFile("left0", sha256Of("unreferenced0")): {
			Kind: sweep.LayerLink, Repository: "left0", Digest: digest.Digest(sha256Of("unreferenced0")), Reason: "no live manifest of the repository reaches it",
		},
		"repositories/app/_uploads/upload0": {
			Kind: sweep.Upload, Repository: "app", Upload: "upload0", Bytes: int64(len(upload)), Reason: "begun " + now.Add(-old).UTC().Format(time.RFC3339),
		},
		"repositories/left0": {Kind: sweep.Repository, Repository: "left0", Reason: "nothing is left in it"},
		blobFile(sha256Of("unreferenced0")): {
			Kind: sweep.Blob, Digest: digest.Digest(sha256Of("unreferenced0")), Bytes: int64(len("unreferenced0")), Reason: "no live manifest of any repository reaches it",
		},
	} {
		want.Path = "/docker/registry/v2/" + path
		if !reflect.DeepEqual(all[path], want) {
			t.Errorf("%+v\nwant %+v", all[path], want)
		}
	}
}

// A blob or a link that is younger than the minimum age stays, and so does what the
// link keeps; once they are as old, they go (--unsafe-online stands on it).
func TestMinimumAge(t *testing.T) {
	d := newDisk()
	d.tag("app", "latest", d.image("app", "current"))
	d.blob("old blob")
	d.files[blobFile(d.blob("young blob"))] = file{"young blob", time.Hour}
	d.layer("app", d.blob("linked long ago"))
	linked := d.blob("linked lately")
	d.files[layerFile("app", linked)] = file{linked, time.Hour}
	d.layer("lib", linked)
	pushed := d.image("app", "pushed lately")
	d.files[revisionFile("app", pushed)] = file{pushed, time.Hour}
	root := d.put(t)

	for _, test := range []struct {
		age  time.Duration
		want []string
	}{
		{0, []string{
			"old blob", "young blob", "linked long ago", "linked lately", "lib: linked lately", "app: linked lately", "app: linked long ago",
			"pushed lately", "app: pushed lately", "app: config of pushed lately", "app: layer of pushed lately", "config of pushed lately", "layer of pushed lately",
		}},
		{24 * time.Hour, []string{"old blob", "linked long ago", "app: linked long ago", "lib: linked lately"}},
		{2 * old, nil},
	} {
		t.Run(test.age.String(), func(t *testing.T) {
			r := rules{deleteUntagged: true, minAge: test.age}
			plan := planFor(t, root, r)
			var got []string
			for removal := range plan.All() {
				what := d.files[blobFile(string(removal.Digest))].content
				if strings.HasPrefix(what, "{") {
					what = "pushed lately"
				}
				if removal.Repository != "" {
					what = removal.Repository + ": " + what
				}
				got = append(got, what)
			}
			sameNames(t, "goes", got, test.want)

			var young sweep.Kept
			for _, kept := range plan.Kept {
				if kept.Reason == sweep.KeptAge {
					young.Blobs, young.Links, young.Bytes = young.Blobs+kept.Blobs, young.Links+kept.Links, young.Bytes+kept.Bytes
				}
			}
			switch {
			case test.age == 0 && young != sweep.Kept{}:
				t.Errorf("kept by age: %+v", young)
			case test.age == 24*time.Hour && (young.Blobs != 5 || young.Links != 4):
				t.Errorf("kept by age: %+v, want 5 blobs and 4 links", young)
			}
		})
	}

	// The next day all of it goes.
	for _, path := range d.names() {
		then := now.Add(-48 * time.Hour)
		if err := os.Chtimes(filepath.Join(root, storage.Root, path), then, then); err != nil {
			t.Fatal(err)
		}
	}
	if plan := planFor(t, root, rules{deleteUntagged: true, minAge: 24 * time.Hour}); plan.Len() != 13 {
		t.Errorf("the next day %d go: %v", plan.Len(), paths(plan))
	}
}

// Blobs and no tag at all: most likely the root is wrong, and nothing goes.
func TestNothingTagged(t *testing.T) {
	for name, test := range map[string]struct {
		make   func(d *disk)
		refuse bool
	}{
		"nothing at all":              {func(d *disk) {}, false},
		"blobs, and no repository":    {func(d *disk) { d.blob("x") }, true},
		"blobs, and no tag":           {func(d *disk) { d.blob("x"); d.layer("app", sha256Of("x")) }, true},
		"a manifest that is missing":  {func(d *disk) { d.blob("x"); d.revision("app", sha256Of("y")) }, true},
		"manifests, and no tag":       {func(d *disk) { d.image("app", "x") }, false},
		"repositories, and no blob":   {func(d *disk) { d.layer("app", sha256Of("x")) }, false},
		"one tag in all repositories": {func(d *disk) { d.image("app", "x"); d.tag("lib", "v1", d.image("lib", "y")) }, false},
		"a tag without current link": {func(d *disk) {
			m := d.image("app", "x")
			d.write(indexFile("app", "v1", m), m)
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDisk()
			test.make(d)
			root := d.put(t)
			if _, err := tryPlan(t.Context(), openStore(t, root), rules{refuseEmpty: true}); errors.Is(err, sweep.ErrNothingTagged) != test.refuse {
				t.Errorf("refused: %v", err)
			}
			noTag := test.refuse || name == "manifests, and no tag"
			if _, err := tryPlan(t.Context(), openStore(t, root), rules{refuseEmpty: true, deleteUntagged: true}); errors.Is(err, sweep.ErrNothingTagged) != noTag {
				t.Errorf("with -m refused: %v", err)
			}
			if _, err := tryPlan(t.Context(), openStore(t, root), rules{}); err != nil {
				t.Errorf("with --allow-empty: %v", err)
			}
		})
	}
}

// The rows of kept objects can be added up: together with the garbage and the objects that tags need
// they are all objects (promise 5).
func TestKeptAddsUp(t *testing.T) {
	for seed := range uint64(40) {
		d := generate(seed, seed%2 == 0, seed%3 == 0)
		r := rules{uploadAge: 7 * 24 * time.Hour}
		if seed%3 == 0 {
			r.minAge = 24 * time.Hour
		}
		plan := planFor(t, d.put(t), r)
		stored, tagged := 0, 0
		for path := range d.files {
			if _, ok := storedBlob(path); ok {
				stored++
			}
		}
		kept := map[sweep.Reason]int{}
		seen := map[string]bool{}
		for _, row := range plan.Kept {
			kept[row.Reason] += row.Blobs
			if key := string(row.Reason) + " " + row.Repository; row.Repository != "" && seen[key] {
				t.Errorf("seed %d: two rows of %s", seed, key)
			} else {
				seen[key] = true
			}
			if row.Blobs == 0 && row.Links == 0 {
				t.Errorf("seed %d: a row that says nothing: %+v", seed, row)
			}
		}
		if seed%2 == 0 {
			continue // of damaged blobs only the directory may be there
		}
		o := newOracle(d, r)
		aliveByTags := map[string]bool{}
		for _, repo := range o.repos {
			alive, _ := (&oracle{disk: d, rules: rules{deleteUntagged: true, deleteUnlinkedChildren: true}, repos: o.repos, readings: o.readings}).alive(repo)
			for digest := range alive {
				if _, found := d.files[blobFile(digest)]; found && strings.HasPrefix(digest, "sha256:") && !aliveByTags[digest] {
					aliveByTags[digest] = true
					tagged++
				}
			}
		}
		sum := tagged + kept[sweep.KeptUntagged] + kept[sweep.KeptUnlinkedChild] + kept[sweep.KeptAge] + plan.Garbage[sweep.Blob].Count
		if sum != stored || plan.Live.Blobs+plan.Garbage[sweep.Blob].Count != stored {
			t.Errorf("seed %d: tags need %d, kept are %v, %d go: of %d blobs; %d are said to be alive",
				seed, tagged, kept, plan.Garbage[sweep.Blob].Count, stored, plan.Live.Blobs)
		}
	}
}

// What would go with --delete-untagged is what the summary says is kept as untagged.
func TestKeptSaysWhyNotMoreGoes(t *testing.T) {
	d := newDisk()
	d.tag("app", "latest", d.image("app", "current"))
	d.image("app", "untagged")
	d.image("lib", "untagged") // shared, and counted once
	damaged := d.image("bad", "damaged")
	d.tag("bad", "latest", damaged)
	d.write(blobFile(damaged), "rotten")
	d.layer("bad", d.blob("kept by damage"))
	d.upload("app", "young", time.Hour, "half a layer")
	d.write("repositories/app/stray", "12345")
	plan := planFor(t, d.put(t), rules{uploadAge: 24 * time.Hour})
	got := map[string]string{}
	for _, row := range plan.Kept {
		got[fmt.Sprintf("%s %s", row.Repository, row.Reason)] = fmt.Sprintf("%d blobs, %d bytes, %d links", row.Blobs, row.Bytes, row.Links)
	}
	size := func(texts ...string) (n int) {
		for _, text := range texts {
			n += len(text)
		}
		return n
	}
	untagged := size("config of untagged", "layer of untagged", d.files[blobFile(imageOf("untagged"))].content)
	upload := size("half a layer", now.Format(time.RFC3339))
	want := map[string]string{
		"app untagged": fmt.Sprintf("3 blobs, %d bytes, 3 links", untagged),
		"lib untagged": "0 blobs, 0 bytes, 3 links",
		"bad damage":   fmt.Sprintf("3 blobs, %d bytes, 3 links", size("config of damaged", "layer of damaged", "kept by damage")),
		"app upload":   fmt.Sprintf("1 blobs, %d bytes, 0 links", upload),
		" stray":       "1 blobs, 5 bytes, 0 links",
	}
	if !maps.Equal(got, want) {
		t.Errorf("kept: %v\nwant: %v", got, want)
	}
	// --delete-untagged lets go what was said.
	with := planFor(t, d.put(t), rules{deleteUntagged: true, uploadAge: 24 * time.Hour})
	if got := with.Garbage[sweep.Blob]; got != (sweep.Tally{Count: 3, Bytes: int64(untagged)}) {
		t.Errorf("with --delete-untagged %v go", got)
	}
}

func imageOf(text string) string { return newDisk().image("any", text) }

// A repository goes if the plan takes all that it holds, and not for any less.
func TestRepositoriesThatAreLeftEmpty(t *testing.T) {
	for name, test := range map[string]struct {
		make func(d *disk)
		goes bool
	}{
		"nothing but directories":     {func(d *disk) { d.dirs["repositories/it/_manifests/tags"] = true }, true},
		"links to nothing":            {func(d *disk) { d.layer("it", sha256Of("gone")); d.revision("it", sha256Of("gone too")) }, true},
		"an untagged image":           {func(d *disk) { d.image("it", "untagged") }, true},
		"an old upload":               {func(d *disk) { d.upload("it", "id", old, "half") }, true},
		"a directory of a layer link": {func(d *disk) { d.dirs["repositories/it/_layers/"+slashed(sha256Of("x"))] = true }, true},
		"a young upload":              {func(d *disk) { d.upload("it", "id", time.Minute, "half") }, false},
		"a tag that points at nothing": {func(d *disk) {
			d.write(tagFile("it", "v1"), sha256Of("gone"))
		}, false},
		"a tag that points at nothing any more": {func(d *disk) {
			d.write(indexFile("it", "v1", sha256Of("gone")), sha256Of("gone"))
		}, false},
		"a stray":                     {func(d *disk) { d.write("repositories/it/_layers/stray", "x") }, false},
		"a link of another algorithm": {func(d *disk) { d.write("repositories/it/_layers/md5/00/link", "md5:00") }, false},
		"damage":                      {func(d *disk) { d.layer("it", sha256Of("x")); d.write(revisionFile("it", sha256Of("y")), "") }, false},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDisk()
			d.tag("app", "latest", d.image("app", "current"))
			test.make(d)
			for _, asked := range []bool{true, false} {
				r := thorough
				r.pruneEmpty = asked
				got := paths(planFor(t, d.put(t), r))["repository"]
				if goes := slices.Equal(got, []string{"repositories/it"}); goes != (test.goes && asked) {
					t.Errorf("asked for: %t; goes: %v", asked, got)
				}
			}
		})
	}
}

// Whatever its age, an upload in a repository that nobody could serve stays.
func TestUploadsOfMisnamedRepositories(t *testing.T) {
	d := worn(1)
	d.upload("Foo", "id", old, "half a layer")
	d.upload("app/_old", "id", old, "half a layer")
	if got := paths(planFor(t, d.put(t), thorough))["upload"]; !slices.Equal(got, []string{"repositories/app/_uploads/upload0"}) {
		t.Errorf("uploads that go: %v", got)
	}
}

// Signature links below a revision that was deleted go with --prune-empty and without. Their
// repository is empty then.
func TestOrphanedSignaturesGo(t *testing.T) {
	d := newDisk()
	d.tag("app", "latest", d.image("app", "current"))
	d.layer("left", d.blob("unreferenced"))
	orphan := signatureFile("left", sha256Of("deleted"), sha256Of("signature"))
	d.write(orphan, sha256Of("signature"))
	root := d.put(t)
	r := rules{pruneEmpty: true}
	plan := planFor(t, root, r)
	if n := plan.Garbage[sweep.Repository].Count; n != 1 {
		t.Errorf("%d repositories are to go", n)
	}
	if n := plan.Garbage[sweep.OrphanLink].Count; n != 1 {
		t.Errorf("%d links of deleted manifests are to go", n)
	}
	if _, err := plan.Execute(t.Context(), openStore(t, root), sweep.ExecuteOptions{}); err != nil {
		t.Fatal(err)
	}
	if slices.Contains(readDisk(t, root).names(), orphan) {
		t.Error("the signature's link is there")
	}
	// A run that is killed there may leave the directory of the link.
	again := d.put(t)
	if err := os.Remove(filepath.Join(again, storage.Root, filepath.FromSlash(orphan))); err != nil {
		t.Fatal(err)
	}
	if n := planFor(t, again, r).Garbage[sweep.Repository].Count; n != 1 {
		t.Errorf("%d repositories are to go after an interruption", n)
	}
}

// A dead blob whose data is a symbolic link is not in the plan, and does not stop it (promise 2).
func TestADeadBlobThatIsASymbolicLinkIsNotPlanned(t *testing.T) {
	d := newDisk()
	d.tag("app", "latest", d.image("app", "current"))
	linked, dead := d.blob("moved away"), d.blob("dead")
	root := d.put(t)
	path := filepath.Join(root, storage.Root, filepath.FromSlash(blobFile(linked)))
	target := filepath.Join(root, "target")
	if err := errors.Join(os.Rename(path, target), os.Symlink(target, path)); err != nil {
		t.Fatal(err)
	}
	plan := planFor(t, root, thorough)
	if got := plan.Garbage[sweep.Blob]; got != (sweep.Tally{Count: 1, Bytes: int64(len("dead"))}) {
		t.Errorf("the plan has %v, and only %s is a blob", got, dead)
	}
}

// A storage that fails while candidates are statted plans nothing (promise 1).
func TestAFailingStorageEndsThePlan(t *testing.T) {
	failure := errors.New("the disk is on fire")
	d := worn(1)
	for _, part := range []string{"blobs/", "/index/"} {
		store := &burning{Store: openStore(t, d.put(t)), part: part, failure: failure}
		if plan, err := tryPlan(t.Context(), store, thorough); !errors.Is(err, failure) || plan != nil {
			t.Errorf("%s can't be looked at: %v", part, err)
		}
	}
}

// burning fails where the path has a part.
type burning struct {
	storage.Store
	part    string
	failure error
}

func (b *burning) Stat(ctx context.Context, path string) (storage.Object, error) {
	if strings.Contains(path, b.part) {
		return storage.Object{}, b.failure
	}
	return b.Store.Stat(ctx, path)
}
