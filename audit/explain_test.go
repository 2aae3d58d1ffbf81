package audit_test

import (
	"slices"
	"testing"

	"regsweep/audit"
	"regsweep/internal/audittest"
	"regsweep/internal/imagetest"
	"regsweep/inventory"
	"regsweep/storage/storagetest"
)

// The answer counts all blobs that would be removed with the object, without a directory that has no blob, and names
// the largest ones.
func TestTheLargestBlobsAreRemovedWithIt(t *testing.T) {
	tree := storagetest.NewTree(t)
	var layers []imagetest.Blob
	for i := range 121 {
		layers = append(layers, imagetest.Layer(uint64(i), 1000*(i*37%121+1))) // not in the order of the sizes
	}
	image := imagetest.Image(imagetest.OCI, layers...)
	tree.Tag("app", "v1", tree.Manifest("app", image))
	lost := imagetest.BlobPath(layers[0].Digest())
	tree.Remove(lost)
	tree.Mkdir(lost[:len(lost)-len("/data")])

	facts, store := audittest.Read(t, tree.Root(), inventory.Options{})
	id, _ := facts.Inventory.Find(image.Digest())
	why, err := facts.Explain(t.Context(), id, audit.WhyOptions{Limit: 1, Reader: store, Concurrency: 4})
	if err != nil {
		t.Fatal(err)
	}
	sizes, sum := []int64{}, int64(0)
	for _, blob := range image.Blobs {
		if blob.Digest() != layers[0].Digest() {
			sizes = append(sizes, int64(len(blob.Content)))
			sum += int64(len(blob.Content))
		}
	}
	slices.Sort(sizes)
	slices.Reverse(sizes)
	with := why.RemovedWith
	if with.Blobs != len(sizes) || with.Bytes != sum || len(with.Largest) != 100 {
		t.Errorf("%d blobs with %d bytes, %d of them named; want %d with %d, 100 named", with.Blobs, with.Bytes, len(with.Largest), len(sizes), sum)
	}
	for i, b := range with.Largest {
		if b.Bytes != sizes[i] || b.Kind != audit.Layer && b.Kind != audit.Config {
			t.Fatalf("the %d. blob is a %s with %d bytes, want a layer or a config with %d", i+1, b.Kind, b.Bytes, sizes[i])
		}
	}
}
