package registrytest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"regsweep/internal/imagetest"
)

// Client pushes to a registry and pulls from it, as the machines around a registry
// do. Its methods may be called concurrently.
type Client struct {
	Host               string
	Username, Password string
	CAFile             string // serves https, trusted by this PEM file
	// Transport reaches a registry over plain HTTP; nil is this process's own.
	Transport http.RoundTripper

	// ReferrersTag also writes the tag sha256-<subject> when a manifest with a
	// subject is pushed, as clients do for registries without a referrers API.
	// Off by default: such a tag is a root, and hides whether the subject was
	// followed.
	ReferrersTag bool

	mu      sync.Mutex
	clients map[string]*http.Client // by repository, each authenticated for one
}

// Push pushes to a registry without authentication; see Client.Push. The reference
// is host/repository:tag or host/repository@digest.
func Push(ctx context.Context, reference string, m *imagetest.Manifest) error {
	host, rest, _ := strings.Cut(reference, "/")
	return (&Client{Host: host}).Push(ctx, rest, m)
}

// PullAll pulls from a registry without authentication; see Client.PullAll.
func PullAll(ctx context.Context, host, repository string, tagsOrDigests ...string) error {
	return (&Client{Host: host}).PullAll(ctx, repository, tagsOrDigests...)
}

// Ping asks for any answer at all.
func (c *Client) Ping(ctx context.Context) error {
	base, err := c.transport()
	if err != nil {
		return err
	}
	return answers(ctx, &http.Client{Transport: base}, strings.TrimSuffix(c.url("", ""), "/"))
}

// Push pushes a manifest with everything that it needs under a reference, which is
// repository:tag, repository@digest, or repository alone to push it untagged.
func (c *Client) Push(ctx context.Context, reference string, m *imagetest.Manifest) error {
	repository, identifier := splitReference(reference)
	if identifier == "" {
		identifier = m.Digest().String()
	}
	repo, options, err := c.options(ctx, repository)
	if err != nil {
		return fmt.Errorf("push %s: %w", reference, err)
	}
	pusher, err := remote.NewPusher(options...)
	if err != nil {
		return fmt.Errorf("push %s: %w", reference, err)
	}
	if err := c.push(ctx, pusher, repo, identifier, m); err != nil {
		return fmt.Errorf("push %s: %w", reference, err)
	}
	return nil
}

func (c *Client) push(ctx context.Context, pusher *remote.Pusher, repo name.Repository, identifier string, m *imagetest.Manifest) error {
	for _, blob := range m.Blobs {
		if len(blob.URLs) > 0 {
			continue
		}
		if blob.Digest().Algorithm() != digest.SHA256 {
			// go-containerregistry knows one algorithm.
			if err := c.PushBlob(ctx, repo.RepositoryStr(), blob); err != nil {
				return err
			}
			continue
		}
		layer := static.NewLayer(blob.Content, types.MediaType(blob.MediaType))
		if err := pusher.Upload(ctx, repo, layer); err != nil {
			return fmt.Errorf("blob %s: %w", blob.Digest(), err)
		}
	}
	for _, child := range m.Manifests {
		if err := c.push(ctx, pusher, repo, child.Digest().String(), child); err != nil {
			return err
		}
	}
	if err := c.putManifest(ctx, pusher, repo, identifier, m); err != nil {
		return fmt.Errorf("manifest %s: %w", m.Digest(), err)
	}
	return nil
}

func (c *Client) putManifest(ctx context.Context, pusher *remote.Pusher, repo name.Repository, identifier string, m *imagetest.Manifest) error {
	if !c.ReferrersTag {
		// go-containerregistry insists on the tag for a manifest with a subject.
		repository := repo.RepositoryStr()
		address := c.url(repository, "manifests/"+identifier)
		_, err := c.send(ctx, repository, http.MethodPut, address, m.MediaType, m.Content, http.StatusCreated)
		return err
	}
	if isDigest(identifier) {
		return pusher.Put(ctx, repo.Digest(identifier), taggable{m})
	}
	return pusher.Put(ctx, repo.Tag(identifier), taggable{m})
}

// PushBlob uploads one blob under its own digest, of whatever algorithm.
func (c *Client) PushBlob(ctx context.Context, repository string, blob imagetest.Blob) error {
	location, _, err := c.beginUpload(ctx, repository)
	if err != nil {
		return fmt.Errorf("push blob %s: %w", blob.Digest(), err)
	}
	query := location.Query()
	query.Set("digest", blob.Digest().String())
	location.RawQuery = query.Encode()
	_, err = c.send(ctx, repository, http.MethodPut, location.String(), octets, blob.Content, http.StatusCreated)
	if err != nil {
		return fmt.Errorf("push blob %s: %w", blob.Digest(), err)
	}
	return nil
}

// LeaveUpload begins an upload, sends data and leaves it at that, as a client does
// that loses its connection. It returns the upload's id.
func (c *Client) LeaveUpload(ctx context.Context, repository string, data []byte) (string, error) {
	location, id, err := c.beginUpload(ctx, repository)
	if err != nil {
		return "", fmt.Errorf("leave upload: %w", err)
	}
	if _, err := c.send(ctx, repository, http.MethodPatch, location.String(), octets, data, http.StatusAccepted); err != nil {
		return "", fmt.Errorf("leave upload: %w", err)
	}
	return id, nil
}

func (c *Client) beginUpload(ctx context.Context, repository string) (location *url.URL, id string, err error) {
	address := c.url(repository, "blobs/uploads/")
	response, err := c.send(ctx, repository, http.MethodPost, address, "", nil, http.StatusAccepted)
	if err != nil {
		return nil, "", err
	}
	location, err = response.location()
	if err != nil {
		return nil, "", fmt.Errorf("begin upload: %w", err)
	}
	return location, path.Base(location.Path), nil
}

// Mount links a blob of another repository into this one without its content.
func (c *Client) Mount(ctx context.Context, repository, from string, d digest.Digest) error {
	address := c.url(repository, "blobs/uploads/") + "?" + url.Values{"mount": {d.String()}, "from": {from}}.Encode()
	if _, err := c.send(ctx, repository, http.MethodPost, address, "", nil, http.StatusCreated); err != nil {
		return fmt.Errorf("mount %s from %s: %w", d, from, err)
	}
	return nil
}

// Delete deletes a manifest by digest, with the tags that point at it, or one tag.
func (c *Client) Delete(ctx context.Context, repository, tagOrDigest string) error {
	return c.delete(ctx, repository, "manifests/"+tagOrDigest)
}

// DeleteBlob takes a blob out of a repository.
func (c *Client) DeleteBlob(ctx context.Context, repository string, d digest.Digest) error {
	return c.delete(ctx, repository, "blobs/"+d.String())
}

func (c *Client) delete(ctx context.Context, repository, what string) error {
	_, err := c.send(ctx, repository, http.MethodDelete, c.url(repository, what), "", nil, http.StatusAccepted)
	if err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	return nil
}

// PullAll pulls each tag or digest of a repository with all that it reaches in
// full, and checks every byte against its digest. Foreign layers are left out. Its
// error joins what is wrong with each reference.
func (c *Client) PullAll(ctx context.Context, repository string, tagsOrDigests ...string) error {
	p := &pull{client: c, repository: repository, done: map[digest.Digest]bool{}}
	var errs []error
	for _, identifier := range tagsOrDigests {
		if err := p.manifest(ctx, identifier); err != nil {
			errs = append(errs, fmt.Errorf("pull %s %s: %w", repository, identifier, err))
		}
	}
	return errors.Join(errs...)
}

// pull pulls once what references of one repository share.
type pull struct {
	client     *Client
	repository string
	done       map[digest.Digest]bool
}

func (p *pull) manifest(ctx context.Context, identifier string) error {
	if p.done[digest.Digest(identifier)] {
		return nil
	}
	address := p.client.url(p.repository, "manifests/"+identifier)
	response, err := p.client.send(ctx, p.repository, http.MethodGet, address, "", nil, http.StatusOK)
	if err != nil {
		return fmt.Errorf("manifest %s: %w", identifier, err)
	}
	d := digest.Digest(identifier)
	if !isDigest(identifier) {
		d = digest.Digest(response.header.Get("Docker-Content-Digest"))
	}
	if err := check(d, response.body); err != nil {
		return fmt.Errorf("manifest %s: %w", identifier, err)
	}

	var m struct {
		Config    *ocispec.Descriptor  `json:"config"`
		Layers    []ocispec.Descriptor `json:"layers"`
		Manifests []ocispec.Descriptor `json:"manifests"`
	}
	if err := json.Unmarshal(response.body, &m); err != nil {
		return fmt.Errorf("manifest %s: %w", d, err)
	}
	for _, entry := range m.Manifests {
		follow := p.blob // an entry of a build cache
		switch entry.MediaType {
		case ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex, imagetest.DockerManifest, imagetest.DockerList:
			follow = p.manifest
		}
		if err := follow(ctx, entry.Digest.String()); err != nil {
			return fmt.Errorf("index %s: %w", d, err)
		}
	}
	if m.Config != nil {
		m.Layers = append(m.Layers, *m.Config)
	}
	for _, blob := range m.Layers {
		if len(blob.URLs) > 0 {
			continue
		}
		if err := p.blob(ctx, blob.Digest.String()); err != nil {
			return fmt.Errorf("manifest %s: %w", d, err)
		}
	}
	p.done[d] = true
	return nil
}

func (p *pull) blob(ctx context.Context, identifier string) error {
	d := digest.Digest(identifier)
	if p.done[d] {
		return nil
	}
	address := p.client.url(p.repository, "blobs/"+identifier)
	response, err := p.client.send(ctx, p.repository, http.MethodGet, address, "", nil, http.StatusOK)
	if err != nil {
		return fmt.Errorf("blob %s: %w", d, err)
	}
	if err := check(d, response.body); err != nil {
		return fmt.Errorf("blob %s: %w", d, err)
	}
	p.done[d] = true
	return nil
}

func check(d digest.Digest, content []byte) error {
	if err := d.Validate(); err != nil {
		return fmt.Errorf("digest %q: %w", d, err)
	}
	if got := d.Algorithm().FromBytes(content); got != d {
		return fmt.Errorf("%d bytes that hash to %s", len(content), got)
	}
	return nil
}

// octets is the media type of an upload.
const octets = "application/octet-stream"

// response is an answer, read to its end.
type response struct {
	request *url.URL
	header  http.Header
	body    []byte
}

// location is where the answer sends the client on.
func (r *response) location() (*url.URL, error) {
	location, err := url.Parse(r.header.Get("Location"))
	if err != nil {
		return nil, err
	}
	return r.request.ResolveReference(location), nil
}

// send asks the registry, and takes any status but want for an error.
func (c *Client) send(ctx context.Context, repository, method, address, mediaType string, body []byte, want int) (*response, error) {
	client, err := c.client(ctx, repository)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", strings.Join([]string{
		ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex, imagetest.DockerManifest, imagetest.DockerList, "*/*"}, ", "))
	if body != nil {
		request.Header.Set("Content-Type", mediaType)
	}
	answer, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(answer.Body)
	if err := errors.Join(err, answer.Body.Close()); err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, address, err)
	}
	if answer.StatusCode != want {
		return nil, fmt.Errorf("%s %s: %s: %s", method, address, answer.Status, bytes.TrimSpace(content))
	}
	return &response{request: answer.Request.URL, header: answer.Header, body: content}, nil
}

// client authenticates itself for all that can be done with a repository.
func (c *Client) client(ctx context.Context, repository string) (*http.Client, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if client := c.clients[repository]; client != nil {
		return client, nil
	}
	repo, err := c.repository(repository)
	if err != nil {
		return nil, err
	}
	base, err := c.transport()
	if err != nil {
		return nil, err
	}
	scopes := []string{repo.Scope("pull,push,delete")}
	authenticated, err := transport.NewWithContext(context.WithoutCancel(ctx), repo.Registry, c.authenticator(), base, scopes)
	if err != nil {
		return nil, err
	}
	if c.clients == nil {
		c.clients = map[string]*http.Client{}
	}
	c.clients[repository] = &http.Client{Transport: authenticated}
	return c.clients[repository], nil
}

func (c *Client) options(ctx context.Context, repository string) (name.Repository, []remote.Option, error) {
	repo, err := c.repository(repository)
	if err != nil {
		return repo, nil, err
	}
	base, err := c.transport()
	if err != nil {
		return repo, nil, err
	}
	return repo, []remote.Option{
		remote.WithContext(ctx),
		remote.WithAuth(c.authenticator()),
		remote.WithTransport(base),
	}, nil
}

func (c *Client) repository(repository string) (name.Repository, error) {
	if c.CAFile == "" {
		return name.NewRepository(c.Host+"/"+repository, name.Insecure)
	}
	return name.NewRepository(c.Host + "/" + repository)
}

func (c *Client) authenticator() authn.Authenticator {
	if c.Username == "" {
		return authn.Anonymous
	}
	return &authn.Basic{Username: c.Username, Password: c.Password}
}

// transport is the process's own for plain HTTP, so that connections are kept.
func (c *Client) transport() (http.RoundTripper, error) {
	switch {
	case c.CAFile == "" && c.Transport != nil:
		return c.Transport, nil
	case c.CAFile == "":
		return http.DefaultTransport, nil
	}
	bundle, err := os.ReadFile(c.CAFile)
	if err != nil {
		return nil, fmt.Errorf("read certificates: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(bundle) {
		return nil, fmt.Errorf("read certificates: none in %s", c.CAFile)
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = &tls.Config{RootCAs: roots}
	t.DisableKeepAlives = true // nobody would close them
	return t, nil
}

// url is an address of the API below a repository.
func (c *Client) url(repository, below string) string {
	scheme := "http"
	if c.CAFile != "" {
		scheme = "https"
	}
	return scheme + "://" + c.Host + "/v2/" + repository + "/" + below
}

// splitReference takes repository:tag and repository@digest apart.
func splitReference(reference string) (repository, identifier string) {
	if repository, identifier, found := strings.Cut(reference, "@"); found {
		return repository, identifier
	}
	repository, identifier, _ = strings.Cut(reference, ":")
	return repository, identifier
}

func isDigest(identifier string) bool { return strings.Contains(identifier, ":") }

// taggable is a manifest as go-containerregistry pushes it.
type taggable struct{ m *imagetest.Manifest }

func (t taggable) RawManifest() ([]byte, error)        { return t.m.Content, nil }
func (t taggable) MediaType() (types.MediaType, error) { return types.MediaType(t.m.MediaType), nil }
