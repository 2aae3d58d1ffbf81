// Package sweep decides what goes, and removes it. A Plan is made by NewPlan, which
// alone judges age and liveness, and carried out by Execute, which decides nothing.
package sweep

import (
	"math"
	"strings"

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
	// Bytes is what the storage gets back: a blob's or an upload's size. Links are
	// not counted.
	Bytes int64 `json:"bytes"`
	// Path is the path below the storage's root directory, as Distribution's
	// drivers have it.
	Path   string `json:"path"`
	Reason string `json:"reason"`
	// Target is what a layer link says, where that is another digest than its own.
	Target digest.Digest `json:"target,omitempty"`
	// Signatures is how many signature links (of schema 1) go with a revision, and
	// SignatureDigests is where they lead. They have no lines of their own: nothing but
	// the revision leads to them.
	Signatures       int             `json:"signatures,omitempty"`
	SignatureDigests []digest.Digest `json:"signature_digests,omitempty"`
	// Referrers are the links of newer registries that lead to a revision as a referrer.
	// They go with it too. An orphan link is a signature or one of these.
	Referrers []Referrer `json:"referrers,omitempty"`
}

// Referrer is a link to a referrer (inventory.ReferrerLink).
type Referrer struct {
	Subject digest.Digest `json:"subject"`
	Type    string        `json:"type,omitempty"`
}

// Link is one link file that a removal consists of.
type Link struct {
	// Path is below the layout's root.
	Path string
	// Target is the digest that the link says.
	Target digest.Digest
}

// Links are the links that a removal of a link consists of, in the order in which they
// go; none for other kinds. The removal's own link goes last.
func (r Removal) Links() []Link {
	if links := r.Kind.row().links; links != nil {
		return links(r)
	}
	return nil
}

// attachedLinks are the links of a manifest's signatures, and those that lead to it as a referrer.
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

// IsNamed reports whether the removal names what a registry could hold, so that its paths
// lie where those of the layout do. A line of a file may say anything.
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

// Tally counts things and their bytes.
type Tally struct {
	Count int   `json:"count"`
	Bytes int64 `json:"bytes"`
}

// Add adds n things of b bytes together.
func (t *Tally) Add(n int, b int64) {
	t.Count += n
	t.Bytes = addBytes(t.Bytes, b)
}

// addBytes adds sizes. What manifests claim may come to more than there is room for.
func addBytes(a, b int64) int64 {
	if b > math.MaxInt64-a {
		return math.MaxInt64
	}
	return a + b
}
