// Package verify finds the images that a registry could not serve, says why, and repairs what can be
// repaired without guessing.
//
// It knows the names and the manifests from the inventory and the graph. It also reads the links that
// the inventory knows by name only and, on request, the content of blobs. From all that, Judge makes the
// findings. A registry may take pushes meanwhile, so Confirm looks at each finding once more.
package verify

import (
	"regsweep/inventory"

	"github.com/opencontainers/go-digest"
)

// Kind is a kind of finding. Its value is the name in the report, and does not change.
type Kind string

// The kinds of findings. Those of the first three groups break the tags that need the object. They can
// also concern objects that no tag needs.
const (
	// Of a tag itself.
	TagWithoutCurrent Kind = "tag_without_current" // the current link is missing
	DamagedTagLink    Kind = "damaged_tag_link"    // the current link is not exactly a digest
	BadTagName        Kind = "bad_tag_name"        // no client can name the tag
	BadRepositoryName Kind = "bad_repository_name" // no client can name the repository

	// Of a manifest.
	MissingRevisionLink Kind = "missing_revision_link"
	DamagedRevisionLink Kind = "damaged_revision_link" // it is not exactly its digest
	MissingManifest     Kind = "missing_manifest"      // its blob is missing
	DamagedManifest     Kind = "damaged_manifest"      // its blob has another digest, or is no manifest
	UnknownManifestType Kind = "unknown_manifest_type" // registries refuse it
	SparseIndex         Kind = "sparse_index"          // an index names it, and nobody pushed it here

	// Of a config, a layer, or an index entry that is no manifest.
	MissingLayerLink Kind = "missing_layer_link"
	DamagedLayerLink Kind = "damaged_layer_link" // it is not exactly its digest
	MissingBlob      Kind = "missing_blob"
	DamagedBlob      Kind = "damaged_blob" // its content has another digest, or can't be read
	WrongSize        Kind = "wrong_size"   // the blob is intact, and its descriptor says another size

	// These break no tag.
	DanglingLayerLink Kind = "dangling_layer_link" // nothing needs it, and its blob is missing
	StaleIndexEntry   Kind = "stale_index_entry"   // an entry in the index of a tag, whose revision is gone
	DamagedLink       Kind = "damaged_link"        // another link that is not exactly its digest
	Stray             Kind = "stray"               // an object that is not part of the layout
)

// Finding is one fault of a registry's storage.
type Finding struct {
	Kind Kind `json:"kind"`
	// Repository is "" for objects outside of repositories, and for blobs that no repository needs.
	Repository string `json:"repository"`
	// Path is below the root of the layout. It is the object that is missing or damaged.
	Path string `json:"path"`
	// Digest is "" if the object has none.
	Digest digest.Digest `json:"digest"`
	// Tags are the tags of Repository of which a complete pull fails because of it, sorted.
	Tags []string `json:"tags"`
	// Images are the images of Repository that are not whole because of it, sorted by digest: a
	// missing manifest itself, or the manifests that name a config or a layer.
	Images []Image `json:"images,omitempty"`
	// Detail says in a few words what is wrong.
	Detail string `json:"detail"`
	// Repaired is true if a repair has cured it, and a second check has confirmed that.
	Repaired bool `json:"repaired"`

	// needers are the manifests of Repository that name the object, sorted.
	needers []inventory.ID
	// blob is the blob that should be stored: the digest, or the one that a layer link or the link of a tag
	// names.
	blob digest.Digest
	// bytes is the size of the blob according to a manifest, or 0.
	bytes int64
	// isManifest is set if the object is a manifest or the link to one.
	isManifest bool
	// isMalformed is set if the object is a blob that has the right digest, and is no manifest.
	isMalformed bool
	// isSwapped is set for a layer link that was swapped with another one. Both do no harm as long as both
	// are wrong.
	isSwapped bool
}

// breaks reports whether a pull of a manifest that needs the object fails.
func (f *Finding) breaks() bool {
	switch f.Kind {
	case DanglingLayerLink, StaleIndexEntry, DamagedLink, Stray:
		return false
	}
	return true
}

// isOfLink reports whether the finding is about a link whose content is known.
func (f *Finding) isOfLink() bool {
	switch f.Kind {
	case MissingLayerLink, DamagedLayerLink, MissingRevisionLink, DamagedRevisionLink:
		return true
	case DamagedTagLink:
		return f.blob != ""
	}
	return false
}

// Image is an image that is not whole.
type Image struct {
	Digest digest.Digest `json:"digest"`
	// Platform is as in an index, such as "linux/arm64/v8". It is "" if it is unknown.
	Platform string `json:"platform,omitempty"`
}

// Fault is why the content of a blob can't be served.
type Fault struct {
	State  State
	Detail string
}

// State is the state of a blob that is not intact.
type State uint8

// The states of blobs. A blob without a Fault counts as intact.
const (
	Missing    State = iota + 1 // there is no file
	Wrong                       // its content has another digest
	Unreadable                  // the storage has it and can't read it: a bad sector, an archived object
)
