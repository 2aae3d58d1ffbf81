package policy

import (
	"regexp"

	"github.com/opencontainers/go-digest"
)

// followers are the tags that clients make for the referrers of a manifest:
//   - sha256-<64 hex> and sha512-<first 64 hex>: the index of the referrers, of the OCI distribution
//     specification, "Referrers Tag Schema"
//   - sha256-<64 hex>.sig, .att and .sbom: those of cosign before version 3
var followers = regexp.MustCompile(`^(sha256|sha512)-([0-9a-f]{64})(\.sig|\.att|\.sbom)?$`)

// Subject returns the digest of the manifest that a tag follows, and whether it follows one. Such a tag is
// removed together with its subject. It is never counted or selected. For sha512 only the beginning of
// the digest is known.
func Subject(tag string) (prefix digest.Digest, follows bool) {
	parts := followers.FindStringSubmatch(tag)
	if parts == nil {
		return "", false
	}
	return digest.Digest(parts[1] + ":" + parts[2]), true
}
