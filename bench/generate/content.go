package generate

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// The media types of Docker's schema 2, which image-spec does not name.
const (
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerConfig   = "application/vnd.docker.container.image.v1+json"
	dockerLayer    = "application/vnd.docker.image.rootfs.diff.tar.gzip"
)

var platforms = []ocispec.Platform{
	{OS: "linux", Architecture: "amd64"},
	{OS: "linux", Architecture: "arm64"},
	{OS: "linux", Architecture: "arm", Variant: "v7"},
	{OS: "linux", Architecture: "s390x"},
}

// layer is a descriptor of new content. No collector opens a layer, so a line of
// text does for one: what counts is that it is a file of its own.
func (g *generator) layer() ocispec.Descriptor {
	g.serial++
	content := fmt.Appendf(nil, "layer %d of seed %d\n", g.serial, g.seed)
	return ocispec.Descriptor{
		MediaType: ocispec.MediaTypeImageLayerGzip,
		Digest:    g.registry.store(content),
		Size:      int64(len(content)),
	}
}

// image is a new image of these layers, with a config such as builders write.
func (g *generator) image(docker bool, platform ocispec.Platform, layers []ocispec.Descriptor) *manifest {
	g.serial++
	created := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(g.serial) * time.Minute)
	config := ocispec.Image{
		Created:  &created,
		Platform: platform,
		Config: ocispec.ImageConfig{
			Env:        []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
			Entrypoint: []string{"/usr/local/bin/app"},
			Labels:     map[string]string{"build": fmt.Sprint(g.serial)},
		},
		RootFS: ocispec.RootFS{Type: "layers"},
	}
	manifestType, configType, layerType := ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig, ocispec.MediaTypeImageLayerGzip
	if docker {
		manifestType, configType, layerType = dockerManifest, dockerConfig, dockerLayer
	}
	descriptors := make([]ocispec.Descriptor, len(layers))
	for i, layer := range layers {
		layer.MediaType = layerType
		descriptors[i] = layer
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, layer.Digest)
		config.History = append(config.History, ocispec.History{Created: &created, CreatedBy: "COPY . /srv # buildkit"})
	}
	return g.manifest(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: manifestType,
		Config:    g.stored(configType, encode(config)),
		Layers:    descriptors,
	}, nil)
}

// index is a new index, or manifest list, of images of several platforms.
func (g *generator) index(docker bool, images []*manifest) *manifest {
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	if docker {
		index.MediaType = dockerList
	}
	m := &manifest{mediaType: index.MediaType, manifests: images}
	for i, image := range images {
		descriptor := image.descriptor()
		descriptor.Platform = &platforms[i]
		index.Manifests = append(index.Manifests, descriptor)
	}
	return g.encoded(m, index)
}

// signature is a new referrer of a manifest.
func (g *generator) signature(subject *manifest) *manifest {
	g.serial++
	payload := fmt.Appendf(nil, "signature %d of seed %d: %s\n", g.serial, g.seed, strings.Repeat("x", 200))
	to := subject.descriptor()
	return g.manifest(ocispec.Manifest{
		Versioned:    specs.Versioned{SchemaVersion: 2},
		MediaType:    ocispec.MediaTypeImageManifest,
		ArtifactType: "application/vnd.example.signature",
		Config:       g.stored(ocispec.MediaTypeEmptyJSON, []byte("{}")),
		Layers:       []ocispec.Descriptor{g.stored("application/vnd.example.payload", payload)},
		Subject:      &to,
	}, subject)
}

// manifest stores an image manifest.
func (g *generator) manifest(content ocispec.Manifest, subject *manifest) *manifest {
	m := &manifest{mediaType: content.MediaType, subject: subject, blobs: []digest.Digest{content.Config.Digest}}
	for _, layer := range content.Layers {
		m.blobs = append(m.blobs, layer.Digest)
	}
	return g.encoded(m, content)
}

func (g *generator) encoded(m *manifest, content any) *manifest {
	text := encode(content)
	m.digest, m.size = g.registry.store(text), len(text)
	return m
}

func (g *generator) stored(mediaType string, content []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: g.registry.store(content), Size: int64(len(content))}
}

func (m *manifest) descriptor() ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: m.mediaType, Digest: m.digest, Size: int64(m.size)}
}

// encode can't fail: it encodes types that are made to be.
func encode(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return text
}
