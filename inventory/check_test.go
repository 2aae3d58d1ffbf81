package inventory

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"regsweep/internal/drivertest"
	"regsweep/storage"
	"regsweep/storage/driver"
	"regsweep/storage/filesystem"
	"regsweep/storage/storagetest"

	"github.com/opencontainers/go-digest"
)

// A link that exists and contains the digest in its path is not in doubt. Every other link is. On a
// storage without a LinkVerifier all links are in doubt.
func TestInDoubt(t *testing.T) {
	tree := storagetest.NewTree(t)
	layer := func(name, content string) string {
		tree.Write("blobs/sha256/"+storagetest.HexOf(name)[:2]+"/"+storagetest.HexOf(name)+"/data", name)
		path := "repositories/app/_layers/sha256/" + storagetest.HexOf(name) + "/link"
		tree.Write(path, content)
		return path
	}
	var good []string
	for i := range 30 { // more than are verified together
		name := "good" + strings.Repeat("x", i)
		layer(name, "sha256:"+storagetest.HexOf(name))
		good = append(good, name)
	}
	layer("other", "sha256:"+storagetest.HexOf("good"))
	layer("longer", "sha256:"+storagetest.HexOf("longer")+"\n")
	layer("empty", "")
	if err := os.Remove(tree.Path(layer("missing", ""))); err != nil {
		t.Fatal(err)
	}
	linked := tree.Path(layer("linked", ""))
	if err := os.Remove(linked); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join("..", storagetest.HexOf("good"), "link"), linked); err != nil {
		t.Fatal(err)
	}
	doubted := []string{"other", "longer", "empty", "missing", "linked", "not stored"}
	tree.Write("repositories/app/_layers/sha256/"+storagetest.HexOf("not stored")+"/link", "sha256:"+storagetest.HexOf("not stored"))

	for name, store := range map[string]storage.Store{
		"filesystem": storagetest.MustOpen(t)(filesystem.Open(tree.Root(), storage.Limits{})), "driver": driver.Over(drivertest.Filesystem(tree.Root()), tree.Root()),
	} {
		inv := inventoryOf(t, store)
		var layers, want []ID
		for _, name := range slices.Concat(good, doubted) {
			layers = append(layers, inv.ID(digest.Digest("sha256:"+storagetest.HexOf(name))))
		}
		want = layers[len(good):]
		if name == "driver" {
			want = layers
		}
		got, err := InDoubt(t.Context(), store, inv, "app", slices.Clone(layers), 4)
		slices.Sort(got)
		if want = slices.Sorted(slices.Values(want)); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: there is doubt of %d, want %d: %v", name, got, want, err)
		}
	}
}
