// Package sweep decides which objects are garbage, and removes them. Only NewPlan judges age and
// liveness. Execute removes what the Plan lists and decides nothing.
package sweep

import (
	"math"
	"strings"
	"time"

	"regsweep/storage/layout"

	"github.com/opencontainers/go-digest"
)

// Removal is one line of a plan.
type Removal struct {
	Kind       Kind          `json:"kind"`
	Repository string        `json:"repository,omitempty"`
	Tag        string        `json:"tag,omitempty"`
	Digest     digest.Digest `json:"digest,omitempty"`
	Upload     string        `json:"upload,omitempty"`
	// Pushed is when a tag was pushed. It is absent if the run did not need it.
	Pushed time.Time `json:"pushed,omitzero"`
	// Bytes is the size of the blob or of the upload. It is 0 for links.
	Bytes int64 `json:"bytes"`
	// Path is the path below the storage's root directory, in the form of Distribution's
	// drivers.
	Path   string `json:"path"`
	Reason string `json:"reason"`
	// Target is the digest that a layer link contains, if it differs from Digest.
	Target digest.Digest `json:"target,omitempty"`
	// Signatures is the number of signature links (schema 1) that are removed with a revision.
	// SignatureDigests are their targets. They have no lines of their own, because only the
	// revision leads to them.
	Signatures       int             `json:"signatures,omitempty"`
	SignatureDigests []digest.Digest `json:"signature_digests,omitempty"`
	// Referrers are the links of newer registries by which the revision is a referrer of
	// another manifest. They are removed with the revision. An orphan link has either one
	// signature or one referrer.
	Referrers []Referrer `json:"referrers,omitempty"`
}

// Referrer is a link to a referrer (inventory.ReferrerLink).
type Referrer struct {
	Subject digest.Digest `json:"subject"`
	Type    string        `json:"type,omitempty"`
}

// Link is one link file of a removal.
type Link struct {
	// Path is below the layout's root.
	Path string
	// Target is the digest that the link contains.
	Target digest.Digest
}

// Links returns the links of a removal in the order of their removal, none for other forms. The
// link that the removal is named for is the last one.
func (r Removal) Links() []Link {
	if links := r.Kind.row().links; links != nil {
		return links(r)
	}
	return nil
}

// attachedLinks returns the links of a manifest's signatures, and the links to it as a referrer.
func attachedLinks(r Removal) []Link {
	links := make([]Link, 0, len(r.SignatureDigests)+len(r.Referrers)+1)
	for _, signature := range r.SignatureDigests {
		links = append(links, Link{layout.SignaturePath(r.Repository, r.Digest, signature), signature})
	}
	for _, referrer := range r.Referrers {
		links = append(links, Link{layout.ReferrerPath(r.Repository, r.Digest, referrer.Subject, referrer.Type), r.Digest})
	}
	return links
}

// IsNamed reports whether all names and digests of the removal are valid in the layout. Its paths
// then cannot leave the layout. A line of a plan file can contain any string.
func (r Removal) IsNamed() bool {
	for _, d := range append([]digest.Digest{r.Digest, r.Target}, r.SignatureDigests...) {
		if d != "" && d.Validate() != nil {
			return false
		}
	}
	components := []string{r.Tag, r.Upload}
	for _, referrer := range r.Referrers {
		if referrer.Subject.Validate() != nil {
			return false
		}
		components = append(components, referrer.Type)
	}
	for _, component := range components {
		if component == "." || component == ".." || strings.ContainsAny(component, "/\x00") {
			return false
		}
	}
	return r.problem() == "" && (r.Repository == "" || layout.ValidRepository(r.Repository))
}

// Tally is a number of objects and their total size in bytes.
type Tally struct {
	Count int   `json:"count"`
	Bytes int64 `json:"bytes"`
}

// Add adds n objects with b bytes in total.
func (t *Tally) Add(n int, b int64) {
	t.Count += n
	t.Bytes = addBytes(t.Bytes, b)
}

// addBytes adds sizes. The sum is at most math.MaxInt64: sizes in manifests can be any number.
func addBytes(a, b int64) int64 {
	if b > math.MaxInt64-a {
		return math.MaxInt64
	}
	return a + b
}
