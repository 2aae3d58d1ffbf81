package audit

import (
	"time"

	"regsweep/inventory"

	"github.com/opencontainers/go-digest"
)

// Why says why a digest is kept, or by which flags it would be removed.
type Why struct {
	Digest digest.Digest `json:"digest"`
	Kind   Kind          `json:"kind,omitempty"` // of a stored blob
	Bytes  int64         `json:"bytes"`          // 0 if NeverRemoved is set and the listing has no sizes
	Stored bool          `json:"stored"`
	// NeverRemoved is set if it is stored under another algorithm than sha256: gc never removes it.
	NeverRemoved bool `json:"never_removed,omitempty"`
	// Kept is set if a gc keeps it, without flags or with the given --min-age.
	Kept bool `json:"kept"`
	// KeptUntil is set if only its age keeps it: then the gc removes it.
	KeptUntil time.Time `json:"kept_until,omitzero"`
	// RemovedBy is the command that would remove it as things are, "" if there is none.
	RemovedBy string `json:"removed_by,omitempty"`
	// Chains are the shortest ways from a root to the digest. More is the number of all others. It is
	// Most if there are at least so many, or if cycles of referrers make them too many to count.
	Chains [][]Link `json:"chains"`
	More   int64    `json:"more"`
	// Repositories are the repositories with a chain, sorted by name.
	Repositories []Holder `json:"repositories"`
	// ToFree are the tags and untagged manifests that would have to be removed to free it.
	ToFree []string `json:"to_free"`
	// RemovedWith are the blobs that would be removed together with it.
	RemovedWith RemovedWith `json:"removed_with"`
	// FreedIfGone are the bytes that would be freed if nothing held it any more, without the
	// garbage of today.
	FreedIfGone int64 `json:"freed_if_gone"`
}

// Link is one element of a chain. The first is a root: a tag, an untagged revision, damage, or age. Its digest
// is that of the second. The last element is the digest that was asked for.
type Link struct {
	Kind       LinkKind      `json:"kind"`
	Repository string        `json:"repository"`
	Name       string        `json:"name"` // of a tag; of damage, the kind of the problem
	Digest     digest.Digest `json:"digest"`
}

// LinkKind is the kind of an element.
type LinkKind string

// The kinds of elements. The first four are roots.
const (
	TagLink       LinkKind = "tag"
	RevisionLink  LinkKind = "revision"
	DamageLink    LinkKind = "damage"
	AgeLink       LinkKind = "age" // a young link of the repository, or without a repository the young blob itself
	IndexLink     LinkKind = "index"
	ManifestLink  LinkKind = "manifest"
	ConfigLink    LinkKind = "config"
	LayerLink     LinkKind = "layer"
	ReferrerLink  LinkKind = "referrer" // the element before it is its subject
	SignatureLink LinkKind = "signature"
	BlobLink      LinkKind = "blob" // plain content that is neither a config nor a layer
)

// Holder is a repository that keeps a digest.
type Holder struct {
	Name string `json:"name"`
	// Tags reach the digest, sorted. Pushed has the times at which they were pushed, as far as known.
	Tags   []string             `json:"tags"`
	Pushed map[string]time.Time `json:"pushed"`
	// Since is the earliest of these times.
	Since time.Time `json:"since,omitzero"`
	// Revisions are the untagged manifests that reach it.
	Revisions []digest.Digest `json:"revisions"`
	// Damage is the kind of the problem that keeps all of the repository, "" if there is none.
	Damage inventory.ProblemKind `json:"damage,omitempty"`
	// YoungUntil is set if only young links of the repository keep it: then the last of them is old enough.
	YoungUntil time.Time `json:"young_until,omitzero"`
}

// RemovedWith are blobs that would be removed together with another.
type RemovedWith struct {
	Blobs   int         `json:"blobs"`
	Bytes   int64       `json:"bytes"`
	Largest []SizedBlob `json:"largest"`
}

// SizedBlob is a blob with its use and its size.
type SizedBlob struct {
	Digest digest.Digest `json:"digest"`
	Kind   Kind          `json:"kind"`
	Bytes  int64         `json:"bytes"` // 0 if NeverRemoved is set and the listing has no sizes
}

// NewWhy returns an answer without any chains.
func NewWhy(of digest.Digest) Why {
	return Why{
		Digest: of, Chains: [][]Link{}, Repositories: []Holder{}, ToFree: []string{},
		RemovedWith: RemovedWith{Largest: []SizedBlob{}},
	}
}
