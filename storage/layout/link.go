package layout

import (
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
)

// LinkLimit bounds the reading of links: the longest good one has 135 bytes.
const LinkLimit = 1 << 10

// LinkTarget reads a link's content. target is the digest it names, if it can be made
// out at all; ok is false where a registry would not accept it, detail saying why.
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
