package filesystem

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"regsweep/internal/drivertest"
	"regsweep/internal/imagetest"
	"regsweep/inventory"
	"regsweep/storage"
	"regsweep/storage/driver"
	"regsweep/storage/layout"
	"regsweep/storage/storagetest"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

// smallRegistry makes a registry with one image on a disk, and opens its store.
func smallRegistry(t *testing.T) (tree *imagetest.Tree, store storage.Store, image digest.Digest) {
	t.Helper()
	tree = storagetest.NewTree(t)
	m := imagetest.Image(imagetest.OCI, imagetest.Layer(1, 10))
	image = tree.Manifest("app", m)
	tree.Tag("app", "v1", image)
	signature := tree.Blob([]byte("signature"))
	tree.Write(imagetest.SignaturePath("app", image, signature), signature.String())
	tree.Upload("app", "upload", storagetest.UploadStart, []byte("half a layer"))
	return tree, storagetest.MustOpen(t)(Open(tree.Root(), storage.Limits{})), image
}

// takenInventory takes the inventory and fails the test if that fails.
func takenInventory(t *testing.T, store storage.Store) *inventory.Inventory {
	t.Helper()
	inv, err := inventory.Take(t.Context(), store, inventory.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return inv
}

// The only link that keeps an image alive could be behind a symbolic link. If the scan would
// have to follow one, it fails and names it (promise 1).
func TestScanStopsAtSymbolicLinks(t *testing.T) {
	_, _, image := smallRegistry(t)
	revision := "repositories/app/_manifests/revisions/sha256/" + image.Encoded()
	for _, dir := range []string{
		"blobs/sha256/" + image.Encoded()[:2],
		"repositories/app/_layers",
		"repositories/app/_layers/sha256",
		"repositories/app/_layers/sha256/" + imagetest.Layer(1, 10).Digest().Encoded(),
		"repositories/app/_manifests",
		"repositories/app/_manifests/revisions",
		"repositories/app/_manifests/revisions/sha256",
		revision,
		revision + "/signatures",
		revision + "/signatures/sha256",
		"repositories/app/_manifests/tags",
		"repositories/app/_manifests/tags/v1",
		"repositories/app/_manifests/tags/v1/current",
		"repositories/app/_manifests/tags/v1/index",
		"repositories/app/_manifests/tags/v1/index/sha256",
		"repositories/app/_manifests/tags/v1/index/sha256/" + image.Encoded(),
	} {
		t.Run(dir, func(t *testing.T) {
			tree, store, _ := smallRegistry(t)
			storagetest.MoveAway(t, tree.Path(dir))
			_, err := inventory.Take(t.Context(), store, inventory.Options{})
			if err == nil || !strings.Contains(err.Error(), dir+":") || !strings.Contains(err.Error(), "symbolic link") {
				t.Errorf("the inventory goes on: %v", err)
			}
		})
	}
}

// A symbolic link among the blobs can only hide some blobs, which are then never removed. Files
// behind it can't be trusted, so they are not read.
func TestSymbolicLinksAmongBlobs(t *testing.T) {
	for _, at := range []string{"blobs/sha256/%/@", "blobs/sha256/%/@/data"} {
		t.Run(at, func(t *testing.T) {
			tree, store, image := smallRegistry(t)
			at := strings.NewReplacer("%", image.Encoded()[:2], "@", image.Encoded()).Replace(at)
			storagetest.MoveAway(t, tree.Path(at))
			inv := takenInventory(t, store)
			if strings.HasSuffix(at, "/data") != inv.Stored(inv.ID(image)) {
				t.Errorf("%s is stored: %t", image, inv.Stored(inv.ID(image)))
			}
			if content, err := store.Read(t.Context(), layout.BlobPath(image), 1<<20); !errors.Is(err, storage.ErrNotRegular) {
				t.Errorf("read: %q, %v", content, err)
			}
			if outcome := store.Remove(t.Context(), []storage.Ref{{Path: layout.BlobPath(image)}})[0]; outcome.Err == nil {
				t.Error("what lies behind a link is removed")
			}
			if !tree.Exists(layout.BlobPath(image)) {
				t.Error("the blob is gone")
			}
		})
	}
}

// The parent of several files is opened once. A file behind a symbolic link is kept
// (promise 1), and so is everything else in these directories.
func TestRemovalOfNeighbours(t *testing.T) {
	const around = "blobs/sha256/ab"
	for name, beside := range map[string]string{"all": "", "one behind a link": "linked", "another that stays": "staying"} {
		t.Run(name, func(t *testing.T) {
			tree := storagetest.NewTree(t)
			var refs []storage.Ref
			for _, digits := range []string{"00", "01", "02", "03"} {
				path := around + "/ab" + digits + storagetest.HexOf(digits)[4:] + "/" + layout.DataFile
				tree.Write(path, digits)
				refs = append(refs, storage.Ref{Path: path})
			}
			refused := -1
			switch beside {
			case "linked":
				refused = 1
				storagetest.MoveAway(t, filepath.Dir(tree.Path(refs[refused].Path)))
			case "staying":
				tree.Write(around+"/stray", "")
			}
			store := storagetest.MustOpen(t)(Open(tree.Root(), storage.Limits{}))
			for i, outcome := range store.Remove(t.Context(), append(refs, storage.Ref{Path: "blobs/sha256/cd/absent/data"})) {
				if (outcome.Err != nil) != (i == refused) {
					t.Errorf("removal %d: %v", i, outcome.Err)
				}
				if i < len(refs) && tree.Exists(refs[i].Path) != (i == refused) {
					t.Errorf("file %d is there: %t", i, i != refused)
				}
			}
			if tree.Exists(around) != (beside != "") || !tree.Exists("blobs/sha256") {
				t.Error("directories that are empty stay, or others go")
			}
		})
	}
}

// A link file that is a symbolic link, a pipe or a directory is damaged, and nothing
// waits for a writer that never comes (promise 2).
func TestLinksThatAreNoFiles(t *testing.T) {
	makers := map[string]func(t *testing.T, path string){
		"symbolic link": func(t *testing.T, path string) { storagetest.MoveAway(t, path) },
		"pipe": func(t *testing.T, path string) {
			if err := errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o644)); err != nil {
				t.Fatal(err)
			}
		},
		"directory": func(t *testing.T, path string) {
			if err := errors.Join(os.Remove(path), os.Mkdir(path, 0o755)); err != nil {
				t.Fatal(err)
			}
		},
	}
	for name, spoil := range makers {
		t.Run(name, func(t *testing.T) {
			for _, damaged := range []string{"revision", "current"} {
				tree, store, image := smallRegistry(t)
				path := map[string]string{"revision": layout.RevisionPath("app", image), "current": layout.TagPath("app", "v1")}[damaged]
				spoil(t, tree.Path(path))
				inv := takenInventory(t, store)
				r := inv.Repositories[0]
				if !r.Kept() || len(r.Problems) != 1 || r.Problems[0].Kind != inventory.DamagedLink || r.Problems[0].Path != path {
					t.Errorf("%s: problems: %+v", damaged, r.Problems)
				}
			}

			tree, store, image := smallRegistry(t)
			layer := layout.LayerPath("app", imagetest.Layer(1, 10).Digest())
			spoil(t, tree.Path(layer))
			if exists, damage, err := inventory.CheckLink(t.Context(), store, layer); !exists || damage == "" || err != nil {
				t.Errorf("a layer link: there: %t, %q, %v", exists, damage, err)
			}
			spoil(t, tree.Path(layout.BlobPath(image)))
			if _, err := store.Read(t.Context(), layout.BlobPath(image), 1<<20); !errors.Is(err, storage.ErrNotRegular) {
				t.Errorf("a manifest: %v", err)
			}
			if _, err := store.Stat(t.Context(), layout.BlobPath(image)); !errors.Is(err, storage.ErrNotRegular) {
				t.Errorf("stat: %v", err)
			}
			if name == "directory" {
				return // it is not a file of the upload
			}
			spoil(t, tree.Path(layout.UploadPath("app", "upload")+"/startedat"))
			upload := takenInventory(t, store).Repositories[0].Uploads[0]
			if upload.Started.IsZero() || upload.Started != upload.Touched {
				t.Errorf("an upload begun %v was touched %v", upload.Started, upload.Touched)
			}
		})
	}
}

// Directories that are empty after a removal are removed. Directories that a registry expects
// are kept, and so are directories that are not empty.
func TestEmptiedDirectories(t *testing.T) {
	tree, store, image := smallRegistry(t)
	layer := imagetest.Layer(1, 10).Digest()
	tree.LayerLink("app/nested", layer)
	tree.Write("repositories/app/_layers/sha256/stray", "kept")
	signature := digest.FromString("signature")
	for _, step := range []struct {
		remove      string
		gone, stays []string
	}{
		{layout.LayerPath("app", layer), []string{"repositories/app/_layers/sha256/" + layer.Encoded()}, []string{"repositories/app/_layers/sha256/stray"}},
		{layout.LayerPath("app/nested", layer), []string{"repositories/app/nested/_layers/sha256"}, []string{"repositories/app/nested/_layers"}},
		{layout.TagIndexPath("app", "v1", image), []string{"repositories/app/_manifests/tags/v1/index/sha256"}, []string{"repositories/app/_manifests/tags/v1/index", layout.TagPath("app", "v1")}},
		{
			layout.SignaturePath("app", image, signature),
			[]string{"repositories/app/_manifests/revisions/sha256/" + image.Encoded() + "/signatures"}, []string{layout.RevisionPath("app", image)},
		},
		{layout.RevisionPath("app", image), []string{"repositories/app/_manifests/revisions/sha256"}, []string{"repositories/app/_manifests/revisions"}},
		{layout.UploadPath("app", "upload") + "/hashstates/sha256/12", []string{layout.UploadPath("app", "upload") + "/hashstates"}, []string{layout.UploadPath("app", "upload") + "/data"}},
		{layout.UploadPath("app", "upload") + "/data", nil, []string{layout.UploadPath("app", "upload") + "/startedat"}},
		{layout.UploadPath("app", "upload") + "/startedat", []string{layout.UploadPath("app", "upload")}, []string{"repositories/app/_uploads"}},
		{layout.BlobPath(image), []string{"blobs/sha256/" + image.Encoded()[:2]}, []string{"blobs/sha256"}},
	} {
		if outcome := store.Remove(t.Context(), []storage.Ref{{Path: step.remove}})[0]; outcome.Err != nil || outcome.Hidden {
			t.Fatalf("remove %s: %+v", step.remove, outcome)
		}
		for _, path := range step.gone {
			if tree.Exists(path) {
				t.Errorf("%s went, and %s is there", step.remove, path)
			}
		}
		for _, path := range step.stays {
			if !tree.Exists(path) {
				t.Errorf("%s went, and %s with it", step.remove, path)
			}
		}
	}
	// The same removal again succeeds: an absent object counts as removed.
	if outcome := store.Remove(t.Context(), []storage.Ref{{Path: layout.BlobPath(image)}})[0]; outcome.Err != nil {
		t.Error(outcome.Err)
	}
}

// Remove does not remove a directory at the path of a file.
func TestRemoveTakesNoDirectory(t *testing.T) {
	tree, store, image := smallRegistry(t)
	tree.Remove(layout.BlobPath(image))
	tree.Mkdir(layout.BlobPath(image))
	if outcome := store.Remove(t.Context(), []storage.Ref{{Path: layout.BlobPath(image)}})[0]; !errors.Is(outcome.Err, storage.ErrNotRegular) {
		t.Errorf("remove: %v", outcome.Err)
	}
	if !tree.Exists(layout.BlobPath(image)) {
		t.Error("the directory is gone")
	}
}

// Pruning a repository removes its own directories, and none of a nested repository.
func TestPruneSparesNestedRepositories(t *testing.T) {
	tree := storagetest.NewTree(t)
	for _, dir := range []string{"team/app/_layers/sha256", "team/app/_manifests/tags/v1/index/sha256", "team/app/_uploads", "team/app/deep/_layers", "other/_layers"} {
		tree.Mkdir("repositories/" + dir)
	}
	tree.LayerLink("team/app/deep", digest.FromString("kept"))
	store := storagetest.MustOpen(t)(Open(tree.Root(), storage.Limits{}))
	prune := func(repository string) {
		t.Helper()
		for _, dir := range layout.LayoutPaths(repository) {
			if _, err := store.Prune(t.Context(), dir); err != nil {
				t.Fatal(err)
			}
		}
	}
	there := func(want string) {
		t.Helper()
		var found []string
		for _, dir := range []string{"team/app/_layers", "team/app/_manifests", "team/app/_uploads", "team/app/deep/_layers", "team/app", "team", "other", ""} {
			if tree.Exists("repositories/" + dir) {
				found = append(found, dir)
			}
		}
		if got := strings.Join(found, " "); got != want {
			t.Errorf("there is %q, want %q", got, want)
		}
	}
	prune("team/app")
	there("team/app/deep/_layers team/app team other ")
	prune("team/app/deep") // has a link and must be kept
	there("team/app/deep/_layers team/app team other ")
	tree.Remove("repositories/team/app/deep/_layers/sha256")
	prune("team/app/deep")
	there("other ")
	prune("other")
	there("")
}

// The layout may be missing, and the root directory may be a symbolic link.
func TestOpenFilesystem(t *testing.T) {
	empty := t.TempDir()
	store := storagetest.MustOpen(t)(Open(empty, storage.Limits{}))
	if inv := takenInventory(t, store); inv.Blobs() != 0 || len(inv.Repositories) != 0 {
		t.Errorf("there is something: %+v", inv)
	}
	if _, err := store.Read(t.Context(), "blobs/x", 1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("read: %v", err)
	}
	if _, err := store.Stat(t.Context(), "blobs/x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("stat: %v", err)
	}
	if outcome := store.Remove(t.Context(), []storage.Ref{{Path: "blobs/x"}})[0]; outcome.Err != nil {
		t.Errorf("remove: %v", outcome.Err)
	}
	if _, err := store.Prune(t.Context(), "repositories/app/_layers"); err != nil {
		t.Errorf("prune: %v", err)
	}

	tree, direct, _ := smallRegistry(t)
	alias := filepath.Join(t.TempDir(), "alias")
	if err := os.Symlink(tree.Root(), alias); err != nil {
		t.Fatal(err)
	}
	through := storagetest.MustOpen(t)(Open(alias, storage.Limits{}))
	if through.Identity() != direct.Identity() {
		t.Errorf("through a link it is %+v, and else %+v", through.Identity(), direct.Identity())
	}
	if inv := takenInventory(t, through); len(inv.Repositories) != 1 {
		t.Errorf("through a link there are %d repositories", len(inv.Repositories))
	}

	for name, root := range map[string]string{"what is not there": filepath.Join(empty, "none"), "a file": tree.Path(layout.BlobPath(digest.FromString("signature")))} {
		if _, err := Open(root, storage.Limits{}); err == nil {
			t.Errorf("%s is opened", name)
		}
	}
}

// On a filesystem that can't rename without replacing, a move makes a second name and then removes
// the first. A move that was interrupted between these two steps is completed.
func TestAMoveGoesOnFromTwoNames(t *testing.T) {
	tree, store, image := smallRegistry(t)
	from := imagetest.BlobPath(image)
	tree.Mkdir(storagetest.Moved("blobs"))
	if err := os.Link(tree.Path(from), tree.Path(storagetest.Moved("blobs/one"))); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(tree.Path(from))
	if err != nil {
		t.Fatal(err)
	}
	tree.Write(storagetest.Moved("blobs/another"), string(content))
	if o := store.Move(t.Context(), []storage.Move{{From: from, To: storagetest.Moved("blobs/another")}})[0]; !errors.Is(o.Err, fs.ErrExist) || !tree.Exists(from) {
		t.Errorf("onto another file of the same content: %v", o.Err)
	}
	if o := store.Move(t.Context(), []storage.Move{{From: from, To: storagetest.Moved("blobs/one")}})[0]; o.Err != nil || tree.Exists(from) || !tree.Exists(storagetest.Moved("blobs/one")) {
		t.Errorf("onto its own second name: %v, and the first is there: %v", o.Err, tree.Exists(from))
	}
}

// If a run is killed while it writes its plan, the next run overwrites the incomplete file, although
// its plan has another path.
func TestHalfAPlanDoesNotStay(t *testing.T) {
	tree, store, _ := smallRegistry(t)
	tree.Write(temporaryFor(storage.QuarantineDir+"/run1/plan.jsonl"), "half a pl")
	if err := store.Put(t.Context(), storage.QuarantineDir+"/run2/plan.jsonl", strings.NewReader("a plan")); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(tree.Path(storage.OwnDir))
	if err != nil || len(entries) != 1 {
		t.Errorf("there is %v, %v", entries, err)
	}
}

// With a lower Limits.Concurrency fewer removals run at once.
func TestBulkHeedsConcurrency(t *testing.T) {
	for _, limit := range []int{0, 1, 5} {
		store := storagetest.MustOpen(t)(Open(storagetest.NewTree(t).Root(), storage.Limits{Concurrency: limit}))
		if bulk := store.Bulk(); bulk.Calls != store.Concurrency() || bulk.Objects < 1 || bulk.Objects > storage.RemoveBatch {
			t.Errorf("of %d requests at once: %+v", store.Concurrency(), bulk)
		}
	}
}

// With a buffer of any size ReadInto returns the same content and the same errors as Read.
func TestReadIntoReadsLikeRead(t *testing.T) {
	tree := storagetest.NewTree(t)
	const length = 64
	names := []string{"directory/", "missing"}
	for _, size := range []int{0, 1, length - 1, length, length + 1, 3 * length, 20 << 10} {
		names = append(names, fmt.Sprint(size))
		tree.Write(fmt.Sprint(size), strings.Repeat("abcdefg", size)[:size])
	}
	tree.Write("directory/file", "")
	for name, store := range map[string]storage.Store{
		"filesystem": storagetest.MustOpen(t)(Open(tree.Root(), storage.Limits{})), "driver": driver.Over(drivertest.Filesystem(tree.Root()), tree.Root()),
	} {
		for _, path := range names {
			path = strings.TrimSuffix(path, "/")
			for _, limit := range []int64{length, 2 * length, 1 << 20} {
				want, wantErr := store.Read(t.Context(), path, limit)
				for _, buffer := range [][]byte{nil, make([]byte, length), make([]byte, 4*length)} {
					got, err := storage.ReadInto(t.Context(), store, buffer, path, limit)
					if !bytes.Equal(got, want) || fmt.Sprint(err) != fmt.Sprint(wantErr) {
						t.Errorf("%s: a buffer of %d bytes, %s, at most %d: %d bytes, %v, want %d, %v",
							name, len(buffer), path, limit, len(got), err, len(want), wantErr)
					}
				}
			}
		}
	}
}

// A directory inherits the owner and the permissions of its parent. This also holds if another
// goroutine has just made the parent: nobody may use it before it has its owner and permissions.
func TestDirectoriesMadeAtOnceTakeAfterTheirs(t *testing.T) {
	t.Parallel()
	tree := storagetest.NewTree(t)
	tree.Mkdir(storage.RepositoriesDir)
	layout := filepath.Join(tree.Root(), storage.Root)
	const permissions = 0o711 // different from those of a new directory
	if err := os.Chmod(layout, permissions); err != nil {
		t.Fatal(err)
	}
	store := storagetest.MustOpen(t)(Open(tree.Root(), storage.Limits{}))
	for n := range 100 {
		var group errgroup.Group
		for i := range 8 {
			group.Go(func() error { return store.MakeDir(t.Context(), fmt.Sprintf("made%d/a/b/c/%d", n, i)) })
		}
		if err := group.Wait(); err != nil {
			t.Fatal(err)
		}
		err := filepath.WalkDir(filepath.Join(layout, fmt.Sprintf("made%d", n)), func(path string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if info, err := entry.Info(); err != nil || info.Mode().Perm() != permissions {
				t.Errorf("%s is %v, %v", path, info.Mode(), err)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
