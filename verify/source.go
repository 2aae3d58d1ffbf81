package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"regsweep/internal/registryclient"
	"regsweep/storage"
	"regsweep/storage/layout"

	"github.com/opencontainers/go-digest"
)

// Source has the content that a storage lacks. Its methods may be called concurrently.
type Source interface {
	// Fetch writes the content with a digest to w. It does not verify the content. Repositories are those that
	// should have it; they are tried in order. The error is fs.ErrNotExist (wrapped) if the source does not have
	// it. Transient failures have been retried already. After an error w may have got a part.
	Fetch(ctx context.Context, d digest.Digest, repositories []string, isManifest bool, w io.Writer) error
	String() string
}

// FromRegistry returns the source for a registry at http(s)://host:port/prefix. The error is a *storage.UsageError if the
// address is not valid, or if no registry answers there.
func FromRegistry(ctx context.Context, address string, o registryclient.Options) (Source, error) {
	r, err := registryclient.Open(ctx, address, o)
	if err != nil {
		return nil, fmt.Errorf("--refill: %w", err)
	}
	return r, nil
}

// FromStorage returns the source for another storage with the layout. The error is a *storage.UsageError if it is
// the storage that is repaired.
func FromStorage(source, repaired storage.Store) (Source, error) {
	if source.Identity() == repaired.Identity() {
		return nil, storage.Usagef("--refill %s: this is the storage that is repaired: name another one", source.Identity().Root)
	}
	return storedSource{source}, nil
}

type storedSource struct{ storage.Store }

func (s storedSource) String() string { return s.Identity().Root }

// Fetch finds a blob by its digest. A blob that was pushed with another digest than its SHA-256 is found by the layer
// link, which names the SHA-256.
func (s storedSource) Fetch(ctx context.Context, d digest.Digest, repositories []string, _ bool, w io.Writer) error {
	err := s.Stream(ctx, layout.BlobPath(d), w)
	if d.Algorithm() == digest.Canonical || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, repository := range repositories {
		content, linkErr := s.Read(ctx, layout.LayerPath(repository, d), layout.LinkLimit)
		if linkErr = storage.IgnoreDamage(linkErr); linkErr != nil {
			return linkErr
		}
		target, ok, _ := layout.LinkTarget(content)
		if !ok {
			continue
		}
		if err = s.Stream(ctx, layout.BlobPath(target), w); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return err
}
