// Command image puts regsweep into an OCI image, without a container engine. The same commit gives the
// same bytes.
package main

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"regsweep/build/release"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const (
	// user is who regsweep runs as. It is a number, so that Kubernetes can see that it is not root.
	user = 65532
	// home belongs to that user. regsweep keeps its cache there, and the notes of its windows.
	home = "/var/lib/regsweep"
)

func main() {
	programs := flag.String("programs", "bin", "take `DIR`/linux-ARCH/regsweep")
	arch := flag.String("arch", "amd64 arm64", "the `ARCHITECTURES` of the image")
	output := flag.String("o", "bin/image", "write an OCI layout to `DIR`")
	base := flag.String("base", "", "put regsweep on `IMAGE` of a registry, and not on an empty image")
	push := flag.String("push", "", "push the image as `NAME:TAG`, with the password of docker login")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *programs, strings.Fields(*arch), *output, *base, *push); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, programs string, archs []string, output, base, push string) error {
	login := []remote.Option{remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain)}
	var index v1.ImageIndex = empty.Index
	var of release.Release
	for _, arch := range archs {
		platform := v1.Platform{OS: "linux", Architecture: arch}
		below, err := baseOf(base, platform, login)
		if err != nil {
			return fmt.Errorf("get the base %s for %s: %w", base, platform, err)
		}
		program := filepath.Join(programs, "linux-"+arch, "regsweep")
		if of, err = release.Of(program); err != nil {
			return err
		}
		image, err := imageOf(below, base == "", program, of)
		if err != nil {
			return fmt.Errorf("make the image for %s: %w", platform, err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: noArtifact{image}, Descriptor: v1.Descriptor{Platform: &platform}})
	}
	index = mutate.Annotations(index, labels(of)).(v1.ImageIndex)
	path, err := layout.Write(output, empty.Index)
	if err != nil {
		return err
	}
	if err := path.AppendIndex(index, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "latest"})); err != nil {
		return fmt.Errorf("write %s: %w", output, err)
	}
	digest, err := index.Digest()
	if err != nil {
		return err
	}
	if fmt.Println(output, digest); push == "" {
		return nil
	}
	reference, err := name.ParseReference(push)
	if err != nil {
		return err
	}
	if err := remote.WriteIndex(reference, index, login...); err != nil {
		return fmt.Errorf("push %s: %w", reference, err)
	}
	fmt.Println(reference.Context().Digest(digest.String()))
	return nil
}

// noArtifact is an image whose entry in an index has no type of artifact: skopeo does not know that key.
type noArtifact struct{ v1.Image }

func (noArtifact) ArtifactType() (string, error) { return "", nil }

// baseOf returns the image that regsweep is put on.
func baseOf(base string, platform v1.Platform, login []remote.Option) (v1.Image, error) {
	if base == "" {
		image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
		return mutate.ConfigFile(image, &v1.ConfigFile{OS: platform.OS, Architecture: platform.Architecture, RootFS: v1.RootFS{Type: "layers"}})
	}
	reference, err := name.ParseReference(base)
	if err != nil {
		return nil, err
	}
	image, err := remote.Image(reference, append(login, remote.WithPlatform(platform))...)
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err == nil && !config.Platform().Satisfies(platform) {
		err = fmt.Errorf("it is an image for %s alone: see ARCH in the Makefile", config.Platform())
	}
	return image, err
}

// imageOf puts the program on a base. An empty base also gets what a program needs of a system.
func imageOf(base v1.Image, isEmpty bool, program string, of release.Release) (v1.Image, error) {
	mediaType, err := base.MediaType()
	if err != nil {
		return nil, err
	}
	layerType := types.OCILayer
	if mediaType == types.DockerManifestSchema2 {
		layerType = types.DockerLayer // a manifest of Docker has only layers of Docker
	}
	layer, err := layerOf(program, isEmpty, of.Time, layerType)
	if err != nil {
		return nil, err
	}
	created := v1.Time{Time: of.Time}
	image, err := mutate.Append(base, mutate.Addendum{Layer: layer, MediaType: layerType,
		History: v1.History{Created: created, CreatedBy: "make image", Comment: "regsweep " + of.Version}})
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.Created = created
	c := &config.Config
	c.User, c.Entrypoint, c.Cmd = fmt.Sprint(user, ":", user), []string{"/usr/bin/regsweep"}, nil
	c.Env = slices.DeleteFunc(c.Env, func(variable string) bool { return strings.HasPrefix(variable, "HOME=") })
	c.Env = append(c.Env, "HOME="+home, "STATE_DIRECTORY="+home)
	if isEmpty {
		c.Env = append(c.Env, "PATH=/usr/bin")
	}
	if c.Labels == nil {
		c.Labels = map[string]string{}
	}
	maps.Copy(c.Labels, labels(of))
	if image, err = mutate.ConfigFile(image, config); err != nil || mediaType == types.DockerManifestSchema2 {
		return image, err // a manifest of Docker has no annotations
	}
	return mutate.Annotations(image, labels(of)).(v1.Image), nil
}

func labels(of release.Release) map[string]string {
	labels := map[string]string{
		"org.opencontainers.image.title":       "regsweep",
		"org.opencontainers.image.description": "gives back the disk space that a container registry no longer needs",
		"org.opencontainers.image.version":     of.Version,
		"org.opencontainers.image.created":     of.Time.Format(time.RFC3339),
		"org.opencontainers.image.licenses":    "Apache-2.0",
	}
	if of.Revision != "" {
		labels["org.opencontainers.image.revision"] = of.Revision
	}
	return labels
}
