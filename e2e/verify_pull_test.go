package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"regsweep/internal/imagetest"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A strictClient makes complete pulls, and checks all that a client can check. It is the oracle of the tests
// of verify, and shares no code with the program. The storage must not change while it is used.
type strictClient struct {
	host string
	// trusting takes any layer, config or entry that is no manifest if it has the right size.
	trusting bool
	done     map[string]error   // what was pulled, by repository and descriptor
	fetched  map[string]fetched // shared by clients of the same registry
}

type fetched struct {
	content []byte
	header  http.Header
	err     error
}

// pullTag makes a complete pull of a tag: the manifest by its tag and by its digest, each entry of an index
// with its size and digest, and each config and layer. Layers with URLs are not asked for.
func (c *strictClient) pullTag(ctx context.Context, repository, tag string) error {
	content, header, err := c.get(ctx, repository, "manifests/"+tag)
	if err != nil {
		return err
	}
	d := digest.Digest(header.Get("Docker-Content-Digest"))
	if err := matches(ocispec.Descriptor{Digest: d, Size: int64(len(content))}, content); err != nil {
		return fmt.Errorf("manifest of the tag: %w", err)
	}
	return c.manifest(ctx, repository, ocispec.Descriptor{Digest: d, Size: int64(len(content))})
}

func (c *strictClient) manifest(ctx context.Context, repository string, of ocispec.Descriptor) error {
	return c.once(repository, "manifest", of, func() error {
		content, _, err := c.get(ctx, repository, "manifests/"+of.Digest.String())
		if err != nil {
			return err
		}
		if err := matches(of, content); err != nil {
			return fmt.Errorf("manifest %s: %w", of.Digest, err)
		}
		var m struct {
			Config    *ocispec.Descriptor  `json:"config"`
			Layers    []ocispec.Descriptor `json:"layers"`
			Manifests []ocispec.Descriptor `json:"manifests"`
		}
		if err := json.Unmarshal(content, &m); err != nil {
			return fmt.Errorf("manifest %s: %w", of.Digest, err)
		}
		for _, entry := range m.Manifests {
			follow := c.blob // of a build cache
			switch entry.MediaType {
			case ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex, imagetest.DockerManifest, imagetest.DockerList:
				follow = c.manifest
			}
			if err := follow(ctx, repository, entry); err != nil {
				return err
			}
		}
		if m.Config != nil {
			m.Layers = append(m.Layers, *m.Config)
		}
		for _, blob := range m.Layers {
			if len(blob.URLs) > 0 {
				continue
			}
			if err := c.blob(ctx, repository, blob); err != nil {
				return err
			}
		}
		return nil
	})
}

func (c *strictClient) blob(ctx context.Context, repository string, of ocispec.Descriptor) error {
	return c.once(repository, "blob", of, func() error {
		content, _, err := c.get(ctx, repository, "blobs/"+of.Digest.String())
		if err != nil {
			return err
		}
		if c.trusting && int64(len(content)) == of.Size {
			return nil
		}
		if err := matches(of, content); err != nil {
			return fmt.Errorf("blob %s: %w", of.Digest, err)
		}
		return nil
	})
}

// once pulls once what manifests share.
func (c *strictClient) once(repository, what string, of ocispec.Descriptor, pull func() error) error {
	key := fmt.Sprint(repository, " ", what, " ", of.Digest, " ", of.Size)
	err, isKnown := c.done[key]
	if !isKnown {
		err = pull()
		if c.done == nil {
			c.done = map[string]error{}
		}
		c.done[key] = err
	}
	return err
}

func matches(of ocispec.Descriptor, content []byte) error {
	if err := of.Digest.Validate(); err != nil {
		return fmt.Errorf("digest %q: %w", of.Digest, err)
	}
	if int64(len(content)) != of.Size {
		return fmt.Errorf("%d bytes, want %d", len(content), of.Size)
	}
	if got := of.Digest.Algorithm().FromBytes(content); got != of.Digest {
		return fmt.Errorf("the digest is %s", got)
	}
	return nil
}

func (c *strictClient) get(ctx context.Context, repository, what string) ([]byte, http.Header, error) {
	key := repository + " " + what
	a, isKnown := c.fetched[key]
	if !isKnown {
		a.content, a.header, a.err = c.ask(ctx, repository, what)
		c.fetched[key] = a
	}
	return a.content, a.header, a.err
}

func (c *strictClient) ask(ctx context.Context, repository, what string) ([]byte, http.Header, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.host+"/v2/"+repository+"/"+what, nil)
	if err != nil {
		return nil, nil, err
	}
	request.Header.Set("Accept", strings.Join([]string{
		ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex, imagetest.DockerManifest, imagetest.DockerList}, ", "))
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, nil, err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, nil, fmt.Errorf("GET %s %s: %w", repository, what, err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, nil, fmt.Errorf("GET %s %s: %s: %.200s", repository, what, response.Status, content)
	}
	return content, response.Header, nil
}

// tagsOf lists the tags of a registry's directory, as repository:tag, without a registry: the names that no
// client can use are among them.
func tagsOf(tree *imagetest.Tree) (tags []string, err error) {
	top := tree.Path("repositories")
	err = filepath.WalkDir(top, func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.IsDir() || !strings.HasSuffix(path, "/_manifests/tags") {
			return err
		}
		entries, err := os.ReadDir(path)
		for _, tag := range entries {
			if tag.IsDir() {
				tags = append(tags, strings.TrimSuffix(path, "/_manifests/tags")[len(top)+1:]+":"+tag.Name())
			}
		}
		return err
	})
	slices.Sort(tags)
	return tags, err
}

// failing returns those tags of which a complete pull fails, those of them that fail also if the content of
// configs and layers is not checked, and the reasons.
func (s *fixture) failing(tags []string) (all, structural []string, reasons map[string]error) {
	s.Helper()
	fetched := map[string]fetched{}
	strict, trusting := &strictClient{host: s.registry.Host(), fetched: fetched}, &strictClient{host: s.registry.Host(), fetched: fetched, trusting: true}
	reasons = map[string]error{}
	for _, tag := range tags {
		repository, name, _ := strings.Cut(tag, ":")
		if err := strict.pullTag(s.Context(), repository, name); err != nil {
			all, reasons[tag] = append(all, tag), err
		}
		if err := trusting.pullTag(s.Context(), repository, name); err != nil {
			structural = append(structural, tag)
		}
	}
	s.must(s.Context().Err())
	return all, structural, reasons
}
