package inventory

import (
	"cmp"

	"regsweep/storage/layout"

	"github.com/opencontainers/go-digest"
)

// Problem is a fault in the storage. Its effect is the set of objects that are kept because of it.
type Problem struct {
	Kind       ProblemKind `json:"kind"`
	Repository string      `json:"repository"`
	Path       string      `json:"path"`
	Detail     string      `json:"detail"`
	Effect     Effect      `json:"effect"`
	// Tags are the tags of the repository that can't be pulled because of it.
	Tags []string `json:"tags,omitempty"`
}

// ProblemKind is a kind of fault. The names are part of the report.
type ProblemKind string

// The kinds of problems.
const (
	DamagedLink          ProblemKind = "damaged_link"           // a link without a valid digest
	TagWithoutCurrent    ProblemKind = "tag_without_current"    // a tag with an index but no current link
	ManifestMissing      ProblemKind = "manifest_missing"       // a live manifest that is not stored
	ManifestDamaged      ProblemKind = "manifest_damaged"       // a blob that does not match its digest, or is no manifest
	ManifestUnknown      ProblemKind = "manifest_unknown_type"  // a manifest of an unknown type
	DanglingRevision     ProblemKind = "dangling_revision"      // an untagged revision whose manifest is missing
	SparseIndex          ProblemKind = "sparse_index"           // an index entry that was never pushed
	BadRepositoryName    ProblemKind = "bad_repository_name"    // a directory that no registry could serve
	UnknownLinkAlgorithm ProblemKind = "unknown_link_algorithm" // a link under a digest that is not understood
	Stray                ProblemKind = "stray"                  // an object that is not part of the layout
	CacheDamaged         ProblemKind = "cache_damaged"          // an entry of the cache that is damaged
	CacheUnusable        ProblemKind = "cache_unusable"         // a cache that can't be written
	UnreadableUpload     ProblemKind = "unreadable_upload"      // an upload that can't be listed or read
	UndatedUpload        ProblemKind = "undated_upload"         // an upload whose startedat is missing or malformed, or can't be true
	NoManifests          ProblemKind = "no_manifests"           // a repository with layer links and no manifest
	EmptyDirectory       ProblemKind = "empty_directory"        // an empty directory where a repository or blobs could be
	Unlisted             ProblemKind = "unlisted"               // an object that exists and that the listing lacks
)

// UnlistedBlob is the problem of a blob that exists and that the listing lacks. Somebody pushes, or
// the listing can't be trusted.
func UnlistedBlob(d digest.Digest) Problem {
	return Problem{
		Kind: Unlisted, Path: layout.BlobPath(d), Effect: Note,
		Detail: "it is stored, and the listing of blobs lacks it: it was pushed meanwhile, or the listing is not whole",
	}
}

// Effect is the set of objects that are kept because of a problem.
type Effect string

const (
	// Note keeps no garbage, and is no failure.
	Note Effect = "note"
	// KeepsNothing is a failure of the registry that keeps no garbage.
	KeepsNothing Effect = "keeps_nothing"
	// KeepsNamed keeps the digests that the damaged object names.
	KeepsNamed Effect = "keeps_named"
	// KeepsRepository keeps every link of the repository and every blob that
	// they name.
	KeepsRepository Effect = "keeps_repository"
)

// Keeps reports whether the problem may have kept garbage.
func (e Effect) Keeps() bool { return e == KeepsNamed || e == KeepsRepository }

// CompareProblems is an order of problems that does not depend on when they were found.
func CompareProblems(a, b Problem) int {
	return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Detail, b.Detail))
}
