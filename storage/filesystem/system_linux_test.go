package filesystem

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"regsweep/internal/servertest"
	"regsweep/inventory"
	"regsweep/storage"
	"regsweep/storage/layout"
	"regsweep/storage/storagetest"

	"golang.org/x/sys/unix"
)

// unprivileged runs f as the user nobody if the test runs as root, who has all permissions. It
// changes the user of the whole process meanwhile, so the test must not be parallel.
func unprivileged(t *testing.T, root string, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		f()
		return
	}
	const nobody = 65534
	for _, dir := range []string{root, filepath.Dir(root)} { // only their owner may enter them
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Setresuid(-1, nobody, -1); err != nil {
		servertest.Lacks(t, "root may list every directory, and this one can't give that up: %v", err)
	}
	defer func() {
		if err := syscall.Setresuid(-1, 0, -1); err != nil {
			t.Fatal(err)
		}
	}()
	f()
}

// If a directory can't be listed, the scan fails and names it. The scan would be incomplete, and
// objects that are in use could be removed (promise 1).
func TestScanStopsAtWhatItCannotList(t *testing.T) {
	for _, dir := range []string{
		"blobs", "blobs/sha256", "repositories", "repositories/app", "repositories/app/_layers/sha256", "repositories/app/_manifests/revisions",
		"repositories/app/_manifests/tags/v1", "repositories/app/_manifests/tags/v1/current",
		// A link that can't be read is no different.
		"repositories/app/_manifests/tags/v1/current/link",
	} {
		t.Run(dir, func(t *testing.T) {
			tree, store, _ := smallRegistry(t)
			if err := os.Chmod(tree.Path(dir), 0); err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := os.Chmod(tree.Path(dir), 0o755); err != nil {
					t.Error(err)
				}
			}()
			var err error
			unprivileged(t, tree.Root(), func() {
				_, err = inventory.Take(t.Context(), store, inventory.Options{})
			})
			if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), dir+":") {
				t.Errorf("the inventory goes on: %v", err)
			}
		})
	}
}

// An upload that can't be read is kept and named, and stops nothing.
func TestAnUnreadableUploadIsKept(t *testing.T) {
	for _, at := range []string{"", "/startedat", "/hashstates", "/hashstates/sha256"} {
		t.Run("upload"+at, func(t *testing.T) {
			tree, store, _ := smallRegistry(t)
			upload := layout.UploadPath("app", "upload")
			tree.Write(upload+"/hashstates/sha256/0", "state")
			tree.Upload("app", "another", storagetest.UploadStart, []byte("half"))
			if err := os.Chmod(tree.Path(upload+at), 0); err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := os.Chmod(tree.Path(upload+at), 0o755); err != nil {
					t.Error(err)
				}
			}()
			var inv *inventory.Inventory
			var survey inventory.Survey
			unprivileged(t, tree.Root(), func() {
				inv = takenInventory(t, store)
				var err error
				if survey, err = inventory.TakeSurvey(t.Context(), store, 1, false); err != nil {
					t.Fatal(err)
				}
			})
			r := inv.Repositories[0]
			if len(r.Uploads) != 2 || r.Uploads[0].Started.IsZero() || !r.Uploads[1].Started.IsZero() {
				t.Errorf("the uploads are %+v", r.Uploads)
			}
			if len(r.Problems) != 1 || r.Problems[0].Kind != inventory.UnreadableUpload || r.Problems[0].Path != upload {
				t.Errorf("the problems are %+v", r.Problems)
			}
			if survey.LastUpload == nil || survey.LastUpload.Touched.IsZero() {
				t.Errorf("the last upload is %+v", survey.LastUpload)
			}
		})
	}
}

// An old upload is removed with everything in it, and nothing outside of it is removed
// (promise 1).
func TestOldUploadsGoWithWhatIsNoFile(t *testing.T) {
	tree, store, image := smallRegistry(t)
	upload := layout.UploadPath("app", "upload")
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	if err := os.WriteFile(elsewhere, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(elsewhere, tree.Path(upload+"/symbolic")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(tree.Path(upload+"/pipe"), 0o644); err != nil {
		t.Fatal(err)
	}
	uploads := takenInventory(t, store).Repositories[0].Uploads
	if len(uploads) != 1 || len(uploads[0].Objects) != 5 {
		t.Fatalf("the uploads are %+v", uploads)
	}
	for i, outcome := range store.Remove(t.Context(), uploads[0].Objects) {
		if outcome.Err != nil {
			t.Errorf("%s: %v", uploads[0].Objects[i].Path, outcome.Err)
		}
	}
	if tree.Exists(upload) {
		t.Error("something is left of the upload")
	}
	if _, err := os.Stat(elsewhere); err != nil {
		t.Errorf("what a symbolic link led to has gone: %v", err)
	}
	// Outside of uploads only regular files are removed.
	for _, path := range []string{layout.BlobPath(image), layout.LayerPath("app", image)} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(tree.Path(path)), 0o755), os.RemoveAll(tree.Path(path)), syscall.Mkfifo(tree.Path(path), 0o644)); err != nil {
			t.Fatal(err)
		}
		if outcome := store.Remove(t.Context(), []storage.Ref{{Path: path}})[0]; !errors.Is(outcome.Err, storage.ErrNotRegular) {
			t.Errorf("%s: %v", path, outcome.Err)
		}
	}
}

// Some filesystems don't return the types of entries. No record is read beyond the end of the
// kernel's answer. The records are made here, since the filesystem of the test returns types.
func TestEachRecord(t *testing.T) {
	dir := t.TempDir()
	for _, err := range []error{
		os.Mkdir(filepath.Join(dir, "directory"), 0o755), os.WriteFile(filepath.Join(dir, "file"), nil, 0o644),
		os.Symlink("file", filepath.Join(dir, "link")), syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	record := func(name string, kind byte) []byte {
		b := make([]byte, (19+len(name)+1+7)/8*8)
		binary.NativeEndian.PutUint16(b[16:], uint16(len(b)))
		b[18] = kind
		copy(b[19:], name)
		return b
	}
	want := map[string]fs.FileMode{
		"directory": fs.ModeDir, "file": 0, "link": fs.ModeSymlink, "pipe": fs.ModeIrregular,
		"told": fs.ModeDir, "told too": fs.ModeIrregular,
	}
	records := slices.Concat(record(".", unix.DT_DIR), record("told", unix.DT_DIR), record("told too", unix.DT_SOCK))
	for _, name := range []string{"directory", "file", "link", "pipe", ".."} {
		records = append(records, record(name, unix.DT_UNKNOWN)...)
	}
	opened, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	fd := int(opened.Fd())
	got := map[string]fs.FileMode{}
	if err := eachRecord(fd, records, func(name []byte, mode fs.FileMode) { got[string(name)] = mode }); err != nil || !maps.Equal(got, want) {
		t.Errorf("the entries are %v, want %v: %v", got, want, err)
	}

	// A name that was listed and is not found is a failure, and not a file.
	if err := eachRecord(fd, record("gone", unix.DT_UNKNOWN), func([]byte, fs.FileMode) {}); !errors.Is(err, storage.ErrGone) {
		t.Errorf("a name that is gone: %v", err)
	}

	short, long := record("file", unix.DT_REG), record("file", unix.DT_REG)
	binary.NativeEndian.PutUint16(short[16:], 18)
	binary.NativeEndian.PutUint16(long[16:], uint16(len(long)+1))
	for _, malformed := range [][]byte{short, long, records[:len(records)-1], records[:5]} {
		if err := eachRecord(fd, malformed, func([]byte, fs.FileMode) {}); err != errDirent {
			t.Errorf("of %q: %v", malformed, err)
		}
	}
}
