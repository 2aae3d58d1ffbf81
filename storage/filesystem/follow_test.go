//go:build unix

package filesystem

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"regsweep/internal/imagetest"
	"regsweep/inventory"
	"regsweep/storage"
	"regsweep/storage/layout"
	"regsweep/storage/storagetest"

	"github.com/opencontainers/go-digest"
)

// followed are the directories that operators put on another disk and replace by a symbolic link.
var followed = []string{"blobs", "blobs/sha256", "repositories", "repositories/team", "repositories/team/app", "repositories/lib"}

// linkedTree is a registry with two repositories.
func linkedTree(t *testing.T) (tree *imagetest.Tree, images []digest.Digest) {
	t.Helper()
	tree = storagetest.NewTree(t)
	for i, name := range []string{"lib", "team/app"} {
		image := tree.Manifest(name, imagetest.Image(imagetest.OCI, imagetest.Layer(uint64(i), 100)))
		tree.Tag(name, "v1", image)
		tree.Upload(name, "upload", storagetest.UploadStart, []byte("half"))
		images = append(images, image)
	}
	return tree, images
}

// Files behind a symbolic link that operators make are listed, read, removed and moved like other
// files of the tree.
func TestLinksToOtherDisksAreFollowed(t *testing.T) {
	for _, dirs := range append([][]string{{"blobs", "repositories"}, {"repositories/team/app", "repositories/team", "repositories"}}, chunks(followed)...) {
		t.Run(strings.Join(dirs, ","), func(t *testing.T) {
			tree, images := linkedTree(t)
			want := scanAll(t, storagetest.MustOpen(t)(Open(tree.Root(), storage.Limits{})))
			for _, dir := range dirs {
				storagetest.MoveAway(t, tree.Path(dir))
			}
			open := func() storage.Store { return storagetest.MustOpen(t)(Open(tree.Root(), storage.Limits{})) }
			if got := scanAll(t, open()); !reflect.DeepEqual(got, want) {
				t.Errorf("listed are\n%v, want\n%v", got, want)
			}
			// Each call may be the first one.
			blob, link := layout.BlobPath(images[1]), layout.LayerPath("team/app", images[1])
			tree.Write(link, string(images[1]))
			for _, path := range []string{blob, layout.RevisionPath("team/app", images[1])} {
				if content, err := open().Read(t.Context(), path, 1<<20); err != nil || len(content) == 0 {
					t.Errorf("read %s: %v", path, err)
				}
				buffer := make([]byte, 1<<16)
				if content, err := storage.ReadInto(t.Context(), open(), buffer, path, 1<<20); err != nil || len(content) == 0 {
					t.Errorf("read %s: %v", path, err)
				}
				if object, err := open().Stat(t.Context(), path); err != nil || object.Size == 0 {
					t.Errorf("stat %s: %+v, %v", path, object, err)
				}
			}
			store := open()
			takenInventory(t, store)
			tree.Mkdir("repositories/team/app/_layers/sha512/empty")
			if gone, err := open().Prune(t.Context(), "repositories/team/app/_layers/sha512"); err != nil || !gone {
				t.Errorf("pruned: %t, %v", gone, err)
			}
			away := storage.Move{From: blob, To: storage.QuarantineDir + "/run/data/" + blob}
			if outcome := open().Move(t.Context(), []storage.Move{away})[0]; outcome.Err != nil || tree.Exists(blob) || !tree.Exists(away.To) {
				t.Errorf("moved: %v", outcome.Err)
			}
			back := storage.Move{From: away.To, To: blob}
			if outcome := open().Move(t.Context(), []storage.Move{back})[0]; outcome.Err != nil || !tree.Exists(blob) {
				t.Errorf("moved back: %v", outcome.Err)
			}
			if outcome := open().Remove(t.Context(), []storage.Ref{{Path: link}})[0]; outcome.Err != nil || tree.Exists(link) {
				t.Errorf("removed: %v", outcome.Err)
			}
			if outcome := open().Remove(t.Context(), []storage.Ref{{Path: blob}})[0]; outcome.Err != nil || tree.Exists(blob) {
				t.Errorf("removed: %v", outcome.Err)
			}
			for _, dir := range dirs {
				if info, err := os.Lstat(tree.Path(dir)); err != nil || info.Mode()&fs.ModeSymlink == 0 {
					t.Errorf("%s is not the link that it was: %v", dir, err)
				}
			}
			if err := open().Sync(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

func chunks(dirs []string) [][]string { return slices.Collect(slices.Chunk(dirs, 1)) }

// scanAll are all objects that both scans report, without the times of directories.
func scanAll(t *testing.T, store storage.Store) map[string]int64 {
	t.Helper()
	all := map[string]int64{}
	for _, dir := range []string{storage.BlobsDir, storage.RepositoriesDir} {
		for path, object := range storagetest.Scan(t, store, dir) {
			all[path] = object.Size
		}
	}
	return all
}

// If a symbolic link leads nowhere, to a file, or back into the storage, the run fails and names it.
func TestLinksThatAreNotFollowed(t *testing.T) {
	for name, test := range map[string]struct {
		dir, target string // the target is relative to the directory of the link, or absolute
		want        string
	}{
		"to nothing":                    {"repositories/new", "/nowhere/at/all", "does not exist"},
		"to a file":                     {"repositories/new", "/etc/passwd", "symbolic link"},
		"to itself":                     {"repositories/new", "new", "symbolic link"},
		"to another repository":         {"repositories/new", "lib", "back into the storage"},
		"to the repositories":           {"repositories/new", ".", "back into the storage"},
		"to a parent of the storage":    {"repositories/new", "../../../..", "back into the storage"},
		"to the root of all":            {"repositories/new", "/", "back into the storage"},
		"of blobs to the repositories":  {"blobs/sha512", "../repositories", "back into the storage"},
		"to what another link leads to": {"repositories/team", "%", "back into the storage"},
		"to a part of it":               {"repositories/team", "%/sub", "back into the storage"},
	} {
		t.Run(name, func(t *testing.T) {
			tree, images := linkedTree(t)
			elsewhere := t.TempDir()
			if strings.Contains(test.target, "%") {
				tree.Mkdir("repositories/lib/sub")
				if err := errors.Join(os.RemoveAll(tree.Path("repositories/team")), os.Rename(tree.Path("repositories/lib"), elsewhere+"/lib"),
					os.Symlink(elsewhere+"/lib", tree.Path("repositories/lib"))); err != nil {
					t.Fatal(err)
				}
				if err := os.Symlink(strings.ReplaceAll(test.target, "%", elsewhere+"/lib"), tree.Path(test.dir)); err != nil {
					t.Fatal(err)
				}
			} else if err := os.Symlink(test.target, tree.Path(test.dir)); err != nil {
				t.Fatal(err)
			}
			store := storagetest.MustOpen(t)(Open(tree.Root(), storage.Limits{}))
			_, err := inventory.Take(t.Context(), store, inventory.Options{})
			named := err != nil && (strings.Contains(err.Error(), test.dir+":") || strings.Contains(test.target, "%") && strings.Contains(err.Error(), "repositories/lib:"))
			if !named || !strings.Contains(err.Error(), test.want) {
				t.Errorf("the inventory ends with %v", err)
			}
			if strings.Contains(test.target, "%") {
				return
			}
			inside := test.dir + "/_manifests/revisions/sha256/" + images[0].Encoded() + "/link"
			if outcome := store.Remove(t.Context(), []storage.Ref{{Path: inside}})[0]; strings.Contains(test.want, "back") && outcome.Err == nil {
				t.Error("what lies behind the link is removed")
			}
			if !tree.Exists(layout.RevisionPath("lib", images[0])) {
				t.Error("a live link is gone")
			}
		})
	}
}

// docker, registry and v2 may be symbolic links too. A link to nothing is no empty storage.
func TestTheLayoutMayBeALink(t *testing.T) {
	for _, dir := range []string{"docker", "docker/registry", "docker/registry/v2"} {
		tree, _ := linkedTree(t)
		want := scanAll(t, storagetest.MustOpen(t)(Open(tree.Root(), storage.Limits{})))
		at := filepath.Join(tree.Root(), dir)
		storagetest.MoveAway(t, at)
		if got := scanAll(t, storagetest.MustOpen(t)(Open(tree.Root(), storage.Limits{}))); !reflect.DeepEqual(got, want) {
			t.Errorf("through %s: %v, want %v", dir, got, want)
		}
		if err := errors.Join(os.Remove(at), os.Symlink("/nowhere", at)); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(tree.Root(), storage.Limits{}); err == nil || !strings.Contains(err.Error(), at+":") {
			t.Errorf("%s leads to nothing: %v", dir, err)
		}
	}
}

// All calls use the tree that was opened first, even if its path leads to another one later.
func TestOneTreeForAllCalls(t *testing.T) {
	for name, replace := range map[string]func(t *testing.T, root string){
		"the root is moved":   func(t *testing.T, root string) { moveTree(t, root) },
		"the layout is moved": func(t *testing.T, root string) { moveTree(t, filepath.Join(root, storage.Root)) },
		"a link replaces it":  func(t *testing.T, root string) { storagetest.MoveAway(t, filepath.Join(root, "docker")) },
	} {
		t.Run(name, func(t *testing.T) {
			tree, images := linkedTree(t)
			store := storagetest.MustOpen(t)(Open(tree.Root(), storage.Limits{}))
			want := scanAll(t, store)
			replace(t, tree.Root())
			// Another tree without tags replaces it.
			tree.Blob([]byte("another tree"))
			if got := scanAll(t, store); !reflect.DeepEqual(got, want) && name != "a link replaces it" {
				t.Errorf("listed are\n%v, want\n%v", got, want)
			}
			inv := takenInventory(t, store)
			if len(inv.Repositories) != 2 || !inv.Stored(inv.ID(images[0])) {
				t.Errorf("the inventory is of another tree: %+v", inv.Repositories)
			}
			if outcome := store.Remove(t.Context(), []storage.Ref{{Path: layout.RevisionPath("lib", images[0])}})[0]; outcome.Err != nil {
				t.Error(outcome.Err)
			}
			if r := takenInventory(t, store).Repositories[0]; len(r.Revisions) != 0 {
				t.Errorf("one tree is listed, and from another one is removed: %+v", r)
			}
		})
	}
}

func moveTree(t *testing.T, path string) {
	t.Helper()
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
}
