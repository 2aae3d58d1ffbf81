// Package layout is the grammar of the paths of a Distribution registry. It parses paths and links,
// and makes the paths of blobs, links and tags. It reads no storage.
package layout

import (
	"strings"
	"unicode/utf8"

	"regsweep/storage"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
)

// The names of the layout. Source: registry/storage/paths.go of Distribution.
const (
	LayersDir     = "_layers"
	ManifestsDir  = "_manifests"
	UploadsDir    = "_uploads"
	SignaturesDir = "signatures"
	refsDir       = "_refs"
	referrersDir  = "_referrers"
	LinkFile      = "link"
	DataFile      = "data"
	StartedAt     = "startedat"
)

// Kind says what a path is in the layout.
type Kind int

const (
	Stray      Kind = iota // not part of the layout
	Blob                   // blobs/<alg>/<2 hex>/<hex>/data
	Layer                  // _layers/<alg>/<hex>/link
	Revision               // _manifests/revisions/<alg>/<hex>/link
	Signature              // _manifests/revisions/<alg>/<hex>/signatures/<alg>/<hex>/link
	Referrer               // see inventory.ReferrerLink
	Tag                    // _manifests/tags/<tag>/current/link
	TagIndex               // _manifests/tags/<tag>/index/<alg>/<hex>/link
	Upload                 // _uploads/<uuid>/…
	Repository             // the directory _layers, _manifests or _uploads itself
)

// IsLink reports whether the path is a link of a repository.
func (k Kind) IsLink() bool { return Layer <= k && k <= TagIndex }

// Entry is a parsed path. Its strings are parts of the path.
type Entry struct {
	Kind       Kind
	Repository string // "" for blobs and for strays outside a repository
	Tag        string
	Upload     string
	Digest     Name   // the digest of the blob or of the link
	Revision   Name   // for a signature, the manifest that it signs; for a referrer link, the subject
	Artifact   string // for a referrer link, inventory.ReferrerLink.Type
}

// Name is a digest as the layout writes it in a path.
type Name struct{ Alg, Hex string }

// Digest is the digest in its usual form.
func (n Name) Digest() digest.Digest { return digest.Digest(n.Alg + ":" + n.Hex) }

// IsSaidBy reports whether the content of a link is exactly this digest.
func (n Name) IsSaidBy(content []byte) bool {
	at := len(n.Alg)
	return len(content) == at+1+len(n.Hex) && string(content[:at]) == n.Alg && content[at] == ':' && string(content[at+1:]) == n.Hex
}

// Parse parses a path. It accepts exactly the paths that Distribution could have
// written. Every other path is a Stray, which is never removed. A digest must have a known
// algorithm, the right length and lower-case digits.
func Parse(path string) Entry {
	top, rest, _ := strings.Cut(path, "/")
	switch top {
	case storage.BlobsDir:
		return parseBlobPath(rest)
	case storage.RepositoriesDir:
		return parseRepositoryPath(rest)
	}
	return Entry{}
}

func parseBlobPath(rest string) Entry {
	alg, rest, _ := strings.Cut(rest, "/")
	first, rest, _ := strings.Cut(rest, "/")
	hex, file, _ := strings.Cut(rest, "/")
	n := Name{alg, hex}
	if file != DataFile || len(first) != 2 || !n.Valid() || !strings.HasPrefix(hex, first) {
		return Entry{}
	}
	return Entry{Kind: Blob, Digest: n}
}

func parseRepositoryPath(rest string) Entry {
	repository, part, below, ok := SplitRepository(rest)
	if !ok {
		return Entry{}
	}
	e := Entry{Repository: repository}
	switch {
	case below == "":
		e.Kind = Repository
	case part == LayersDir:
		if n, ok := parseLink(below); ok {
			e.Kind, e.Digest = Layer, n
		}
	case part == UploadsDir:
		if upload, file, _ := strings.Cut(below, "/"); upload != "" && file != "" && IsNameable(below) {
			e.Kind, e.Upload = Upload, upload
		}
	case part == ManifestsDir:
		parseManifestsPath(&e, below)
	case part == refsDir:
		if below, found := strings.CutPrefix(below, "subjects/"); found {
			alg, below, _ := strings.Cut(below, "/")
			hex, below, _ := strings.Cut(below, "/")
			parseReferrer(&e, Name{alg, hex}, below)
		}
	}
	return e
}

func parseManifestsPath(e *Entry, below string) {
	dir, below, _ := strings.Cut(below, "/")
	switch dir {
	case "revisions":
		if n, ok := parseLink(below); ok {
			e.Kind, e.Digest = Revision, n
			return
		}
		alg, rest, _ := strings.Cut(below, "/")
		hex, rest, _ := strings.Cut(rest, "/")
		of := Name{alg, hex}
		if rest, found := strings.CutPrefix(rest, SignaturesDir+"/"); found && of.Valid() {
			if n, ok := parseLink(rest); ok {
				e.Kind, e.Digest, e.Revision = Signature, n, of
			}
			return
		}
		if rest, found := strings.CutPrefix(rest, referrersDir+"/"); found {
			artifact, rest, _ := strings.Cut(rest, "/")
			if strings.HasPrefix(artifact, "_") && IsNameable(artifact) {
				parseReferrer(e, of, rest)
				if e.Kind == Referrer {
					e.Artifact = artifact
				}
			}
		}
	case "tags":
		tag, rest, _ := strings.Cut(below, "/")
		if tag == "" || !IsNameable(tag) {
			return
		}
		if rest == "current/link" {
			e.Kind, e.Tag = Tag, tag
		} else if rest, found := strings.CutPrefix(rest, "index/"); found {
			if n, ok := parseLink(rest); ok {
				e.Kind, e.Tag, e.Digest = TagIndex, tag, n
			}
		}
	}
}

// parseReferrer reads a referrer's "<alg>/<hex>/link".
func parseReferrer(e *Entry, subject Name, below string) {
	if n, ok := parseLink(below); ok && subject.Valid() {
		e.Kind, e.Digest, e.Revision = Referrer, n, subject
	}
}

// IsNameable reports whether a path can be written to a plan and still names the same object when
// it is read back. JSON can't hold bytes that are not UTF-8. A server may resolve "." and ".." in a
// key, which then names another object.
func IsNameable(path string) bool {
	for component := range strings.SplitSeq(path, "/") {
		if component == "." || component == ".." {
			return false
		}
	}
	return utf8.ValidString(path)
}

// SplitRepository splits a path at the first component that belongs to the layout, such as
// _layers, since the name of a repository may have slashes. No component of a valid name begins
// with an underscore. But somebody may have moved a repository to such a name: it is then a
// repository that no registry serves, and is not ignored.
func SplitRepository(rest string) (repository, part, below string, ok bool) {
	at := 0
	for at < len(rest) {
		component, _, more := strings.Cut(rest[at:], "/")
		isRefs := component == refsDir && at > 0
		if component == LayersDir || component == ManifestsDir || component == UploadsDir || isRefs {
			if at < 2 { // the name is missing or empty; keys of S3 may have an empty component
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
func parseLink(s string) (Name, bool) {
	alg, rest, _ := strings.Cut(s, "/")
	hex, file, _ := strings.Cut(rest, "/")
	n := Name{alg, hex}
	return n, file == LinkFile && n.Valid()
}

// Valid reports whether a registry could have written the name: go-digest knows the algorithm,
// and the hex part has its number of lower-case digits.
func (n Name) Valid() bool {
	switch n.Alg {
	case "sha256":
		_, ok := ParseSHA256([]byte(n.Hex))
		return ok
	case "sha384":
		return len(n.Hex) == 96 && IsHex(n.Hex)
	case "sha512":
		return len(n.Hex) == 128 && IsHex(n.Hex)
	}
	return false
}

// IsAlgorithm reports whether digests may have this algorithm.
func IsAlgorithm(alg string) bool { return alg == "sha256" || alg == "sha384" || alg == "sha512" }

// IsHex reports whether s has only lower-case hex digits.
func IsHex(s string) bool {
	bad := byte(0)
	for i := range len(s) {
		bad |= hexDigits[s[i]]
	}
	return bad < 16
}

// ParseDigest parses "<alg>:<hex>". ok is false if it is not a digest that a registry could have
// written.
func ParseDigest(d string) (n Name, ok bool) {
	alg, hex, _ := strings.Cut(d, ":")
	n = Name{alg, hex}
	return n, n.Valid()
}

// ValidRepository reports whether a registry could serve a repository of this name.
func ValidRepository(repository string) bool {
	_, err := reference.WithName(repository)
	return err == nil
}

// ValidTag reports whether a client could name a tag.
func ValidTag(tag string) bool { return tag != "" && reference.TagRegexp.FindString(tag) == tag }

// BlobPath is the path of the blob with this digest.
func BlobPath(d digest.Digest) string {
	alg, hex, _ := strings.Cut(string(d), ":")
	if len(hex) < 2 {
		return storage.BlobsDir + "/" + alg + "/" + hex + "/" + DataFile
	}
	return storage.BlobsDir + "/" + alg + "/" + hex[:2] + "/" + hex + "/" + DataFile
}

// RepositoryPath is the directory of a repository.
func RepositoryPath(repository string) string { return storage.RepositoriesDir + "/" + repository }

// LayerPath is the link that lets a repository serve a blob.
func LayerPath(repository string, d digest.Digest) string {
	return RepositoryPath(repository) + "/" + LayersDir + "/" + linkPath(d)
}

// RevisionPath is the link that lets a repository serve a manifest.
func RevisionPath(repository string, d digest.Digest) string {
	return RepositoryPath(repository) + "/" + ManifestsDir + "/revisions/" + linkPath(d)
}

// SignaturePath is a schema 1 signature's link below the revision that it signs.
func SignaturePath(repository string, revision, d digest.Digest) string {
	return strings.TrimSuffix(RevisionPath(repository, revision), LinkFile) + SignaturesDir + "/" + linkPath(d)
}

// ReferrerPath is the link that lets a newer registry find a referrer of a subject.
// artifact is inventory.ReferrerLink.Type.
func ReferrerPath(repository string, referrer, subject digest.Digest, artifact string) string {
	if artifact == "" {
		return RepositoryPath(repository) + "/" + refsDir + "/subjects/" + strings.TrimSuffix(linkPath(subject), LinkFile) + linkPath(referrer)
	}
	return strings.TrimSuffix(RevisionPath(repository, subject), LinkFile) + referrersDir + "/" + artifact + "/" + linkPath(referrer)
}

// TagPath is the link that says what a tag points at.
func TagPath(repository, tag string) string {
	return RepositoryPath(repository) + "/" + ManifestsDir + "/tags/" + tag + "/current/" + LinkFile
}

// TagIndexPath is the link that records that a tag once pointed at a manifest.
func TagIndexPath(repository, tag string, d digest.Digest) string {
	return RepositoryPath(repository) + "/" + ManifestsDir + "/tags/" + tag + "/index/" + linkPath(d)
}

func linkPath(d digest.Digest) string {
	alg, hex, _ := strings.Cut(string(d), ":")
	return alg + "/" + hex + "/" + LinkFile
}

// UploadPath is the directory of an upload.
func UploadPath(repository, upload string) string {
	return RepositoryPath(repository) + "/" + UploadsDir + "/" + upload
}

// LayoutPaths are the directories that belong to this repository, and not to a repository whose
// name begins with its name and a slash.
func LayoutPaths(repository string) []string {
	at := RepositoryPath(repository) + "/"
	return []string{at + ManifestsDir, at + refsDir, at + LayersDir, at + UploadsDir}
}

// These files beside the layout show that another program uses the storage. Their paths are
// below the registry's root directory.
const (
	// GitLabDatabaseFile is written by GitLab's registry when its metadata database is
	// in use. Source: registry/storage/locker.go of GitLab's container-registry.
	GitLabDatabaseFile = "docker/registry/lockfiles/database-in-use"
	// ProxyStateFile is where a pull-through cache keeps the expiry times of its content.
	// Source: registry/proxy/proxyregistry.go of Distribution.
	ProxyStateFile = "scheduler-state.json"
)
