package inventory

import (
	"strings"
	"testing"
	"time"

	"regsweep/storage"
	"regsweep/storage/filesystem"
	"regsweep/storage/layout"
	"regsweep/storage/storagetest"
)

// TestEmptied: only a directory that a removal leaves empty counts. A directory that a registry
// expects, or that is outside of the layout, does not count.
func TestEmptied(t *testing.T) {
	t.Parallel()
	hex := strings.Repeat("ab", 32)
	for dir, want := range map[string]bool{
		"blobs": false, "blobs/sha256": false, "blobs/sha256/ab": true, "blobs/sha256/an empty directory": false, "blobs/md5/ab": false, "blobs/sha256/ab/" + hex: false,
		"repositories": false, "repositories/app": true, "repositories/team/app": true, "repositories/Foo": false,
		"repositories/app/_layers": false, "repositories/app/_layers/sha256": true, "repositories/app/_layers/md5": false, "repositories/app/_layers/sha256/" + hex: false,
		"repositories/app/_uploads": false, "repositories/app/_uploads/id": true, "repositories/app/_uploads/id/hashstates/sha256": true,
		"repositories/app/_manifests": false, "repositories/app/_manifests/tags": false, "repositories/app/_manifests/tags/v1": true, "repositories/app/_manifests/tags/..": false,
		"repositories/app/_manifests/tags/v1/current": false, "repositories/app/_manifests/tags/v1/index": false,
		"repositories/app/_manifests/tags/v1/index/sha512": true, "repositories/app/_manifests/tags/v1/else/sha512": false,
		"repositories/app/_manifests/revisions": false, "repositories/app/_manifests/revisions/sha256": true,
		"repositories/app/_manifests/revisions/sha256/" + hex:                        true,
		"repositories/app/_manifests/revisions/sha256/" + hex + "/signatures":        true,
		"repositories/app/_manifests/revisions/sha256/" + hex + "/signatures/sha256": true,
		"repositories/app/_manifests/revisions/sha256/" + hex + "/else":              false,
		"repositories/app/_manifests/revisions/sha256/ab/signatures":                 false,
		"repositories/app/_manifests/else":                                           false,
		".regsweep":                                                                  false,
	} {
		isName, ok := layout.Emptied(dir)
		if ok != want || isName && strings.Contains(dir, "_") {
			t.Errorf("%s: %t, want %t", dir, ok, want)
		}
	}
}

// TestAYoungDirectoryOfATagStays: a recent empty directory may be of a push that has just begun.
func TestAYoungDirectoryOfATagStays(t *testing.T) {
	tree := storagetest.NewTree(t)
	for _, tag := range []string{"old", "young"} {
		tree.Mkdir("repositories/app/_manifests/tags/" + tag + "/index/sha256")
	}
	tree.Age("repositories", time.Hour)
	tree.Mkdir("repositories/app/_manifests/tags/young/index/sha256/" + strings.Repeat("ab", 32))
	store := storagetest.MustOpen(t)(filesystem.Open(tree.Root(), storage.Limits{}))
	inv, err := Take(t.Context(), store, Options{Since: time.Now().Add(-time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	want(t, "emptied", strings.Join(inv.Repository("app").Emptied, " "), "repositories/app/_manifests/tags/old")
}
