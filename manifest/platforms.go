package manifest

import (
	"encoding/json"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Platforms returns the platforms of the entries of an index, such as "linux/arm64/v8", by digest. It
// returns those that it can read: nothing depends on a platform but a picture.
func Platforms(content []byte) map[digest.Digest]string {
	var index struct {
		Manifests []struct {
			Digest   digest.Digest
			Platform struct{ OS, Architecture, Variant string }
		}
	}
	out := map[digest.Digest]string{}
	if json.Unmarshal(content, &index) != nil {
		return out
	}
	for _, entry := range index.Manifests {
		var parts []string
		for _, part := range []string{entry.Platform.OS, entry.Platform.Architecture, entry.Platform.Variant} {
			if part != "" {
				parts = append(parts, part)
			}
		}
		if _, known := out[entry.Digest]; !known && len(parts) > 0 {
			out[entry.Digest] = strings.Join(parts, "/")
		}
	}
	return out
}
