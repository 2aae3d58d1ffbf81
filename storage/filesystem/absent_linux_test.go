package filesystem

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"

	"regsweep/internal/imagetest"
	"regsweep/internal/system"
	"regsweep/internal/system/systemtest"
	"regsweep/inventory"
	"regsweep/storage"
	"regsweep/storage/layout"
	"regsweep/storage/storagetest"

	"golang.org/x/sys/unix"
)

// A file or directory that was listed and is not found when it is opened does not count as absent.
// The first and the second scan, and the survey, fail and name it (promise 1).
func TestAbsenceOfWhatWasListed(t *testing.T) {
	_, _, image := smallRegistry(t)
	tag, revision := "repositories/app/_manifests/tags/v1", "repositories/app/_manifests/revisions/sha256/"+image.Encoded()
	for _, dir := range []string{
		"blobs/sha256", "blobs/sha256/" + image.Encoded()[:2], "repositories/app", "repositories/app/_layers",
		"repositories/app/_layers/sha256", "repositories/app/_manifests", "repositories/app/_manifests/revisions",
		"repositories/app/_manifests/revisions/sha256", revision, revision + "/signatures", "repositories/app/_manifests/tags",
		tag, tag + "/current", tag + "/index", tag + "/index/sha256",
	} {
		for name, fault := range map[string]struct {
			err  error
			ops  []string
			want string
		}{
			"gone when opened": {unix.ENOENT, []string{"openat", "openat2", "fstatat"}, dir + ":"},
			"untyped and gone": {unix.ENOENT, []string{"fstatat"}, dir[strings.LastIndex(dir, "/")+1:] + ":"},
			"listed as empty":  {system.ErrEmpty, []string{"getdents"}, dir + ":"},
		} {
			t.Run(name+" "+dir, func(t *testing.T) {
				tree, store, _ := smallRegistry(t)
				inv := takenInventory(t, store)
				reached := false
				systemtest.FailBelow(t, tree.Path(""), func(op, path string) error {
					switch {
					case op == "getdents" && name == "untyped and gone":
						return system.ErrUntyped
					// Without their stats the directories of revisions and tags are listed.
					case op == "fstatat" && name == "listed as empty" && (path == revision || path == tag):
						return unix.EIO
					case path != dir:
						return nil
					}
					for _, its := range fault.ops {
						if op == its {
							reached = true
							return fault.err
						}
					}
					return nil
				})
				scans := map[string]func() error{
					"first":  func() error { _, err := inventory.Take(t.Context(), store, inventory.Options{}); return err },
					"second": func() error { return inventory.ListAgain(t.Context(), store, inv) },
					"survey": func() error { _, err := inventory.TakeSurvey(t.Context(), store, 1, false); return err },
				}
				for which, scan := range scans {
					if strings.HasPrefix(dir, "blobs") && which != "first" {
						continue
					}
					reached = false
					err := scan()
					if err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), fault.want) {
						t.Errorf("%s: %v", which, err)
					}
					if !reached {
						t.Errorf("%s: the fault was not reached", which)
					}
				}
			})
		}
	}
}

// A revision that was deleted through the registry's API leaves its directory, without a link.
func TestADeletedRevisionIsNoFault(t *testing.T) {
	tree, store, image := smallRegistry(t)
	if err := os.Remove(tree.Path(layout.RevisionPath("app", image))); err != nil {
		t.Fatal(err)
	}
	inv := takenInventory(t, store)
	if r := inv.Repositories[0]; len(r.Revisions) != 0 || len(r.Problems) != 0 {
		t.Errorf("found %+v", r)
	}
	if err := inventory.ListAgain(t.Context(), store, inv); err != nil {
		t.Error(err)
	}
}

// A removal or a move counts only if a listing confirms that the object is gone.
func TestARemovalThatSaysAbsent(t *testing.T) {
	for name, ops := range map[string]string{
		"of the call": "unlinkat renameat2", "of all lookups": "unlinkat renameat2 fstatat openat openat2",
		"of lookups": "fstatat",
	} {
		for _, at := range []string{"", "/.."} { // the file, or its directory
			t.Run(name+at, func(t *testing.T) {
				tree, store, image := smallRegistry(t)
				tree.Upload("app", "upload", storagetest.UploadStart, []byte("half a layer"))
				for _, file := range []string{layout.BlobPath(image), layout.RevisionPath("app", image), layout.LayerPath("app", imagetest.Layer(1, 10).Digest())} {
					faulted := file
					if at != "" {
						faulted = file[:strings.LastIndex(file, "/")]
					}
					reached := false
					stop := systemtest.FailBelow(t, tree.Path(""), func(op, path string) error {
						if path == faulted && strings.Contains(ops, op) {
							reached = true
							return unix.ENOENT
						}
						return nil
					})
					removed := store.Remove(t.Context(), []storage.Ref{{Path: file}})[0].Err
					if exists := tree.Exists(file); removed == nil && exists {
						t.Errorf("%s counts as removed", file)
					}
					to := storage.QuarantineDir + "/run/data/" + file
					moved := store.Move(t.Context(), []storage.Move{{From: file, To: to}})[0].Err
					if moved == nil && (tree.Exists(file) || !tree.Exists(to)) {
						t.Errorf("%s counts as moved", file)
					}
					stop()
					if !reached && at == "" {
						t.Errorf("%s: the fault was not reached", file)
					}
				}
			})
		}
	}
	// An absent object counts as removed.
	_, store, _ := smallRegistry(t)
	for _, file := range []string{"blobs/sha256/ab/" + storagetest.HexOf("x") + "/data", "repositories/none/_layers/sha256/" + storagetest.HexOf("x") + "/link"} {
		if err := store.Remove(t.Context(), []storage.Ref{{Path: file}})[0].Err; err != nil {
			t.Error(err)
		}
		if err := store.Move(t.Context(), []storage.Move{{From: file, To: storage.QuarantineDir + "/run/" + file}})[0].Err; !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	}
}
