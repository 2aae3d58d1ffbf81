// Package imagetest makes images, and writes the storage of a registry by hand: what a crash, an old
// release or a broken disk leaves, which no client can make.
package imagetest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Format is the family of media types that an image speaks.
type Format int

const (
	OCI Format = iota
	Docker
)

// The media types of Docker's schema 2, which image-spec does not name.
const (
	DockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	DockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerConfig   = "application/vnd.docker.container.image.v1+json"
	dockerLayer    = "application/vnd.docker.image.rootfs.diff.tar.gzip"
	buildKitConfig = "application/vnd.buildkit.cacheconfig.v0"
)

// Blob is content that a manifest refers to by digest: a layer, a config, a payload.
type Blob struct {
	MediaType string
	Content   []byte
	// DiffID is the digest of a layer before compression, which a config names.
	DiffID digest.Digest
	// Algorithm is the one that the blob is pushed and referred to by; "" is SHA-256.
	Algorithm digest.Algorithm
	// URLs make it a foreign layer, which Push leaves out.
	URLs []string
}

// Digest is what the blob is referred to by.
func (b Blob) Digest() digest.Digest {
	if b.Algorithm != "" {
		return b.Algorithm.FromBytes(b.Content)
	}
	return digest.FromBytes(b.Content)
}

// Descriptor refers to the blob.
func (b Blob) Descriptor() ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: b.MediaType, Digest: b.Digest(), Size: int64(len(b.Content)), URLs: b.URLs}
}

// Manifest is a manifest or an index, with all that it needs in order to be pushed.
type Manifest struct {
	MediaType    string
	ArtifactType string
	Content      []byte // the JSON, whose hash is the digest
	Platform     *ocispec.Platform

	Blobs     []Blob      // config and layers
	Manifests []*Manifest // the entries of an index that are manifests
}

// Digest is the manifest's digest.
func (m *Manifest) Digest() digest.Digest { return digest.FromBytes(m.Content) }

// Descriptor refers to the manifest.
func (m *Manifest) Descriptor() ocispec.Descriptor {
	return ocispec.Descriptor{
		MediaType:    m.MediaType,
		ArtifactType: m.ArtifactType,
		Digest:       m.Digest(),
		Size:         int64(len(m.Content)),
		Platform:     m.Platform,
	}
}

// Digests are the manifest's own digest and all that it reaches, manifests before
// blobs and each once; a subject is not reached.
func (m *Manifest) Digests() []digest.Digest {
	var digests []digest.Digest
	seen := map[digest.Digest]bool{}
	add := func(d digest.Digest) {
		if !seen[d] {
			seen[d] = true
			digests = append(digests, d)
		}
	}
	add(m.Digest())
	for _, child := range m.Manifests {
		for _, d := range child.Digests() {
			add(d)
		}
	}
	for _, blob := range m.Blobs {
		add(blob.Digest())
	}
	return digests
}

// Layer is a layer with one file of size bytes, and some two kilobytes of archive
// around it. Equal arguments give equal bytes, so that images share ancestry by
// sharing layers; different seeds give different ones.
func Layer(seed uint64, size int) Blob {
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	header := &tar.Header{Name: fmt.Sprintf("layer-%d", seed), Mode: 0o644, Size: int64(size)}
	must(w.WriteHeader(header))
	_, err := io.Copy(w, io.LimitReader(randomBytes(seed), int64(size)))
	must(err)
	must(w.Close())

	// Stored rather than deflated: the same bytes whatever the Go release.
	var compressed bytes.Buffer
	z, err := gzip.NewWriterLevel(&compressed, gzip.NoCompression)
	must(err)
	_, err = z.Write(archive.Bytes())
	must(err)
	must(z.Close())
	return Blob{
		MediaType: ocispec.MediaTypeImageLayerGzip,
		Content:   compressed.Bytes(),
		DiffID:    digest.FromBytes(archive.Bytes()),
	}
}

// Image is an image of these layers. The same layers make the same image.
func Image(format Format, layers ...Blob) *Manifest {
	mediaType, configType := ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig
	if format == Docker {
		mediaType, configType = DockerManifest, dockerConfig
	}
	platform := ocispec.Platform{Architecture: "amd64", OS: "linux"}
	config := ocispec.Image{Platform: platform, RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{}}}
	descriptors := []ocispec.Descriptor{}
	blobs := []Blob{}
	for _, layer := range layers {
		if format == Docker && layer.MediaType == ocispec.MediaTypeImageLayerGzip {
			layer.MediaType = dockerLayer
		}
		blobs = append(blobs, layer)
		descriptors = append(descriptors, layer.Descriptor())
		diffID := layer.DiffID
		if diffID == "" {
			diffID = layer.Digest()
		}
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, diffID)
	}
	configBlob := Blob{MediaType: configType, Content: encode(config)}
	return &Manifest{
		MediaType: mediaType,
		Platform:  &platform,
		Content: encode(ocispec.Manifest{
			Versioned: specs.Versioned{SchemaVersion: 2},
			MediaType: mediaType,
			Config:    configBlob.Descriptor(),
			Layers:    descriptors,
		}),
		Blobs: append(blobs, configBlob),
	}
}

// Index is an OCI index, or a manifest list for Docker, of images or other indexes.
func Index(format Format, entries ...*Manifest) *Manifest {
	mediaType := ocispec.MediaTypeImageIndex
	if format == Docker {
		mediaType = DockerList
	}
	descriptors := []ocispec.Descriptor{}
	for _, entry := range entries {
		descriptors = append(descriptors, entry.Descriptor())
	}
	return &Manifest{
		MediaType: mediaType,
		Content: encode(ocispec.Index{
			Versioned: specs.Versioned{SchemaVersion: 2},
			MediaType: mediaType,
			Manifests: descriptors,
		}),
		Manifests: entries,
	}
}

// Referrer is an OCI artifact, such as a signature or an SBOM, whose subject is
// another manifest. Pushing it does not push the subject.
func Referrer(subject *Manifest, artifactType string, payload []byte) *Manifest {
	config := Blob{MediaType: ocispec.MediaTypeEmptyJSON, Content: []byte("{}")}
	blob := Blob{MediaType: "application/octet-stream", Content: payload}
	to := subject.Descriptor()
	to.Platform = nil
	return &Manifest{
		MediaType:    ocispec.MediaTypeImageManifest,
		ArtifactType: artifactType,
		Content: encode(ocispec.Manifest{
			Versioned:    specs.Versioned{SchemaVersion: 2},
			MediaType:    ocispec.MediaTypeImageManifest,
			ArtifactType: artifactType,
			Config:       config.Descriptor(),
			Layers:       []ocispec.Descriptor{blob.Descriptor()},
			Subject:      &to,
		}),
		Blobs: []Blob{config, blob},
	}
}

// BuildKitCache is a build cache as BuildKit exports it with image-manifest=false:
// an OCI index whose entries are no manifests but layers and a cache config.
func BuildKitCache(layers ...Blob) *Manifest {
	records := []map[string]any{}
	descriptors := []ocispec.Descriptor{}
	for _, layer := range layers {
		records = append(records, map[string]any{"blob": layer.Digest(), "parent": len(records) - 1})
		descriptors = append(descriptors, layer.Descriptor())
	}
	config := Blob{MediaType: buildKitConfig, Content: encode(map[string]any{"layers": records})}
	return &Manifest{
		MediaType: ocispec.MediaTypeImageIndex,
		Content: encode(ocispec.Index{
			Versioned: specs.Versioned{SchemaVersion: 2},
			MediaType: ocispec.MediaTypeImageIndex,
			Manifests: append(descriptors, config.Descriptor()),
		}),
		Blobs: append(append([]Blob{}, layers...), config),
	}
}

// randomBytes is an endless stream that only the seed decides.
func randomBytes(seed uint64) io.Reader {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	return rand.NewChaCha8(key)
}

func encode(v any) []byte {
	encoded, err := json.Marshal(v)
	must(err)
	return encoded
}

// must is for what fails only where the code is wrong: writing to memory and
// encoding types of ours.
func must(err error) {
	if err != nil {
		panic(err)
	}
}
