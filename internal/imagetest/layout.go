package imagetest

import (
	"strings"

	"github.com/opencontainers/go-digest"
)

// The layout's paths, written down a second time: the tests of package storage
// stand on this package, and should not prove its paths by themselves.

// layoutRoot is where the layout lies below the rootdirectory.
const layoutRoot = "docker/registry/v2"

// BlobPath is where content is stored.
func BlobPath(d digest.Digest) string {
	return "blobs/" + d.Algorithm().String() + "/" + d.Encoded()[:2] + "/" + d.Encoded() + "/data"
}

// LayerPath is the link that lets a repository serve a blob.
func LayerPath(repository string, d digest.Digest) string {
	return "repositories/" + repository + "/_layers/" + linkPath(d)
}

// RevisionPath is the link that lets a repository serve a manifest.
func RevisionPath(repository string, d digest.Digest) string {
	return "repositories/" + repository + "/_manifests/revisions/" + linkPath(d)
}

// SignaturePath is the link to a signature of a schema 1 manifest.
func SignaturePath(repository string, revision, signature digest.Digest) string {
	return strings.TrimSuffix(RevisionPath(repository, revision), "link") + "signatures/" + linkPath(signature)
}

// TagPath is the link that says what a tag points at.
func TagPath(repository, tag string) string {
	return "repositories/" + repository + "/_manifests/tags/" + tag + "/current/link"
}

// TagIndexPath is the link that remembers that a tag once pointed at a manifest.
func TagIndexPath(repository, tag string, d digest.Digest) string {
	return "repositories/" + repository + "/_manifests/tags/" + tag + "/index/" + linkPath(d)
}

// UploadPath is the directory of an upload.
func UploadPath(repository, id string) string {
	return "repositories/" + repository + "/_uploads/" + id
}

func linkPath(d digest.Digest) string { return d.Algorithm().String() + "/" + d.Encoded() + "/link" }
