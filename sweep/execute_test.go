package sweep_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"regsweep/storage"
	"regsweep/sweep"
)

// recorder notes what is asked of a storage, in order.
type recorder struct {
	storage.Remover
	refuse func(path string) error // nil: remove it
	marker func(path string) bool
	before func(paths []string)

	mu    sync.Mutex
	begun []string // kinds, as calls began
	ended []string // kinds, as calls ended
	calls [][]string
	most  int // calls at once
}

// kindOf says what kind of removal a path belongs to.
func kindOf(path string) string {
	switch {
	case strings.HasPrefix(path, "blobs/"):
		return "blob"
	case strings.Contains(path, "/_layers/"):
		return "layer_link"
	case strings.Contains(path, "/_uploads/"):
		return "upload"
	case strings.Contains(path, "/_refs/"):
		return "orphan_link"
	case strings.Contains(path, "/revisions/"):
		return "revision"
	}
	return "tag_index_entry"
}

func (r *recorder) Remove(ctx context.Context, refs []storage.Ref) []storage.Outcome {
	var paths []string
	for _, ref := range refs {
		paths = append(paths, ref.Path)
	}
	r.mu.Lock()
	r.begun = append(r.begun, kindOf(paths[0]))
	r.calls = append(r.calls, paths)
	r.most = max(r.most, len(r.begun)-len(r.ended))
	r.mu.Unlock()
	if r.before != nil {
		r.before(paths)
	}
	outcomes := make([]storage.Outcome, len(refs))
	for i, ref := range refs {
		if r.refuse != nil {
			outcomes[i].Err = r.refuse(ref.Path)
		}
		if outcomes[i].Err == nil && r.Remover != nil {
			outcomes[i] = r.Remover.Remove(ctx, []storage.Ref{ref})[0]
		}
		outcomes[i].Hidden = r.marker != nil && r.marker(ref.Path)
	}
	r.mu.Lock()
	r.ended = append(r.ended, kindOf(paths[0]))
	r.mu.Unlock()
	return outcomes
}

func (r *recorder) Prune(ctx context.Context, dir string) (bool, error) {
	r.mu.Lock()
	r.begun, r.ended = append(r.begun, "repository"), append(r.ended, "repository")
	r.mu.Unlock()
	if r.Remover == nil {
		return true, nil
	}
	return r.Remover.Prune(ctx, dir)
}

// worn is a registry with something of every kind to remove: an image that was
// replaced, with its signature links, an upload, and a repository in which nothing is
// left. n is how many of each.
func worn(n int) *disk {
	d := newDisk()
	current := d.image("app", "current")
	d.tag("app", "latest", current)
	for i := range n {
		replaced := d.image("app", fmt.Sprint("replaced", i))
		d.write(indexFile("app", "latest", replaced), replaced)
		signature := d.blob(fmt.Sprint("signature", i))
		d.write(signatureFile("app", replaced, signature), signature)
		d.upload("app", fmt.Sprint("upload", i), old, "half a layer")
		d.layer(fmt.Sprint("left", i), d.blob(fmt.Sprint("unreferenced", i)))
	}
	return d
}

// plenty adds so much garbage of a kind that it takes more than one batch.
func (d *disk) plenty(kind string) {
	for i := range storage.RemoveBatch + 50 {
		text := fmt.Sprint("one of plenty ", i)
		switch kind {
		case "tag_index_entry":
			d.write(indexFile("app", "latest", sha256Of(text)), sha256Of(text))
		case "layer_link":
			d.layer("app", sha256Of(text))
		case "blob":
			d.blob(text)
		}
	}
}

// image stores an image of one layer in a repository.
func (d *disk) image(repository, text string) string {
	config, layer := d.blob("config of "+text), d.blob("layer of "+text)
	d.layer(repository, config)
	d.layer(repository, layer)
	m := d.blob(json1(map[string]any{
		"schemaVersion": 2, "mediaType": ociImage, "config": descriptor(configType, config, len("config of "+text)),
		"layers": []any{descriptor(layerType, layer, len("layer of "+text))},
	}))
	d.revision(repository, m)
	return m
}

var thorough = rules{deleteUntagged: true, pruneEmpty: true, uploadAge: time.Hour}

// All of one kind is confirmed before the next begins, and the kinds come in the order
// in which a link goes before what it leads to (promise 3), however they are divided.
func TestKindsAreRemovedInOrder(t *testing.T) {
	d := worn(5)
	for _, kind := range []string{"tag_index_entry", "layer_link", "blob"} {
		d.plenty(kind)
	}
	for i := range 5 {
		deleted := sha256Of(fmt.Sprint("a deleted referrer", i))
		d.write("repositories/app/_refs/subjects/"+slashed(sha256Of("current"))+"/"+slashed(deleted)+"/link", deleted)
	}
	root := d.put(t)
	for _, bulk := range []storage.Bulk{{Calls: 8}, {Objects: 16, Calls: 3}} {
		plan := planFor(t, root, thorough)
		r := &recorder{}
		result, err := plan.Execute(t.Context(), r, sweep.ExecuteOptions{Bulk: bulk})
		if err != nil {
			t.Fatal(err)
		}
		want := []string{"tag_index_entry", "revision", "orphan_link", "layer_link", "upload", "repository", "blob"}
		if got := slices.Compact(slices.Clone(r.begun)); !slices.Equal(got, want) {
			t.Errorf("begun: %v, want %v", got, want)
		}
		if got := slices.Compact(slices.Clone(r.ended)); !slices.Equal(got, want) {
			t.Errorf("confirmed: %v, want %v", got, want)
		}
		for _, paths := range r.calls {
			if len(paths) > cmp.Or(bulk.Objects, storage.RemoveBatch) {
				t.Errorf("%d objects in one call of %+v", len(paths), bulk)
			}
		}
		if r.most > bulk.Calls {
			t.Errorf("%d calls at once of %+v", r.most, bulk)
		}
		for kind, tally := range plan.Garbage {
			if result.Removed[kind] != tally || tally.Count < 5 && kind != sweep.Tag && kind != sweep.EarlierEntry && kind != sweep.EmptyDirectory { // see roots_test and random_test
				t.Errorf("%s: %v were to go, %v went", kind, tally, result.Removed[kind])
			}
		}
	}
}

// The link of a revision goes after its signatures, so that a run which is interrupted
// between them still finds them the next time (promise 3).
func TestSignaturesGoBeforeTheirRevision(t *testing.T) {
	d := worn(2)
	r := &recorder{Remover: openStore(t, d.put(t))}
	if _, err := planFor(t, d.put(t), thorough).Execute(t.Context(), r, sweep.ExecuteOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, paths := range r.calls {
		for i, path := range paths {
			if signed, _, found := strings.Cut(path, "/signatures/"); found && !slices.Contains(paths[i:], signed+"/link") {
				t.Errorf("%s goes after its revision", path)
			}
		}
	}
}

// A removal that the storage refuses stops what comes after it, and is reported as what
// it is; what went before it counts (promises 1 and 6).
func TestARefusalStopsLaterKinds(t *testing.T) {
	refusal := errors.New("access denied")
	d := worn(5)
	for i, kind := range []string{"tag_index_entry", "revision", "layer_link", "upload", "blob"} {
		t.Run(kind, func(t *testing.T) {
			root := d.put(t)
			plan := planFor(t, root, thorough)
			refused := 0
			r := &recorder{Remover: openStore(t, root), refuse: func(path string) error {
				if kindOf(path) == kind && strings.HasSuffix(path, "/link") != (kind == "upload" || kind == "blob") && refused < 2 {
					refused++
					return refusal
				}
				return nil
			}}
			var told sweep.Tally
			result, err := plan.Execute(t.Context(), r, sweep.ExecuteOptions{OnRemoved: func(_ sweep.Kind, tally sweep.Tally) {
				told.Add(tally.Count, tally.Bytes)
			}})
			if !errors.Is(err, refusal) || !strings.Contains(err.Error(), kind) {
				t.Errorf("error: %v", err)
			}
			if len(result.Failed) == 0 || string(result.Failed[0].Kind) != kind || !errors.Is(result.Failed[0].Err, refusal) {
				t.Errorf("failed: %+v", result.Failed)
			}
			removed := sweep.Tally{}
			for _, of := range sweep.Kinds {
				tally, planned := result.Removed[of], plan.Garbage[of]
				removed.Add(tally.Count, tally.Bytes)
				switch at := slices.Index([]string{"tag_index_entry", "revision", "layer_link", "upload", "blob"}, string(of)); {
				case string(of) == kind:
					if tally.Count != planned.Count-len(result.Failed) {
						t.Errorf("%s: %d went, %d of %d were refused", of, tally.Count, len(result.Failed), planned.Count)
					}
				case of == sweep.Repository && kind != "blob", of != sweep.Repository && at > i:
					if tally.Count > 0 {
						t.Errorf("%s went after %s was refused", of, kind)
					}
				case tally != planned:
					t.Errorf("%s: %v went, %v should have", of, tally, planned)
				}
			}
			if told != removed {
				t.Errorf("was told of %v, and %v went", told, removed)
			}
			// What is counted as removed is what is gone.
			after := readDisk(t, root)
			for removal := range plan.All() {
				path := strings.TrimPrefix(removal.Path, "/"+storage.Root+"/")
				if removal.Kind == sweep.Blob && kind != "blob" {
					if _, there := after.files[path]; !there {
						t.Errorf("%s is gone", path)
					}
				}
			}
			again := planFor(t, root, thorough)
			if _, err := again.Execute(t.Context(), openStore(t, root), sweep.ExecuteOptions{}); err != nil {
				t.Errorf("the next run: %v", err)
			}
			_, gone := judge(d, thorough)
			var left []string
			for _, path := range d.names() {
				if !gone[path] {
					left = append(left, path)
				}
			}
			sameNames(t, "after the next run", readDisk(t, root).names(), left)
		})
	}
}

// At most a hundred refusals are kept, and all are counted.
func TestManyRefusals(t *testing.T) {
	d := worn(0)
	d.plenty("layer_link")
	refusal := errors.New("access denied")
	r := &recorder{refuse: func(string) error { return refusal }}
	result, err := planFor(t, d.put(t), thorough).Execute(t.Context(), r, sweep.ExecuteOptions{})
	if !errors.Is(err, refusal) || !strings.Contains(err.Error(), fmt.Sprint(storage.RemoveBatch+49, " more")) || len(result.Failed) != 100 {
		t.Errorf("%d kept: %v", len(result.Failed), err)
	}
}

// A run that is stopped says why, sees through what it has begun, and begins nothing
// more (promises 3, 4 and 6).
func TestExecuteStopsWithTheCause(t *testing.T) {
	writable := errors.New("the registry has become writable")
	for _, kind := range []string{"tag_index_entry", "layer_link", "repository", "blob"} {
		t.Run(kind, func(t *testing.T) {
			d := worn(3)
			d.plenty(kind)
			root := d.put(t)
			ctx, cancel := context.WithCancelCause(t.Context())
			r := &recorder{Remover: openStore(t, root), before: func(paths []string) {
				if kindOf(paths[0]) == kind || kind == "repository" && kindOf(paths[0]) == "upload" {
					cancel(writable)
				}
			}}
			plan := planFor(t, root, thorough)
			result, err := plan.Execute(ctx, r, sweep.ExecuteOptions{Bulk: storage.Bulk{Calls: 1}})
			if !errors.Is(err, writable) {
				t.Errorf("error: %v", err)
			}
			calls := 0
			for _, paths := range r.calls {
				if kindOf(paths[0]) == kind {
					calls++
				}
			}
			if calls > 1 {
				t.Errorf("%d batches were begun", calls)
			}
			if len(result.Failed) > 0 {
				t.Errorf("failed: %+v", result.Failed[0])
			}
			gone := len(d.files) - len(readDisk(t, root).files)
			counted := 0
			for of, tally := range result.Removed {
				switch of {
				case sweep.Repository:
				case sweep.Upload:
					counted += 3 * tally.Count
				case sweep.Revision:
					counted += 2 * tally.Count // with a signature
				default:
					counted += tally.Count
				}
			}
			if gone != counted {
				t.Errorf("%d files are gone, and the result counts %d", gone, counted)
			}
		})
	}
	t.Run("before it begins", func(t *testing.T) {
		d := worn(1)
		root := d.put(t)
		plan := planFor(t, root, thorough)
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(writable)
		if _, err := plan.Execute(ctx, openStore(t, root), sweep.ExecuteOptions{}); !errors.Is(err, writable) {
			t.Errorf("error: %v", err)
		}
		sameNames(t, "nothing goes", readDisk(t, root).names(), d.names())
	})
}

// A plan is for one run: the storage has changed since.
func TestAPlanIsExecutedOnce(t *testing.T) {
	root := worn(1).put(t)
	plan := planFor(t, root, thorough)
	if _, err := plan.Execute(t.Context(), openStore(t, root), sweep.ExecuteOptions{}); err != nil {
		t.Fatal(err)
	}
	r := &recorder{}
	if result, err := plan.Execute(t.Context(), r, sweep.ExecuteOptions{}); !errors.Is(err, sweep.ErrExecuted) || len(r.calls) > 0 || result.Removed[sweep.Blob].Count > 0 {
		t.Errorf("again: %+v, %v", result, err)
	}
}

// An object that somebody else removes meanwhile counts as removed.
func TestAbsentIsSuccess(t *testing.T) {
	d := worn(3)
	root := d.put(t)
	first, second := planFor(t, root, thorough), planFor(t, root, thorough)
	for _, plan := range []*sweep.Plan{first, second} {
		result, err := plan.Execute(t.Context(), openStore(t, root), sweep.ExecuteOptions{})
		if err != nil || result.Removed[sweep.Blob] != plan.Garbage[sweep.Blob] {
			t.Errorf("%+v, %v", result, err)
		}
	}
}

// Bytes behind a delete marker are not freed, and are never said to be (promise 6).
func TestMarkersFreeNothing(t *testing.T) {
	d := worn(4)
	plan := planFor(t, d.put(t), thorough)
	r := &recorder{marker: func(path string) bool {
		return strings.HasPrefix(path, "blobs/") || strings.HasSuffix(path, "upload1/data")
	}}
	result, err := plan.Execute(t.Context(), r, sweep.ExecuteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	blobs, uploads := plan.Garbage[sweep.Blob], plan.Garbage[sweep.Upload]
	hidden := blobs.Bytes + uploads.Bytes/4
	if got := result.Removed[sweep.Blob]; got.Count != blobs.Count || got.Bytes != 0 {
		t.Errorf("blobs: %v", got)
	}
	if got := result.Removed[sweep.Upload]; got.Count != 4 || got.Bytes != uploads.Bytes-uploads.Bytes/4 {
		t.Errorf("uploads: %v of %v", got, uploads)
	}
	if result.Hidden != hidden {
		t.Errorf("%d bytes are hidden, want %d", result.Hidden, hidden)
	}
}

// An upload is gone when all of its files are.
func TestAnUploadHalfRemovedIsNone(t *testing.T) {
	d := worn(1)
	refusal := errors.New("access denied")
	r := &recorder{refuse: func(path string) error {
		if strings.HasSuffix(path, "/startedat") {
			return refusal
		}
		return nil
	}}
	result, err := planFor(t, d.put(t), thorough).Execute(t.Context(), r, sweep.ExecuteOptions{})
	if !errors.Is(err, refusal) || result.Removed[sweep.Upload] != (sweep.Tally{}) || len(result.Failed) != 1 {
		t.Errorf("%+v, %v", result, err)
	}
}

// Of a removal of several files, one may be refused while others have not begun. The refusal
// counts, whichever of them is the last.
func TestARefusalOutweighsWhatHasNotBegun(t *testing.T) {
	refusal := errors.New("access denied")
	for _, refused := range []string{"/startedat", "/data"} {
		r := &recorder{refuse: func(path string) error {
			switch {
			case !strings.Contains(path, "/_uploads/"):
				return nil
			case strings.HasSuffix(path, refused):
				return refusal
			}
			return storage.ErrNotBegun
		}}
		result, err := planFor(t, worn(1).put(t), thorough).Execute(t.Context(), r, sweep.ExecuteOptions{})
		if !errors.Is(err, refusal) || len(result.Failed) != 1 || !errors.Is(result.Failed[0].Err, refusal) {
			t.Errorf("%s is refused: %+v, %v", refused, result.Failed, err)
		}
	}
}

// What an interruption between a file and its directory leaves goes with the next run,
// and so does what deleting a manifest through the API leaves (promise 3).
func TestEmptyDirectoriesAreTidied(t *testing.T) {
	d := worn(0)
	leftovers := []string{
		layerFile("app", sha256Of("x")), indexFile("app", "latest", sha256Of("x")), blobFile(sha256Of("x")),
		revisionFile("app", sha256Of("x")), signatureFile("app", sha256Of("x"), sha256Of("y")), layerFile("app", sha512Of("x")),
	}
	for _, path := range leftovers {
		d.dirs[strings.TrimSuffix(strings.TrimSuffix(path, "/link"), "/data")] = true
	}
	root := d.put(t)
	plan := planFor(t, root, rules{})
	if plan.Len() > 0 {
		t.Errorf("an empty directory is garbage: %v", paths(plan))
	}
	if _, err := plan.Execute(t.Context(), openStore(t, root), sweep.ExecuteOptions{}); err != nil {
		t.Fatal(err)
	}
	if after := readDisk(t, root); len(after.dirs) > 0 {
		t.Errorf("left are %v", after.dirs)
	}
}

// A file that a scan does not report may keep a repository's directories. The repository is then not
// reported as removed, and the run continues with the rest of the plan (promise 6).
func TestARepositoryThatIsNotEmptyAfterAll(t *testing.T) {
	d := worn(2)
	beside := strings.TrimSuffix(layerFile("left1", sha256Of("unreferenced1")), "link") + "link.0000.tmp"
	d.write(beside, "left by a driver that crashed")
	root := d.put(t)
	plan := planFor(t, root, thorough)
	if n := plan.Garbage[sweep.Repository].Count; n != 2 {
		t.Fatalf("%d repositories are to go", n)
	}
	result, err := plan.Execute(t.Context(), openStore(t, root), sweep.ExecuteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if n := result.Removed[sweep.Repository].Count; n != 1 {
		t.Errorf("%d repositories are said to be gone", n)
	}
	if len(result.Failed) != 1 || result.Failed[0].Repository != "left1" {
		t.Errorf("failed: %+v", result.Failed)
	}
	if result.Removed[sweep.Blob] != plan.Garbage[sweep.Blob] {
		t.Errorf("of the blobs went %v, and %v should have", result.Removed[sweep.Blob], plan.Garbage[sweep.Blob])
	}
	if !slices.Contains(readDisk(t, root).names(), beside) {
		t.Error("the file is gone")
	}
}
