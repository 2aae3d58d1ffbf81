package audit

import (
	"fmt"
	"testing"

	"regsweep/internal/imagetest"
	"regsweep/inventory"
	"regsweep/mark"
	"regsweep/storage"
	"regsweep/storage/filesystem"
	"regsweep/storage/storagetest"

	"github.com/opencontainers/go-digest"
)

// Many repositories may have the same alias and the same signatures. The walk over all uses takes no longer
// because of that: each use is visited once.
func TestTheCostOfUsesDoesNotGrowWithRepositories(t *testing.T) {
	tree := storagetest.NewTree(t)
	layer := imagetest.Layer(1, 10)
	long := digest.SHA512.FromBytes(layer.Content)
	image := tree.Blob([]byte(fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",
		"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"%s","size":2},
		"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"%s","size":10}]}`, tree.Blob([]byte("{}")), long)))
	signed := imagetest.Schema1("app", "old", layer)
	signature := tree.Blob([]byte("signature"))
	for _, name := range []string{"a", "b", "c"} {
		tree.Revision(name, image)
		tree.Write(imagetest.LayerPath(name, long), tree.Blob(layer.Content).String())
		tree.Manifest(name, signed)
		tree.Write(imagetest.SignaturePath(name, signed.Digest(), signature), signature.String())
	}
	store := storagetest.MustOpen(t)(filesystem.Open(tree.Root(), storage.Limits{}))
	inv, err := inventory.Take(t.Context(), store, inventory.Options{})
	if err != nil {
		t.Fatal(err)
	}
	graph, err := mark.Read(t.Context(), inv, store, mark.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	visits := map[[2]digest.Digest]int{}
	eachUse(inv, graph, func(by, of inventory.ID, _ Kind) { visits[[2]digest.Digest{inv.Digest(by), inv.Digest(of)}]++ })
	for _, use := range [][2]digest.Digest{{image, long}, {image, layer.Digest()}, {signed.Digest(), signature}, {signed.Digest(), layer.Digest()}} {
		if visits[use] != 1 {
			t.Errorf("the use of %s by %s is visited %d times", use[1], use[0], visits[use])
		}
	}
}
