package storage

import (
	"strings"
	"testing"
)

// TestEmptied: only what a removal empties counts, and never what a registry expects to be
// there, nor what is somebody's own.
func TestEmptied(t *testing.T) {
	t.Parallel()
	hex := strings.Repeat("ab", 32)
	for dir, want := range map[string]string{
		"blobs": "-", "blobs/sha256": "-", "blobs/sha256/ab": "", "blobs/sha256/an empty directory": "-", "blobs/md5/ab": "-", "blobs/sha256/ab/" + hex: "-",
		"repositories": "-", "repositories/app": "app", "repositories/team/app": "team/app", "repositories/Foo": "-",
		"repositories/app/_layers": "-", "repositories/app/_layers/sha256": "app", "repositories/app/_layers/md5": "-", "repositories/app/_layers/sha256/" + hex: "-",
		"repositories/app/_uploads": "-", "repositories/app/_uploads/id": "app", "repositories/app/_uploads/id/hashstates/sha256": "app",
		"repositories/app/_manifests": "-", "repositories/app/_manifests/tags": "-", "repositories/app/_manifests/tags/v1": "-",
		"repositories/app/_manifests/tags/v1/current": "-", "repositories/app/_manifests/tags/v1/index": "-",
		"repositories/app/_manifests/tags/v1/index/sha512": "app", "repositories/app/_manifests/tags/v1/else/sha512": "-",
		"repositories/app/_manifests/revisions": "-", "repositories/app/_manifests/revisions/sha256": "app",
		"repositories/app/_manifests/revisions/sha256/" + hex:                        "-",
		"repositories/app/_manifests/revisions/sha256/" + hex + "/signatures":        "app",
		"repositories/app/_manifests/revisions/sha256/" + hex + "/signatures/sha256": "app",
		"repositories/app/_manifests/revisions/sha256/" + hex + "/else":              "-",
		"repositories/app/_manifests/revisions/sha256/ab/signatures":                 "-",
		"repositories/app/_manifests/else":                                           "-",
		".regsweep":                                                                  "-",
	} {
		repository, isName, ok := emptied(dir)
		if !ok {
			repository = "-"
		}
		if repository != want || isName && strings.Contains(dir, "_") {
			t.Errorf("%s: %q, want %q", dir, repository, want)
		}
	}
}
