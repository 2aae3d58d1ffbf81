// Package sweep decides what goes, and removes it. A Plan is made by NewPlan, which
// alone judges age and liveness, and carried out by Execute, which decides nothing.
package sweep

import (
	"github.com/opencontainers/go-digest"
)

// Kind is a kind of thing that a plan removes.
type Kind string

// The kinds, in the order of their removal. A link goes before what it leads to, so
// that whatever an interruption leaves behind, no link leads to what has gone.
const (
	TagIndexEntry Kind = "tag_index_entry"
	Revision      Kind = "revision"
	LayerLink     Kind = "layer_link"
	Upload        Kind = "upload"
	Repository    Kind = "repository"
	Blob          Kind = "blob"
)

// Kinds are all kinds in the order of their removal.
var Kinds = []Kind{TagIndexEntry, Revision, LayerLink, Upload, Repository, Blob}

// Removal is one line of a plan.
type Removal struct {
	Kind       Kind          `json:"kind"`
	Repository string        `json:"repository,omitempty"`
	Tag        string        `json:"tag,omitempty"`
	Digest     digest.Digest `json:"digest,omitempty"`
	Upload     string        `json:"upload,omitempty"`
	// Bytes is what the storage gets back: a blob's or an upload's size. Links are
	// not counted.
	Bytes int64 `json:"bytes"`
	// Path is the path below the storage's root directory, as Distribution's
	// drivers have it.
	Path   string `json:"path"`
	Reason string `json:"reason"`
	// Signatures is how many signature links (of schema 1) go with a revision. They
	// have no lines of their own: nothing but the revision leads to them.
	Signatures int `json:"signatures,omitempty"`
}

// Tally counts things and their bytes.
type Tally struct {
	Count int   `json:"count"`
	Bytes int64 `json:"bytes"`
}

// Add adds n things of b bytes together.
func (t *Tally) Add(n int, b int64) {
	t.Count += n
	t.Bytes += b
}
