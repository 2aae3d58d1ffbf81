// Package manifest says what one manifest refers to. It reads nothing but the bytes that it is
// given.
package manifest

import (
	"bytes"

	// The algorithms that a digest may have.
	_ "crypto/sha256"
	_ "crypto/sha512"

	"regsweep/storage/layout"

	"github.com/opencontainers/go-digest"
)

// Manifest has the references of a manifest to other content. Its digests, and the media types of its
// references, may be parts of the content that was parsed.
type Manifest struct {
	// MediaType is the media type in the manifest. Older manifests have none.
	MediaType string
	Kind      Kind
	Purpose   Purpose
	// References are the content that the manifest needs, in the order of the fields.
	References []Reference
	// Subject is the digest of the subject of a referrer, or nil. The subject keeps the referrer
	// alive, and not the other way round.
	Subject []byte
	// Refused says why Distribution does not serve a manifest of a known kind. It is "" if it does
	// (registry/storage/manifeststore.go).
	Refused string
}

// Kind is a form of manifest.
type Kind uint8

// The kinds of manifests.
const (
	Unknown  Kind = iota // anything else: every digest written in it is a reference
	Image                // Docker schema 2 or an OCI image manifest
	Index                // a Docker manifest list or an OCI image index
	Schema1              // Docker schema 1
	Artifact             // the artifact manifest of OCI 1.1's release candidates, and of ORAS
)

// Reference is an edge from a manifest to other content.
type Reference struct {
	// Digest is a valid digest, or one of an algorithm that is not known.
	Digest    []byte
	MediaType []byte
	// Size is in bytes as the manifest says, or -1 if it says nothing.
	Size int64
	// HasURLs is set if the content can also be had from other places. A registry need not store
	// it ("Foreign layers", distribution's registry/storage/ociimanifesthandler.go).
	HasURLs bool
}

// IsManifest reports whether the reference says that it leads to a manifest. An
// index entry may also be a plain blob, as in BuildKit's caches.
func (r Reference) IsManifest() bool { return kindOf(r.MediaType) != Unknown }

// MayBeManifest reports whether an index entry could be a manifest though its media type
// does not say so: it has none, or one that is not known, and is no larger than a
// registry lets a manifest be. Layers and configs are plain content.
func (r Reference) MayBeManifest() bool {
	for _, plain := range []string{
		"application/vnd.oci.image.layer.", "application/vnd.docker.image.rootfs.",
		"application/vnd.oci.image.config.", "application/vnd.docker.container.image.",
		"application/vnd.buildkit.cacheconfig.", "application/vnd.oci.empty.",
	} {
		if bytes.HasPrefix(r.MediaType, []byte(plain)) {
			return false
		}
	}
	return !r.IsManifest() && r.Size <= 4<<20
}

// kindOf is the one table of media types.
func kindOf(mediaType []byte) Kind {
	switch string(mediaType) {
	case "application/vnd.docker.distribution.manifest.v2+json",
		"application/vnd.oci.image.manifest.v1+json":
		return Image
	case "application/vnd.docker.distribution.manifest.list.v2+json",
		"application/vnd.oci.image.index.v1+json":
		return Index
	case "application/vnd.docker.distribution.manifest.v1+json",
		"application/vnd.docker.distribution.manifest.v1+prettyjws":
		return Schema1
	case "application/vnd.oci.artifact.manifest.v1+json",
		"application/vnd.cncf.oras.artifact.manifest.v1+json":
		return Artifact
	}
	return Unknown
}

// Parse parses a manifest. It fails if the content is not JSON, or if it claims a
// known type and does not have its form. Then nothing in it can be relied on.
//
// Its rules are those of Distribution (registry/storage/manifeststore.go): the fields of content
// without a media type decide its kind. Where content has the fields of
// several kinds, or one of them twice, all count, since a client may read it as either
// (CVE-2021-41190); two different media types or subjects are malformed.
func Parse(content []byte) (Manifest, error) { return new(Parser).Parse(content) }

// isDigest accepts what the OCI image specification calls a digest ("Digests"),
// also of an algorithm that is not known.
func isDigest[T ~string | ~[]byte](s T) bool {
	const algorithm = "sha256:"
	if len(s) == len(algorithm)+64 && string(s[:len(algorithm)]) == algorithm {
		_, ok := layout.ParseSHA256([]byte(s[len(algorithm):]))
		return ok
	}
	switch err := digest.Digest(s).Validate(); err {
	case nil:
		return true
	case digest.ErrDigestUnsupported:
		return digest.DigestRegexpAnchored.MatchString(string(s))
	}
	return false
}
