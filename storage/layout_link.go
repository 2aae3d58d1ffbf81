package storage

import (
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
)

// linkLimit bounds the reading of links: the longest good one has 135 bytes.
const linkLimit = 1 << 10

// readLink reads a link's content. target is the digest it names, if it can be made
// out at all; ok is false where a registry would not accept it, detail saying why.
func readLink(content []byte) (target digest.Digest, ok bool, detail string) {
	text := string(content)
	if n, valid := splitDigest(text); valid {
		return n.digest(), true, ""
	}
	if n, valid := splitDigest(strings.TrimSpace(text)); valid {
		return n.digest(), false, "has white space around its digest, which a registry does not accept"
	}
	if len(content) == 0 {
		return "", false, "is empty"
	}
	return "", false, fmt.Sprintf("names no digest (%d bytes, beginning %.40q)", len(content), text)
}
