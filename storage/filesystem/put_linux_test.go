package filesystem

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"
	"testing"

	"regsweep/internal/imagetest"
	"regsweep/internal/servertest"
	"regsweep/storage"
	"regsweep/storage/layout"

	"github.com/opencontainers/go-digest"
)

// TestPutOnAnotherDisk: operators move the blobs to another disk. They mount it, or make a link to it.
func TestPutOnAnotherDisk(t *testing.T) {
	if os.Getuid() != 0 {
		servertest.Lacks(t, "only root can mount a disk")
	}
	for name, place := range map[string]func(tree *imagetest.Tree) (disk string){
		"mounted": func(tree *imagetest.Tree) string { tree.Mkdir(storage.BlobsDir); return tree.Path(storage.BlobsDir) },
		"linked": func(tree *imagetest.Tree) string {
			disk := t.TempDir()
			tree.Mkdir("")
			if err := os.Symlink(disk, tree.Path(storage.BlobsDir)); err != nil {
				t.Fatal(err)
			}
			return disk
		},
	} {
		t.Run(name, func(t *testing.T) {
			tree := imagetest.NewTree(t, t.TempDir())
			disk := place(tree)
			if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=1m"); err != nil {
				servertest.Lacks(t, "nothing can be mounted here: %v", err)
			}
			t.Cleanup(func() {
				if err := syscall.Unmount(disk, syscall.MNT_DETACH); err != nil {
					t.Error(err)
				}
			})
			tree.Blob([]byte("another"))
			store, err := Open(tree.Root(), storage.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			blob := layout.BlobPath(digest.FromString("content"))
			// A run that was killed has left its temporary file.
			left := path.Join(path.Dir(path.Dir(blob)), path.Base(temporaryFor(blob)))
			tree.Write(left, "half of the content")
			if err := store.Put(t.Context(), blob, strings.NewReader("content")); err != nil {
				t.Fatal(err)
			}
			if content, err := store.Read(t.Context(), blob, 100); err != nil || string(content) != "content" {
				t.Errorf("it has %q, %v", content, err)
			}
			if err := store.Put(t.Context(), blob, strings.NewReader("x")); !errors.Is(err, fs.ErrExist) {
				t.Errorf("put again: %v", err)
			}
			if files := imagetest.SnapshotT(t, disk); len(files) != 2 || tree.Exists(left) {
				t.Errorf("there is %v", files)
			}
			full := strings.NewReader(strings.Repeat("x", 2<<20))
			if err := store.Put(t.Context(), layout.BlobPath(digest.FromString("full")), full); !storage.IsFull(err) {
				t.Errorf("the disk is full: %v", err)
			}
			if files := imagetest.SnapshotT(t, disk); len(files) != 2 {
				t.Errorf("there is %v", files)
			}
		})
	}
}
