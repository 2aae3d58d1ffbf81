package mark

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"

	// The algorithms that a digest may have.
	_ "crypto/sha256"
	_ "crypto/sha512"

	"regsweep/storage/layout"

	"github.com/opencontainers/go-digest"
)

// Manifest is what a manifest says of other content.
type Manifest struct {
	// MediaType is what the manifest says of itself; older ones say nothing.
	MediaType string
	// Kind is the form that its content has.
	Kind Kind
	// References are what it can't do without, in the order of their coming.
	References []Reference
	// Subject is the manifest that it is attached to, or "". It keeps this
	// manifest alive, not the other way round.
	Subject digest.Digest
}

// Kind is a form of manifest.
type Kind int

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
	Digest    digest.Digest
	MediaType string
	// Size is in bytes as the manifest has it, or -1 where it does not say.
	Size int64
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
		if strings.HasPrefix(r.MediaType, plain) {
			return false
		}
	}
	return !r.IsManifest() && r.Size <= 4<<20
}

// kindOf is the one table of media types.
func kindOf(mediaType string) Kind {
	switch mediaType {
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

// document is all that the known kinds have. A field given twice counts twice.
type document struct {
	Config    every[descriptor] `json:"config"`
	Layers    all[descriptor]   `json:"layers"`
	Manifests all[descriptor]   `json:"manifests"`
	Subject   every[descriptor] `json:"subject"`
	FSLayers  all[struct {
		BlobSum every[string] `json:"blobSum"`
	}] `json:"fsLayers"`
}

type descriptor struct {
	MediaType every[string] `json:"mediaType"`
	Digest    every[string] `json:"digest"`
	Size      *int64        `json:"size"`
}

// every collects the values of a field that may be given more than once, where
// encoding/json would let the last one win and another client the first.
type every[T any] []T

func (e *every[T]) UnmarshalJSON(content []byte) error {
	var value *T
	err := json.Unmarshal(content, &value)
	if value != nil {
		*e = append(*e, *value)
	}
	return err
}

// all is the same for a field that holds a list.
type all[T any] []T

func (a *all[T]) UnmarshalJSON(content []byte) error {
	var more []T
	err := json.Unmarshal(content, &more)
	*a = append(*a, more...)
	return err
}

var plainManifests = sync.Pool{New: func() any { return new(plainManifest) }}

// References reads a manifest. It fails where the content is not JSON, or claims a
// known type and has not its form; then nothing that it says can be relied on.
//
// Its rules are those of Distribution (registry/storage/manifeststore.go): content
// without a media type is told apart by its fields. Where content has the fields of
// several kinds, or one of them twice, all count, since a client may read it as either
// (CVE-2021-41190); two different media types or subjects are malformed.
func References(content []byte) (Manifest, error) {
	p := plainManifests.Get().(*plainManifest)
	defer plainManifests.Put(p)
	defer p.forget()
	if p.read(content) {
		return p.manifest(), nil
	}
	return readAny(content)
}

// readAny reads whatever there may be.
func readAny(content []byte) (Manifest, error) {
	// Fields that only the known types have a form for are taken apart later: of
	// an unknown type they may be anything.
	var head struct {
		SchemaVersion json.RawMessage `json:"schemaVersion"`
		MediaType     every[string]   `json:"mediaType"`
		Config        json.RawMessage `json:"config"`
		Layers        json.RawMessage `json:"layers"`
		Manifests     json.RawMessage `json:"manifests"`
	}
	if err := json.Unmarshal(content, &head); err != nil {
		return Manifest{}, fmt.Errorf("not a manifest: %w", err)
	}
	if string(bytes.TrimSpace(content)) == "null" { // which Unmarshal takes for anything
		return Manifest{}, errors.New("not a manifest: null")
	}
	m := Manifest{}
	var err error
	if m.MediaType, err = agreed(head.MediaType); err != nil {
		return Manifest{}, fmt.Errorf("malformed manifest: mediaType: %w", err)
	}
	m.Kind = kindOf(m.MediaType)
	if m.MediaType == "" {
		switch {
		case string(head.SchemaVersion) == "1":
			m.Kind = Schema1
		case isSet(head.Manifests):
			m.Kind = Index
		case isSet(head.Config) || isSet(head.Layers):
			m.Kind = Image
		}
	}
	if m.Kind == Unknown {
		return m.readUnknown(content)
	}
	return m.readKnown(content)
}

// agreed is the one value of a field, or "" where it is not given.
func agreed(values []string) (string, error) {
	if len(values) == 0 {
		return "", nil
	}
	for _, value := range values {
		if value != values[0] {
			return "", fmt.Errorf("both %.80q and %.80q", values[0], value)
		}
	}
	return values[0], nil
}

func isSet(raw json.RawMessage) bool { return len(raw) > 0 && string(raw) != "null" }

func (m Manifest) readKnown(content []byte) (Manifest, error) {
	var d document
	if err := json.Unmarshal(content, &d); err != nil {
		return Manifest{}, fmt.Errorf("malformed manifest: %w", err)
	}
	for _, config := range d.Config {
		if err := m.add("config", config); err != nil {
			return Manifest{}, err
		}
	}
	for _, layer := range d.Layers {
		if err := m.add("layers", layer); err != nil {
			return Manifest{}, err
		}
	}
	for _, layer := range d.FSLayers {
		if err := m.add("fsLayers", descriptor{Digest: layer.BlobSum}); err != nil {
			return Manifest{}, err
		}
	}
	for _, entry := range d.Manifests {
		if err := m.add("manifests", entry); err != nil {
			return Manifest{}, err
		}
	}
	if m.Kind == Artifact {
		var artifact struct {
			Blobs all[descriptor] `json:"blobs"`
		}
		if err := json.Unmarshal(content, &artifact); err != nil {
			return Manifest{}, fmt.Errorf("malformed manifest: %w", err)
		}
		for _, blob := range artifact.Blobs {
			if err := m.add("blobs", blob); err != nil {
				return Manifest{}, err
			}
		}
	}
	for _, subject := range d.Subject {
		if err := m.attach(subject); err != nil {
			return Manifest{}, err
		}
	}
	return m, nil
}

func (m *Manifest) add(field string, d descriptor) error {
	if len(d.Digest) == 0 {
		return fmt.Errorf("malformed manifest: %s has no digest", field)
	}
	mediaType, err := agreed(d.MediaType)
	if err != nil {
		return fmt.Errorf("malformed manifest: mediaType of %s: %w", field, err)
	}
	size := int64(-1)
	if d.Size != nil && *d.Size >= 0 {
		size = *d.Size
	}
	for _, text := range d.Digest {
		if !isDigest(text) {
			return fmt.Errorf("malformed manifest: %s has no digest: %.80q", field, text)
		}
		m.References = append(m.References, Reference{Digest: digest.Digest(text), MediaType: mediaType, Size: size})
	}
	return nil
}

func (m *Manifest) attach(subject descriptor) error {
	text, err := agreed(subject.Digest)
	if err == nil && m.Subject != "" {
		_, err = agreed([]string{string(m.Subject), text})
	}
	if err != nil {
		return fmt.Errorf("malformed manifest: subject: %w", err)
	}
	if !isDigest(text) {
		return fmt.Errorf("malformed manifest: subject has no digest: %.80q", text)
	}
	m.Subject = digest.Digest(text)
	return nil
}

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

var digestInText = regexp.MustCompile(`sha256:[a-f0-9]{64}|sha384:[a-f0-9]{96}|sha512:[a-f0-9]{128}`)

// readUnknown finds every digest in any string, key or value, however deep. The
// content is known to be JSON.
func (m Manifest) readUnknown(content []byte) (Manifest, error) {
	seen := map[string]bool{}
	decoder := json.NewDecoder(bytes.NewReader(content))
	for {
		token, err := decoder.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			return Manifest{}, fmt.Errorf("not a manifest: %w", err)
		}
		text, ok := token.(string)
		if !ok {
			continue
		}
		for _, found := range digestInText.FindAllString(text, -1) {
			if !seen[found] {
				seen[found] = true
				m.References = append(m.References, Reference{Digest: digest.Digest(found), Size: -1})
			}
		}
	}
	// An attachment is one whatever its type. A subject of another form than ours is
	// none that a registry would have listed it by.
	var attached struct {
		Subject every[struct {
			Digest every[string] `json:"digest"`
		}] `json:"subject"`
	}
	if err := json.Unmarshal(content, &attached); err != nil {
		return m, nil
	}
	for _, subject := range attached.Subject {
		if len(subject.Digest) == 0 || !isDigest(subject.Digest[0]) {
			continue
		}
		if err := m.attach(descriptor{Digest: subject.Digest}); err != nil {
			return Manifest{}, err
		}
	}
	return m, nil
}
