package main

import (
	"archive/tar"
	"bytes"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"path"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// layerOf packs the program. A base keeps its own users and certificates.
func layerOf(program string, isEmpty bool, modified time.Time, mediaType types.MediaType) (v1.Layer, error) {
	content, err := os.ReadFile(program)
	if err != nil {
		return nil, err
	}
	licence, err := os.ReadFile("LICENSE")
	if err != nil {
		return nil, err
	}
	l := &archive{modified: modified, written: map[string]bool{".": true}}
	l.writer = tar.NewWriter(&l.packed)
	l.file("usr/bin/regsweep", 0o755, content)
	l.file("usr/share/licenses/regsweep/LICENSE", 0o644, licence)
	l.directory(home[1:], 0o700, user)
	if isEmpty {
		l.directory("tmp", 0o1777, 0)
		l.file("etc/passwd", 0o644, fmt.Appendf(nil, "root:x:0:0:root:/:/sbin/nologin\nregsweep:x:%d:%d:regsweep:%s:/sbin/nologin\n", user, user, home))
		l.file("etc/group", 0o644, fmt.Appendf(nil, "root:x:0:\nregsweep:x:%d:\n", user))
		l.file("etc/ssl/certs/ca-certificates.crt", 0o644, certificates())
	}
	if err := l.writer.Close(); l.err == nil {
		l.err = err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(l.packed.Bytes())), l.err }
	return tarball.LayerFromOpener(open, tarball.WithMediaType(mediaType), tarball.WithCompressedCaching)
}

// archive is a tar archive that is being written. It keeps the first error.
type archive struct {
	packed   bytes.Buffer
	writer   *tar.Writer
	modified time.Time
	written  map[string]bool // directories
	err      error
}

func (a *archive) file(name string, mode int64, content []byte) {
	a.directory(path.Dir(name), 0o755, 0)
	a.entry(tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(content))}, content)
}

func (a *archive) directory(name string, mode int64, owner int) {
	if a.written[name] {
		return
	}
	a.directory(path.Dir(name), 0o755, 0)
	a.written[name] = true
	a.entry(tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: mode, Uid: owner, Gid: owner}, nil)
}

func (a *archive) entry(header tar.Header, content []byte) {
	if header.ModTime = a.modified; a.err == nil {
		a.err = a.writer.WriteHeader(&header)
	}
	if a.err == nil {
		_, a.err = a.writer.Write(content)
	}
}

// certificates are the authorities that Mozilla trusts, as Go has them. Those that are trusted only
// under conditions are left out: the file could not say so.
func certificates() []byte {
	var file []byte
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			file = append(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate})...)
		}
	}
	return file
}
