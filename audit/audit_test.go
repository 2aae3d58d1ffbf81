package audit_test

import (
	"testing"

	"regsweep/audit"
	"regsweep/internal/audittest"
	"regsweep/internal/imagetest"
	"regsweep/storage/storagetest"
)

// The largest blobs come first, and name those who hold them.
func TestLargestBlobs(t *testing.T) {
	tree := storagetest.NewTree(t)
	shared, own := imagetest.Layer(1, 3000), imagetest.Layer(2, 2000)
	for _, name := range []string{"team/a", "team/b"} {
		tree.Tag(name, "v1", tree.Manifest(name, imagetest.Image(imagetest.OCI, shared)))
	}
	tree.Tag("team/c", "v1", tree.Manifest("team/c", imagetest.Image(imagetest.OCI, own, shared)))
	facts, _ := audittest.Read(t, tree.Root(), audittest.Bill)
	bill, err := audit.New(t.Context(), facts, 2)
	if err != nil {
		t.Fatal(err)
	}
	if len(bill.Blobs) != 2 || bill.Blobs[0].Digest != shared.Digest() || bill.Blobs[1].Digest != own.Digest() {
		t.Fatalf("the largest are %+v", bill.Blobs)
	}
	if b := bill.Blobs[0]; b.Repositories != 3 || b.Manifests != 2 || len(b.Holders) != 3 || b.Holders[2] != "team/c" {
		t.Errorf("the largest is %+v", b)
	}
}
