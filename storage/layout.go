package storage

import (
	"strings"
	"unicode/utf8"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
)

// The names of the layout. Source: registry/storage/paths.go of Distribution.
const (
	layersDir     = "_layers"
	manifestsDir  = "_manifests"
	uploadsDir    = "_uploads"
	signaturesDir = "signatures"
	refsDir       = "_refs"
	referrersDir  = "_referrers"
	linkFile      = "link"
	dataFile      = "data"
	startedAt     = "startedat"
)

// kind says what the layout makes of a path.
type kind int

const (
	kindStray      kind = iota // nothing that the layout knows
	kindBlob                   // blobs/<alg>/<2 hex>/<hex>/data
	kindLayer                  // _layers/<alg>/<hex>/link
	kindRevision               // _manifests/revisions/<alg>/<hex>/link
	kindSignature              // _manifests/revisions/<alg>/<hex>/signatures/<alg>/<hex>/link
	kindReferrer               // see ReferrerLink
	kindTag                    // _manifests/tags/<tag>/current/link
	kindTagIndex               // _manifests/tags/<tag>/index/<alg>/<hex>/link
	kindUpload                 // _uploads/<uuid>/…
	kindRepository             // the directory _layers, _manifests or _uploads itself
)

// entry is a path taken apart. Its strings are parts of the path.
type entry struct {
	kind       kind
	repository string // "" for blobs and for strays outside a repository
	tag        string
	upload     string
	digest     name   // what the path names: the blob, the link's own digest
	revision   name   // for a signature, the manifest that it signs; for a referrer link, the subject
	artifact   string // for a referrer link, ReferrerLink.Type
}

// name is a digest as the layout spells it in a path.
type name struct{ alg, hex string }

func (n name) digest() digest.Digest { return digest.Digest(n.alg + ":" + n.hex) }

// isSaidBy reports whether a link's content is just this digest, as nearly all are.
func (n name) isSaidBy(content []byte) bool {
	at := len(n.alg)
	return len(content) == at+1+len(n.hex) && string(content[:at]) == n.alg && content[at] == ':' && string(content[at+1:]) == n.hex
}

// parsePath takes a path apart. It accepts exactly what Distribution could have
// written; all else is a stray, which nobody removes. Digests have a known
// algorithm, the right length and lower-case digits.
func parsePath(path string) entry {
	top, rest, _ := strings.Cut(path, "/")
	switch top {
	case BlobsDir:
		return parseBlobPath(rest)
	case RepositoriesDir:
		return parseRepositoryPath(rest)
	}
	return entry{}
}

func parseBlobPath(rest string) entry {
	alg, rest, _ := strings.Cut(rest, "/")
	first, rest, _ := strings.Cut(rest, "/")
	hex, file, _ := strings.Cut(rest, "/")
	n := name{alg, hex}
	if file != dataFile || len(first) != 2 || !n.valid() || !strings.HasPrefix(hex, first) {
		return entry{}
	}
	return entry{kind: kindBlob, digest: n}
}

func parseRepositoryPath(rest string) entry {
	repository, part, below, ok := splitRepository(rest)
	if !ok {
		return entry{}
	}
	e := entry{repository: repository}
	switch {
	case below == "":
		e.kind = kindRepository
	case part == layersDir:
		if n, ok := parseLink(below); ok {
			e.kind, e.digest = kindLayer, n
		}
	case part == uploadsDir:
		if upload, file, _ := strings.Cut(below, "/"); upload != "" && file != "" && nameable(below) {
			e.kind, e.upload = kindUpload, upload
		}
	case part == manifestsDir:
		parseManifestsPath(&e, below)
	case part == refsDir:
		if below, found := strings.CutPrefix(below, "subjects/"); found {
			alg, below, _ := strings.Cut(below, "/")
			hex, below, _ := strings.Cut(below, "/")
			parseReferrer(&e, name{alg, hex}, below)
		}
	}
	return e
}

func parseManifestsPath(e *entry, below string) {
	dir, below, _ := strings.Cut(below, "/")
	switch dir {
	case "revisions":
		if n, ok := parseLink(below); ok {
			e.kind, e.digest = kindRevision, n
			return
		}
		alg, rest, _ := strings.Cut(below, "/")
		hex, rest, _ := strings.Cut(rest, "/")
		of := name{alg, hex}
		if rest, found := strings.CutPrefix(rest, signaturesDir+"/"); found && of.valid() {
			if n, ok := parseLink(rest); ok {
				e.kind, e.digest, e.revision = kindSignature, n, of
			}
			return
		}
		if rest, found := strings.CutPrefix(rest, referrersDir+"/"); found {
			artifact, rest, _ := strings.Cut(rest, "/")
			if strings.HasPrefix(artifact, "_") && nameable(artifact) {
				parseReferrer(e, of, rest)
				if e.kind == kindReferrer {
					e.artifact = artifact
				}
			}
		}
	case "tags":
		tag, rest, _ := strings.Cut(below, "/")
		if tag == "" || !nameable(tag) {
			return
		}
		if rest == "current/link" {
			e.kind, e.tag = kindTag, tag
		} else if rest, found := strings.CutPrefix(rest, "index/"); found {
			if n, ok := parseLink(rest); ok {
				e.kind, e.tag, e.digest = kindTagIndex, tag, n
			}
		}
	}
}

// parseReferrer reads a referrer's "<alg>/<hex>/link".
func parseReferrer(e *entry, subject name, below string) {
	if n, ok := parseLink(below); ok && subject.valid() {
		e.kind, e.digest, e.revision = kindReferrer, n, subject
	}
}

// nameable reports whether a name that a registry leaves to others can stand in a plan
// and lead back to what it names, and to nothing else: JSON has no bytes that are no text,
// and a server may take "." and ".." in a key for a way to another.
func nameable(path string) bool {
	for component := range strings.SplitSeq(path, "/") {
		if component == "." || component == ".." {
			return false
		}
	}
	return utf8.ValidString(path)
}

// splitRepository finds the first component that is the layout's own, since a
// repository's name may itself have slashes. No component of it begins with an
// underscore, but somebody may have moved a repository to such a name: then it is
// one that no registry serves, and not nothing.
func splitRepository(rest string) (repository, part, below string, ok bool) {
	at := 0
	for at < len(rest) {
		component, _, more := strings.Cut(rest[at:], "/")
		isRefs := component == refsDir && at > 0
		if component == layersDir || component == manifestsDir || component == uploadsDir || isRefs {
			if at < 2 { // no name, or an empty one, which flat keys may have
				return "", "", "", false
			}
			below := ""
			if more {
				below = rest[at+len(component)+1:]
			}
			return rest[:at-1], component, below, true
		}
		at += len(component) + 1
	}
	return "", "", "", false
}

// parseLink reads "<alg>/<hex>/link".
func parseLink(s string) (name, bool) {
	alg, rest, _ := strings.Cut(s, "/")
	hex, file, _ := strings.Cut(rest, "/")
	n := name{alg, hex}
	return n, file == linkFile && n.valid()
}

// valid reports whether a registry could have written the name: an algorithm
// that go-digest knows, and as many lower-case hex digits as it has.
func (n name) valid() bool {
	switch n.alg {
	case "sha256":
		_, ok := ParseSHA256([]byte(n.hex))
		return ok
	case "sha384":
		return len(n.hex) == 96 && isHex(n.hex)
	case "sha512":
		return len(n.hex) == 128 && isHex(n.hex)
	}
	return false
}

// isAlgorithm reports whether digests may have this algorithm.
func isAlgorithm(alg string) bool { return alg == "sha256" || alg == "sha384" || alg == "sha512" }

func isHex(s string) bool {
	bad := byte(0)
	for i := range len(s) {
		bad |= hexDigits[s[i]]
	}
	return bad < 16
}

// splitDigest takes "<alg>:<hex>" apart; ok is false where it is not a digest
// that a registry could have written.
func splitDigest(d string) (n name, ok bool) {
	alg, hex, _ := strings.Cut(d, ":")
	n = name{alg, hex}
	return n, n.valid()
}

// ValidRepository reports whether a registry could serve a repository of this name.
func ValidRepository(repository string) bool {
	_, err := reference.WithName(repository)
	return err == nil
}

// BlobPath is where the content with this digest is stored.
func BlobPath(d digest.Digest) string {
	alg, hex, _ := strings.Cut(string(d), ":")
	if len(hex) < 2 {
		return BlobsDir + "/" + alg + "/" + hex + "/" + dataFile
	}
	return BlobsDir + "/" + alg + "/" + hex[:2] + "/" + hex + "/" + dataFile
}

// RepositoryPath is the directory of a repository.
func RepositoryPath(repository string) string { return RepositoriesDir + "/" + repository }

// LayerPath is the link that lets a repository serve a blob.
func LayerPath(repository string, d digest.Digest) string {
	return RepositoryPath(repository) + "/" + layersDir + "/" + linkPath(d)
}

// RevisionPath is the link that lets a repository serve a manifest.
func RevisionPath(repository string, d digest.Digest) string {
	return RepositoryPath(repository) + "/" + manifestsDir + "/revisions/" + linkPath(d)
}

// SignaturePath is a schema 1 signature's link below the revision that it signs.
func SignaturePath(repository string, revision, d digest.Digest) string {
	return strings.TrimSuffix(RevisionPath(repository, revision), linkFile) + signaturesDir + "/" + linkPath(d)
}

// ReferrerPath is a link by which a newer registry finds a referrer of a subject.
// artifact is ReferrerLink.Type.
func ReferrerPath(repository string, referrer, subject digest.Digest, artifact string) string {
	if artifact == "" {
		return RepositoryPath(repository) + "/" + refsDir + "/subjects/" + strings.TrimSuffix(linkPath(subject), linkFile) + linkPath(referrer)
	}
	return strings.TrimSuffix(RevisionPath(repository, subject), linkFile) + referrersDir + "/" + artifact + "/" + linkPath(referrer)
}

// TagPath is the link that says what a tag points at.
func TagPath(repository, tag string) string {
	return RepositoryPath(repository) + "/" + manifestsDir + "/tags/" + tag + "/current/" + linkFile
}

// TagIndexPath is the link that remembers that a tag once pointed at a manifest.
func TagIndexPath(repository, tag string, d digest.Digest) string {
	return RepositoryPath(repository) + "/" + manifestsDir + "/tags/" + tag + "/index/" + linkPath(d)
}

func linkPath(d digest.Digest) string {
	alg, hex, _ := strings.Cut(string(d), ":")
	return alg + "/" + hex + "/" + linkFile
}

// UploadPath is the directory of an upload.
func UploadPath(repository, upload string) string {
	return RepositoryPath(repository) + "/" + uploadsDir + "/" + upload
}

// LayoutPaths are the directories of a repository that are its own, and not those of
// repositories whose names continue its.
func LayoutPaths(repository string) []string {
	at := RepositoryPath(repository) + "/"
	return []string{at + manifestsDir, at + refsDir, at + layersDir, at + uploadsDir}
}

// Files beside the layout by which other users of a storage are known. Their paths are
// below the registry's root directory.
const (
	// GitLabDatabaseFile is written by GitLab's registry when its metadata database is
	// in use. Source: registry/storage/locker.go of GitLab's container-registry.
	GitLabDatabaseFile = "docker/registry/lockfiles/database-in-use"
	// ProxyStateFile is where a pull-through cache keeps the expiry of what it has
	// cached. Source: registry/proxy/proxyregistry.go of Distribution.
	ProxyStateFile = "scheduler-state.json"
)
