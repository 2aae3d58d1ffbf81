package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"regsweep/internal/imagetest"
	"regsweep/internal/registrytest"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

var realClients = flag.Bool("real-clients", false, "sign with cosign and attach with oras, which take minutes to build")

// signer signs images of team/app and attaches files to them. It finds both again with what the registry serves.
type signer interface {
	sign(m *imagetest.Manifest, as cosignLayout)
	verify(m *imagetest.Manifest, as cosignLayout) error
	attach(m *imagetest.Manifest)
	find(m *imagetest.Manifest) error // the file
}

// cosignLayout is where a signature is, by a flag of cosign.
type cosignLayout string

const (
	withTag    cosignLayout = "--new-bundle-format=false"
	asReferrer cosignLayout = "--new-bundle-format=true"
)

const sbomType = "application/vnd.example.sbom"

// TestAPolicyOnSignedImages: images are signed in cosign's two layouts, with a tag and as a referrer. A file is
// attached to each image. After a policy each survivor can be pulled, its signature verifies, and its file is
// found. Nothing is left of the signatures and files of removed images. With -real-clients, cosign and oras do it.
func TestAPolicyOnSignedImages(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	var by signer
	if *realClients {
		by = newCosign(s)
	} else {
		by = newOwnSigner(s)
	}
	type signed struct {
		*imagetest.Manifest
		as cosignLayout
	}
	images := map[string]signed{
		"latest": {app(1, 2), withTag}, "pr-1": {app(1, 10), withTag},
		"pr-2": {imagetest.Index(imagetest.OCI, app(1, 11), app(1, 12)), asReferrer}, "pr-3": {app(1, 13), asReferrer},
	}
	for tag, m := range images {
		s.push("team/app:"+tag, m.Manifest)
		by.sign(m.Manifest, m.as)
		by.attach(m.Manifest)
		s.must(errors.Join(by.verify(m.Manifest, m.as), by.find(m.Manifest)))
	}
	s.tree.Age(imagetest.TagPath("team/app", "pr-1"), 50*day)
	s.tree.Age(imagetest.TagPath("team/app", "pr-2"), 40*day)
	before := s.files()

	s.must(s.registry.SetReadOnly(true)) // the proof
	policy := filepath.Join(t.TempDir(), "policy.yml")
	s.must(os.WriteFile(policy, []byte("version: 1\nrules:\n  - tags: [\"pr-*\"]\n    keep-within: 30d\n"), 0o600))
	code, stdout, stderr := regsweep(s, "gc", "--json", "--policy", policy, s.config(s.registry.ConfigYAML()))
	var report policyReport
	s.must(json.Unmarshal([]byte(stdout), &report))
	want := []string{"team/app:pr-1 remove by rule 1", "team/app:pr-2 remove by rule 1", "team/app:pr-3 keep by rule 1, keep-within"}
	if got := report.verdicts(); code != 0 || !slices.Equal(got, want) {
		t.Fatalf("exit code %d: %q: %s", code, got, stderr)
	}

	after := s.files()
	for tag, m := range images {
		if tag == "latest" || tag == "pr-3" {
			s.pull("after a policy", s.client, []image{{repository: "team/app", references: []string{tag, string(m.Digest())}}})
			if err := errors.Join(by.verify(m.Manifest, m.as), by.find(m.Manifest)); err != nil {
				t.Errorf("%s: %v", tag, err)
			}
			continue
		}
		if by.verify(m.Manifest, m.as) == nil {
			t.Errorf("the signature of %s still verifies", tag)
		}
		if by.find(m.Manifest) == nil {
			t.Errorf("the file of %s is still found", tag)
		}
		for path := range after {
			if strings.Contains(path, m.Digest().Encoded()) { // as its tags for referrers
				t.Errorf("%s: %s is left", tag, path)
			}
		}
	}
	// What is left: for each survivor its manifest, its signature and its file, and three indexes of referrers.
	if was, is := manifestsIn(before), manifestsIn(after); is != 9 {
		t.Errorf("%d of %d manifests are left", is, was)
	}
}

// cosign is cosign itself, with oras for the files.
type cosign struct {
	s                 *fixture
	dir, cosign, oras string
}

// newCosign gets the programs also with -short: a test that was asked for is not skipped.
func newCosign(s *fixture) *cosign {
	c := &cosign{s: s, dir: s.TempDir()}
	var err error
	c.cosign, err = registrytest.Cosign.Get(s.Context())
	s.must(err)
	c.oras, err = registrytest.ORAS.Get(s.Context())
	s.must(err)
	_, err = c.run(c.cosign, "generate-key-pair")
	s.must(err)
	const noRoots = `{"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1"}` // or cosign fetches some
	s.must(os.WriteFile(filepath.Join(c.dir, "roots.json"), []byte(noRoots), 0o600))
	return c
}

func (c *cosign) run(program string, args ...string) (output string, err error) {
	command := exec.CommandContext(c.s.Context(), program, args...)
	command.Dir = c.dir
	command.Env = append(os.Environ(), "HOME="+c.dir, "COSIGN_PASSWORD=", "DOCKER_CONFIG="+c.dir)
	all, err := command.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %q: %w\n%s", filepath.Base(program), args, err, all)
	}
	return string(all), nil
}

func (c *cosign) reference(m *imagetest.Manifest) string {
	return c.s.registry.Host() + "/team/app@" + string(m.Digest())
}

func (c *cosign) sign(m *imagetest.Manifest, as cosignLayout) {
	_, err := c.run(c.cosign, "sign", "--key", "cosign.key", "--tlog-upload=false", "--allow-http-registry", "--yes", string(as), c.reference(m))
	c.s.must(err)
}

func (c *cosign) verify(m *imagetest.Manifest, as cosignLayout) error {
	_, err := c.run(c.cosign, "verify", "--key", "cosign.pub", "--insecure-ignore-tlog", "--allow-http-registry", "--trusted-root", "roots.json", string(as), c.reference(m))
	return err
}

func (c *cosign) attach(m *imagetest.Manifest) {
	c.s.must(os.WriteFile(filepath.Join(c.dir, "sbom.json"), []byte(`{"of":"`+m.Digest()+`"}`), 0o600))
	_, err := c.run(c.oras, "attach", "--plain-http", "--artifact-type", sbomType, c.reference(m), "sbom.json")
	c.s.must(err)
}

func (c *cosign) find(m *imagetest.Manifest) error {
	found, err := c.run(c.oras, "discover", "--plain-http", c.reference(m))
	if err == nil && !strings.Contains(found, sbomType) {
		err = fmt.Errorf("oras finds: %s", found)
	}
	return err
}

const (
	payloadType         = "application/vnd.dev.cosign.simplesigning.v1+json"
	signatureAnnotation = "dev.cosignproject.cosign/signature"
	bundleType          = "application/vnd.dev.sigstore.bundle.v0.3+json"
)

// ownSigner writes what cosign and oras write into a registry without a referrers API. Only the bundle of a
// signature as a referrer is simpler.
type ownSigner struct {
	s      *fixture
	client *registrytest.Client // writes fallback tags
	key    *ecdsa.PrivateKey
}

// payload is what is signed.
type payload struct {
	Critical struct {
		Image struct {
			Digest digest.Digest `json:"docker-manifest-digest"`
		} `json:"image"`
		Type string `json:"type"`
	} `json:"critical"`
}

// bundle is a payload with its signature.
type bundle struct {
	Payload   []byte `json:"payload"`
	Signature []byte `json:"signature"`
}

func newOwnSigner(s *fixture) *ownSigner {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	s.must(err)
	client := s.registry.Client()
	client.ReferrersTag = true
	return &ownSigner{s, client, key}
}

func (o *ownSigner) push(reference string, m *imagetest.Manifest) {
	o.s.must(o.client.Push(o.s.Context(), reference, m))
}

func (o *ownSigner) sign(m *imagetest.Manifest, as cosignLayout) {
	var p payload
	p.Critical.Image.Digest, p.Critical.Type = m.Digest(), "cosign container image signature"
	content := o.encode(p)
	hash := sha256.Sum256(content)
	signature, err := ecdsa.SignASN1(rand.Reader, o.key, hash[:])
	o.s.must(err)
	if as == asReferrer {
		o.push("team/app", imagetest.Referrer(m, bundleType, o.encode(bundle{content, signature})))
		return
	}
	signed := imagetest.Image(imagetest.OCI, imagetest.Blob{MediaType: payloadType, Content: content})
	var manifest ocispec.Manifest
	o.s.must(json.Unmarshal(signed.Content, &manifest))
	manifest.Layers[0].Annotations = map[string]string{signatureAnnotation: base64.StdEncoding.EncodeToString(signature)}
	signed.Content = o.encode(manifest)
	o.push("team/app:"+signatureOf(m.Digest()), signed)
}

func (o *ownSigner) verify(m *imagetest.Manifest, as cosignLayout) error {
	var signed bundle
	if as == asReferrer {
		content, err := o.referrer(m, bundleType)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(content, &signed); err != nil {
			return err
		}
	} else {
		manifest, content, err := o.layer(signatureOf(m.Digest()))
		if err != nil {
			return err
		}
		signed.Payload = content
		if signed.Signature, err = base64.StdEncoding.DecodeString(manifest.Layers[0].Annotations[signatureAnnotation]); err != nil {
			return err
		}
	}
	hash := sha256.Sum256(signed.Payload)
	if !ecdsa.VerifyASN1(&o.key.PublicKey, hash[:], signed.Signature) {
		return errors.New("the signature does not verify")
	}
	var p payload
	if err := json.Unmarshal(signed.Payload, &p); err != nil {
		return err
	}
	if p.Critical.Image.Digest != m.Digest() {
		return fmt.Errorf("the signature is of %s", p.Critical.Image.Digest)
	}
	return nil
}

func (o *ownSigner) attach(m *imagetest.Manifest) {
	o.push("team/app", imagetest.Referrer(m, sbomType, sbomOf(m)))
}

func (o *ownSigner) find(m *imagetest.Manifest) error {
	content, err := o.referrer(m, sbomType)
	if err == nil && !bytes.Equal(content, sbomOf(m)) {
		err = fmt.Errorf("the file is %q", content)
	}
	return err
}

func sbomOf(m *imagetest.Manifest) []byte { return []byte(`{"of":"` + m.Digest() + `"}`) }

// referrer pulls the blob of a referrer of a type. The fallback tag has all referrers, and each must be whole.
func (o *ownSigner) referrer(m *imagetest.Manifest, artifactType string) (content []byte, err error) {
	list, err := o.s.ask("team/app/manifests/" + strings.Replace(string(m.Digest()), ":", "-", 1))
	if err != nil {
		return nil, err
	}
	var index ocispec.Index
	if err := json.Unmarshal(list, &index); err != nil {
		return nil, err
	}
	for _, entry := range index.Manifests {
		manifest, blob, err := o.layer(string(entry.Digest))
		if err != nil {
			return nil, err
		}
		if manifest.ArtifactType == artifactType && manifest.Subject != nil && manifest.Subject.Digest == m.Digest() {
			content = blob
		}
	}
	if content == nil {
		return nil, fmt.Errorf("%s has no referrer %s", m.Digest(), artifactType)
	}
	return content, nil
}

// layer pulls a manifest with all that it needs, and returns its only layer.
func (o *ownSigner) layer(reference string) (manifest ocispec.Manifest, content []byte, err error) {
	if err := o.client.PullAll(o.s.Context(), "team/app", reference); err != nil {
		return manifest, nil, err
	}
	encoded, err := o.s.ask("team/app/manifests/" + reference)
	if err != nil {
		return manifest, nil, err
	}
	if err := json.Unmarshal(encoded, &manifest); err != nil {
		return manifest, nil, err
	}
	if len(manifest.Layers) != 1 {
		return manifest, nil, fmt.Errorf("%s has %d layers", reference, len(manifest.Layers))
	}
	content, err = o.s.ask("team/app/blobs/" + string(manifest.Layers[0].Digest))
	return manifest, content, err
}

func (o *ownSigner) encode(v any) []byte {
	content, err := json.Marshal(v)
	o.s.must(err)
	return content
}

// manifestsIn counts the revision links.
func manifestsIn(files map[string]int64) (n int) {
	for path := range files {
		if strings.Contains(path, "/_manifests/revisions/") {
			n++
		}
	}
	return n
}
