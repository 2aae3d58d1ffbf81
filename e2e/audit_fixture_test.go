package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"regsweep/internal/imagetest"

	"github.com/opencontainers/go-digest"
)

// space is a registry's storage with layers of any size. Their files are sparse: an audit reads no layer.
type space struct {
	testing.TB
	tree *imagetest.Tree
}

func newSpace(t testing.TB) *space { return &space{t, imagetest.NewTree(t, t.TempDir())} }

// blob stores a blob of a size, and returns its digest.
func (s *space) blob(name string, size int64) digest.Digest {
	d := digest.FromString(name)
	path := s.tree.Path(imagetest.BlobPath(d))
	if _, err := os.Stat(path); err == nil {
		return d
	}
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = os.WriteFile(path, nil, 0o644)
	}
	if err == nil {
		err = os.Truncate(path, size)
	}
	if err != nil {
		s.Fatal(err)
	}
	return d
}

type sized struct {
	name string
	size int64
}

// image stores an image with a config of 1,000 bytes, and returns the digest of its manifest. If tag is not "", it
// gets that tag. The links of the tag and the layers are as old as age says.
func (s *space) image(repository, tag string, age time.Duration, layers ...sized) digest.Digest {
	config := s.blob("config of "+repository+":"+tag, 1000)
	s.tree.LayerLink(repository, config)
	manifest := fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"%s","size":1000},"layers":[`, config)
	for i, layer := range layers {
		d := s.blob(layer.name, layer.size)
		s.tree.LayerLink(repository, d)
		s.tree.Age(imagetest.BlobPath(d), age)
		s.tree.Age(imagetest.LayerPath(repository, d), age)
		if i > 0 {
			manifest += ","
		}
		manifest += fmt.Sprintf(`{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"%s","size":%d}`, d, layer.size)
	}
	d := s.tree.Blob([]byte(manifest + "]}"))
	s.tree.Revision(repository, d)
	s.tree.Age(imagetest.RevisionPath(repository, d), age)
	s.tree.Age(imagetest.LayerPath(repository, config), age)
	if tag != "" {
		s.tree.Tag(repository, tag, d)
		s.tree.Age("repositories/"+repository+"/_manifests/tags/"+tag, age)
	}
	return d
}

// audit runs regsweep audit on the storage.
func (s *space) audit(args ...string) (stdout string) {
	s.Helper()
	code, stdout, stderr := regsweep(&fixture{T: s.TB.(*testing.T)}, append(append([]string{"audit", "-q"}, args...), s.tree.Root())...)
	if code != 0 {
		s.Fatalf("audit %v: exit code %d\n%s", args, code, stderr)
	}
	return stdout
}
