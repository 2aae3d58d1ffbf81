package storagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"

	"regsweep/storage"
)

// Moved is the path to which the tests move an object.
func Moved(path string) string { return storage.OwnDir + "/quarantine/run/" + path }

// testMove: a moved object is only at its new path, byte for byte. A move never overwrites an
// object.
func testMove(t *testing.T, s Subject) {
	store, plant := s.Open(t)
	ctx := t.Context()
	blob, link := BlobPath("sha256", HexOf("layer")), "repositories/app/_layers/sha256/"+HexOf("layer")+"/link"
	stays := "repositories/app/_layers/sha256/" + HexOf("config") + "/link"
	PlantAll(plant, map[string]string{blob: "layer", link: "sha256:" + HexOf("layer"), stays: "x", Moved(stays): "another"})

	outcomes := store.Move(ctx, []storage.Move{
		{From: blob, To: Moved(blob)}, {From: link, To: Moved(link)}, {From: stays, To: Moved(stays)},
		{From: BlobPath("sha256", HexOf("absent")), To: Moved("absent")},
	})
	if len(outcomes) != 4 || outcomes[0].Err != nil || outcomes[1].Err != nil {
		t.Fatalf("move: %+v", outcomes)
	}
	if !errors.Is(outcomes[2].Err, fs.ErrExist) || !strings.Contains(outcomes[2].Err.Error(), stays) {
		t.Errorf("move onto another object: %v", outcomes[2].Err)
	}
	if !errors.Is(outcomes[3].Err, fs.ErrNotExist) {
		t.Errorf("move what is not there: %v", outcomes[3].Err)
	}
	WantContents(t, store, map[string]string{
		Moved(blob): "layer", Moved(link): "sha256:" + HexOf("layer"), stays: "x", Moved(stays): "another", blob: "", link: "",
	})
	// The same move again, as after an interruption, succeeds.
	if o := store.Move(ctx, []storage.Move{{From: blob, To: Moved(blob)}})[0]; o.Err != nil {
		t.Errorf("move what was moved: %v", o.Err)
	}
	// And back.
	if o := store.Move(ctx, []storage.Move{{From: Moved(blob), To: blob}})[0]; o.Err != nil {
		t.Errorf("move back: %v", o.Err)
	}
	WantContents(t, store, map[string]string{blob: "layer", Moved(blob): ""})
	if got := KeysOf(Scan(t, store, storage.BlobsDir)); !maps.Equal(got, map[string]bool{blob: true}) {
		t.Errorf("the scan has %v", slices.Collect(maps.Keys(got)))
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if o := store.Move(cancelled, []storage.Move{{From: blob, To: Moved(blob)}})[0]; !errors.Is(o.Err, context.Canceled) {
		t.Errorf("move, cancelled: %v", o.Err)
	}
	WantContents(t, store, map[string]string{blob: "layer"})
	if outcomes := store.Move(ctx, nil); len(outcomes) != 0 {
		t.Errorf("move nothing: %v", outcomes)
	}
}

// testMoveKnown: a storage may remove an object whose content is known instead of moving it. In
// both cases the object is no longer at its old path.
func testMoveKnown(t *testing.T, s Subject) {
	store, plant := s.Open(t)
	link, content := "repositories/app/_layers/sha256/"+HexOf("layer")+"/link", "sha256:"+HexOf("layer")
	plant(link, content)
	if o := store.Move(t.Context(), []storage.Move{{From: link, To: Moved(link), Content: content}})[0]; o.Err != nil {
		t.Fatal(o.Err)
	}
	WantContents(t, store, map[string]string{link: ""})
	got, err := store.Read(t.Context(), Moved(link), 1000)
	if !errors.Is(err, fs.ErrNotExist) && (err != nil || string(got) != content) {
		t.Errorf("what was kept of it: %q, %v", got, err)
	}
}

// testPut: a whole object is written, unless one exists.
func testPut(t *testing.T, s Subject) {
	store, _ := s.Open(t)
	ctx := t.Context()
	const path = "repositories/app/_layers/sha256/link"
	large := strings.Repeat("0123456789abcdef", 1<<16)
	for _, content := range []string{"content", large} {
		at := path + HexOf(content)
		if err := store.Put(ctx, at, strings.NewReader(content)); err != nil {
			t.Fatalf("put: %v", err)
		}
		WantContents(t, store, map[string]string{at: content})
		if err := store.Put(ctx, at, strings.NewReader("another")); !errors.Is(err, fs.ErrExist) {
			t.Errorf("put again: %v", err)
		}
		WantContents(t, store, map[string]string{at: content})
	}
	failing := &failingReader{strings.NewReader("half of it")}
	if err := store.Put(ctx, path, failing); !errors.Is(err, errReader) {
		t.Errorf("put of what can't be read: %v", err)
	}
	WantContents(t, store, map[string]string{path: ""})
	if names, err := store.Names(ctx, storage.OwnDir); err != nil || len(names) != 0 {
		t.Errorf("what is left beside: %v, %v", names, err)
	}
	if err := store.Below(ctx, storage.OwnDir, func(page []storage.Object) error {
		for _, object := range page {
			if !object.Dir {
				t.Errorf("%s is left", object.Path)
			}
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if err := store.Put(cancelled, path, strings.NewReader("x")); !errors.Is(err, context.Canceled) {
		t.Errorf("put, cancelled: %v", err)
	}
	lost := errors.New("lost")
	ended := storage.WithLease(ctx, func(context.Context) error { return lost })
	if err := store.Put(ended, path, strings.NewReader("x")); !errors.Is(err, storage.ErrNotBegun) || !errors.Is(err, lost) {
		t.Errorf("put, the lease has ended: %v", err)
	}
	WantContents(t, store, map[string]string{path: ""})
	if err := store.Sync(ctx); err != nil {
		t.Errorf("sync: %v", err)
	}
}

// testOverwrite: an object is written, whether one exists or not, unless the lease has ended.
func testOverwrite(t *testing.T, s Subject) {
	store, plant := s.Open(t)
	ctx := t.Context()
	const dir = "repositories/app/_layers/sha256/"
	empty, other, absent := dir+HexOf("empty")+"/link", dir+HexOf("other")+"/link", dir+HexOf("absent")+"/link"
	PlantAll(plant, map[string]string{empty: "", other: "another content, and a longer one"})
	lost := errors.New("lost")
	ended := storage.WithLease(ctx, func(context.Context) error { return lost })
	if err := store.Overwrite(ended, other, []byte("x")); !errors.Is(err, storage.ErrNotBegun) || !errors.Is(err, lost) {
		t.Errorf("the lease has ended: %v", err)
	}
	WantContents(t, store, map[string]string{other: "another content, and a longer one"})
	for _, path := range []string{empty, other, absent} {
		if err := store.Overwrite(ctx, path, []byte("content")); err != nil {
			t.Errorf("overwrite: %v", err)
		}
		WantContents(t, store, map[string]string{path: "content"})
	}
	if got := KeysOf(Scan(t, store, storage.RepositoriesDir)); len(got) != 3 && !s.Directories {
		t.Errorf("the scan has %v", slices.Collect(maps.Keys(got)))
	}
	if s.Directories {
		if err := store.Overwrite(ctx, dir+HexOf("empty"), []byte("x")); !errors.Is(err, storage.ErrNotRegular) {
			t.Errorf("a directory: %v", err)
		}
		WantContents(t, store, map[string]string{empty: "content"})
	}
}

var errReader = errors.New("the reader fails")

type failingReader struct{ io.ReadSeeker }

func (f *failingReader) Read(p []byte) (int, error) {
	n, err := f.ReadSeeker.Read(p)
	if err == io.EOF {
		err = errReader
	}
	return n, err
}

// testOthers: everything below the layout's root that is in neither tree is found once.
func testOthers(t *testing.T, s Subject) {
	store, plant := s.Open(t)
	count := func() string {
		got := map[string]int64{}
		err := store.Others(t.Context(), func(page []storage.Object) error {
			for _, o := range page {
				if _, seen := got[o.Path]; seen {
					t.Errorf("%s is reported twice", o.Path)
				}
				got[o.Path] = o.Size
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(got)
	}
	if got := count(); got != "map[]" {
		t.Errorf("nothing is stored, and there is %v", got)
	}
	PlantAll(plant, map[string]string{
		"blobs/sha256/aa/data": "one", "repositories/a/link": "two",
		Moved("plan.jsonl"): "three", storage.OwnDir + "/lock": "four", "blobsandmore/notes": "fifth", "notes": "sixth!",
	})
	want := fmt.Sprint(map[string]int64{Moved("plan.jsonl"): 5, storage.OwnDir + "/lock": 4, "blobsandmore/notes": 5, "notes": 6})
	if got := count(); got != want {
		t.Errorf("there is %v, want %v", got, want)
	}
}

// testBrowse: the objects below any directory are found.
func testBrowse(t *testing.T, s Subject) {
	store, plant := s.Open(t)
	ctx := t.Context()
	want := map[string]string{
		Moved("blobs/sha256/aa/data"): "one", Moved("repositories/a/link"): "two", Moved("plan.jsonl"): "three",
		storage.OwnDir + "/quarantine/run2/plan.jsonl": "four", storage.OwnDir + "/quarantine/file": "five",
	}
	PlantAll(plant, want)
	names, err := store.Names(ctx, storage.OwnDir+"/quarantine")
	if err != nil || !slices.Equal(names, []string{"run", "run2"}) {
		t.Errorf("the names are %v, %v", names, err)
	}
	if names, err := store.Names(ctx, "none"); err != nil || len(names) != 0 {
		t.Errorf("the names in a directory that is not there are %v, %v", names, err)
	}
	for dir, n := range map[string]int{storage.OwnDir: 5, storage.OwnDir + "/quarantine/run": 3, storage.OwnDir + "/quarantine/run2": 1, "none": 0} {
		got := map[string]bool{}
		err := store.Below(ctx, dir, func(page []storage.Object) error {
			for _, object := range page {
				if !strings.HasPrefix(object.Path, dir+"/") || object.Size != int64(len(want[object.Path])) || got[object.Path] {
					t.Errorf("below %s there is %+v", dir, object)
				}
				got[object.Path] = true
			}
			return nil
		})
		if err != nil || len(got) != n {
			t.Errorf("below %s there are %v, %v", dir, got, err)
		}
	}
	stop := errors.New("stop")
	if err := store.Below(ctx, storage.OwnDir, func([]storage.Object) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("below ends with %v", err)
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if err := store.Below(cancelled, storage.OwnDir, func([]storage.Object) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("below, cancelled: %v", err)
	}
	if !s.Directories || s.RemovesDirs {
		testEmptyDirectories(t, s, store)
	}
}

// testEmptyDirectories: a storage with directories makes and reports empty ones.
func testEmptyDirectories(t *testing.T, s Subject, store storage.Store) {
	const dir = storage.OwnDir + "/quarantine/run/repositories/b/_layers"
	if err := store.MakeDir(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	found := false
	err := store.Below(t.Context(), storage.OwnDir+"/quarantine/run/repositories/b", func(page []storage.Object) error {
		for _, object := range page {
			found = found || object.Dir && object.Path == dir
		}
		return nil
	})
	if err != nil || found != s.RemovesDirs {
		t.Errorf("an empty directory is found: %v, %v", found, err)
	}
}

// testStream: content of any size is read, also empty content.
func testStream(t *testing.T, s Subject) {
	store, plant := s.Open(t)
	ctx := t.Context()
	large := strings.Repeat("0123456789abcdef", 3<<16)
	for _, content := range []string{"", "small", large} {
		path := BlobPath("sha256", HexOf(content))
		plant(path, content)
		var got bytes.Buffer
		if err := store.Stream(ctx, path, &got); err != nil || got.String() != content {
			t.Errorf("%d bytes of %d: %v", got.Len(), len(content), err)
		}
		if err := store.Stream(ctx, path, brokenWriter{}); content != "" && !errors.Is(err, errWriter) {
			t.Errorf("a writer that fails: %v", err)
		}
	}
	if err := store.Stream(ctx, "blobs/none", io.Discard); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what is not there: %v", err)
	}
	if s.Directories {
		if err := store.Stream(ctx, "blobs/sha256", io.Discard); !errors.Is(err, storage.ErrNotRegular) {
			t.Errorf("a directory: %v", err)
		}
	}
}

var errWriter = errors.New("the writer fails")

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errWriter }

// WantContents compares the contents of objects. "" means that the object must not exist.
func WantContents(t *testing.T, store storage.Store, want map[string]string) {
	t.Helper()
	for path, content := range want {
		got, err := store.Read(t.Context(), path, 1<<20)
		switch {
		case content == "" && !errors.Is(err, fs.ErrNotExist):
			t.Errorf("%s has %q, %v", path, got, err)
		case content != "" && (err != nil || string(got) != content):
			t.Errorf("%s has %d bytes of %d, %v", path, len(got), len(content), err)
		}
	}
}
