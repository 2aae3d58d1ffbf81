package layout

import (
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
)

// LinkLimit is the largest link that is read, in bytes. The longest valid link has 135 bytes.
const LinkLimit = 1 << 10

// LinkTarget parses the content of a link. target is the digest, or "" if there is none. ok is
// false if a registry would not accept the content, and detail then says why.
func LinkTarget(content []byte) (target digest.Digest, ok bool, detail string) {
	text := string(content)
	if n, valid := ParseDigest(text); valid {
		return n.Digest(), true, ""
	}
	if n, valid := ParseDigest(strings.TrimSpace(text)); valid {
		return n.Digest(), false, "has white space around its digest, which a registry does not accept"
	}
	if len(content) == 0 {
		return "", false, "is empty"
	}
	return "", false, fmt.Sprintf("names no digest (%d bytes, beginning %.40q)", len(content), text)
}
