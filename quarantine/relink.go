package quarantine

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"

	"regsweep/storage"

	"github.com/opencontainers/go-digest"
)

// A deletion through the registry's API removes the revision link of a manifest and leaves
// everything else for the next collection. So the plan of that collection lists the layers and
// the blobs, and no revision link. An image that is restored by its digest needs the link to be
// pulled. It is written again in each repository in which everything that the manifest refers
// to is linked: no other repository can have served the image.

// serves reports whether a repository serves a manifest once the restoration is done. The
// revision links that this takes and that no plan lists are added to relink.
func (r *restorer) serves(ctx context.Context, repository string, d digest.Digest) (bool, error) {
	linked, err := r.isLinked(ctx, repository, d, storage.RevisionPath(repository, d))
	if err != nil || linked {
		return linked, err
	}
	manifest, err := r.manifest(ctx, d)
	if err != nil || len(manifest.References) == 0 {
		return false, err
	}
	before := len(r.relink) // for a manifest of which something is not linked here
	for _, reference := range manifest.References {
		to := reference.Digest
		linked, err := to.Validate() == nil, error(nil)
		if linked {
			linked, err = r.isLinked(ctx, repository, to, storage.LayerPath(repository, to))
		}
		if err == nil && !linked { // an entry of an index
			linked, err = r.serves(ctx, repository, to)
		}
		if err == nil && !linked { // a foreign layer need not be stored, nor each entry of an index
			var stored bool
			stored, err = r.isStored(ctx, to)
			linked = !stored
		}
		if err != nil || !linked {
			r.relink = r.relink[:before]
			return false, err
		}
	}
	if link := (Linked{repository, d}); !slices.Contains(r.relink, link) {
		r.relink = append(r.relink, link)
	}
	return true, nil
}

// isLinked reports whether a link is there, or comes back with the restoration.
func (r *restorer) isLinked(ctx context.Context, repository string, d digest.Digest, path string) (bool, error) {
	if r.lostLinks[repository][d] {
		return true, nil
	}
	return r.exists(ctx, path)
}

// isStored reports whether a blob is there, or comes back with the restoration.
func (r *restorer) isStored(ctx context.Context, d digest.Digest) (bool, error) {
	if d.Validate() != nil {
		return false, nil
	}
	stored, err := r.exists(ctx, storage.BlobPath(d))
	if err == nil && !stored {
		stored, err = r.comesBack(ctx, storage.BlobPath(d))
	}
	return stored, err
}

// linkAgain writes the revision links of relink, and finds out whether the digest that was
// asked for can be pulled now.
func (r *restorer) linkAgain(ctx context.Context) error {
	for _, link := range r.relink {
		whole, err := r.isWhole(ctx, link.Digest)
		if err != nil {
			return err
		}
		if !whole {
			continue
		}
		if !r.options.DryRun {
			err = r.store.Put(ctx, storage.RevisionPath(link.Repository, link.Digest), strings.NewReader(link.Digest.String()))
		}
		switch {
		case err == nil:
			r.result.Linked = append(r.result.Linked, link)
		case !errors.Is(err, fs.ErrExist):
			return err
		}
	}
	if !r.options.DryRun && len(r.result.Linked) > 0 {
		if err := r.store.Sync(ctx); err != nil {
			return err
		}
	}
	return r.findUnlinked(ctx)
}

// isWhole reports whether a manifest and what it refers to were not lost.
func (r *restorer) isWhole(ctx context.Context, d digest.Digest) (bool, error) {
	manifest, err := r.manifest(ctx, d)
	whole := !r.lost[d]
	for _, reference := range manifest.References {
		whole = whole && !r.lost[reference.Digest]
	}
	return whole, err
}

// findUnlinked notes the digest that was asked for if it is a manifest that no repository
// serves.
func (r *restorer) findUnlinked(ctx context.Context) error {
	d := r.options.Digest
	manifest, err := r.manifest(ctx, d)
	if err != nil || len(manifest.References) == 0 || r.lost[d] {
		return err
	}
	for repository := range r.lostLinks {
		for _, path := range []string{storage.RevisionPath(repository, d), storage.LayerPath(repository, d)} {
			linked, err := r.exists(ctx, path)
			if err != nil || linked {
				return err
			}
		}
		willBe := r.lostLinks[repository][d] || slices.Contains(r.result.Linked, Linked{repository, d})
		if r.options.DryRun && willBe {
			return nil
		}
	}
	r.result.Unlinked = d
	return nil
}
