package e2e

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
)

// neededByTags is an oracle: the files that a registry needs to serve every tagged image
// completely. It reads links and manifests itself, and shares no code with what it judges.
// files has the content of each file of the layout, by path. The manifests must be intact.
func neededByTags(files map[string]string) (needed []string) {
	seen := map[string]bool{}
	need := func(path string) bool {
		if _, there := files[path]; !there || seen[path] {
			return false
		}
		seen[path] = true
		needed = append(needed, path)
		return true
	}
	var pull func(repository, digest string)
	pull = func(repository, digest string) {
		place := strings.Replace(digest, ":", "/", 1)
		blob := "blobs/sha256/" + digest[len("sha256:"):][:2] + "/" + digest[len("sha256:"):] + "/data"
		need(blob)
		need("repositories/" + repository + "/_layers/" + place + "/link")
		if !need("repositories/" + repository + "/_manifests/revisions/" + place + "/link") {
			return // a layer, or a manifest that was seen
		}
		var manifest struct {
			Config    struct{ Digest string }
			Layers    []struct{ Digest string }
			Manifests []struct{ Digest string }
			FSLayers  []struct{ BlobSum string }
		}
		if err := json.Unmarshal([]byte(files[blob]), &manifest); err != nil {
			panic("the oracle can't read the manifest " + digest)
		}
		to := []string{manifest.Config.Digest}
		for _, entry := range slices.Concat(manifest.Layers, manifest.Manifests) {
			to = append(to, entry.Digest)
		}
		for _, entry := range manifest.FSLayers {
			to = append(to, entry.BlobSum)
		}
		for _, digest := range to {
			if digest != "" {
				pull(repository, digest)
			}
		}
		// What is attached to a manifest lives as long as it.
		for path, content := range files {
			if match := revisionOf.FindStringSubmatch(path); match != nil && match[1] == repository {
				other := strings.TrimPrefix(content, "sha256:")
				if strings.Contains(files["blobs/sha256/"+other[:2]+"/"+other+"/data"], `"subject":{`) &&
					strings.Contains(files["blobs/sha256/"+other[:2]+"/"+other+"/data"], digest) {
					pull(repository, content)
				}
			}
		}
	}
	for path, content := range files {
		if match := currentOf.FindStringSubmatch(path); match != nil {
			need(path)
			pull(match[1], content)
		}
	}
	slices.Sort(needed)
	return needed
}

var (
	currentOf  = regexp.MustCompile(`^repositories/(.+)/_manifests/tags/[^/]+/current/link$`)
	revisionOf = regexp.MustCompile(`^repositories/(.+)/_manifests/revisions/sha256/[0-9a-f]{64}/link$`)
)
