package quarantine

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"

	"regsweep/storage"
	"regsweep/storage/layout"

	"github.com/opencontainers/go-digest"
)

// A deletion through the registry's API removes only the revision link of a manifest. The next
// collection removes the layers and the blobs, so its plan has no revision link. But an image can
// only be pulled if it has a revision link. So a restore by digest writes the link again, in each
// repository that has links to all references of the manifest: no other repository can have served
// the image.

// serves reports whether a repository will serve a manifest after the restore. It adds the revision
// links that this needs, and that no plan lists, to relink.
func (r *restorer) serves(ctx context.Context, repository string, d digest.Digest) (bool, error) {
	linked, err := r.isLinked(ctx, repository, d, layout.RevisionPath(repository, d))
	if err != nil || linked {
		return linked, err
	}
	references, err := r.references(ctx, d)
	if err != nil || len(references) == 0 {
		return false, err
	}
	before := len(r.relink) // to undo the additions if a reference is not linked here
	for _, to := range references {
		linked, err := to.Validate() == nil, error(nil)
		if linked {
			linked, err = r.isLinked(ctx, repository, to, layout.LayerPath(repository, to))
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

// isLinked reports whether a link exists, or will be restored.
func (r *restorer) isLinked(ctx context.Context, repository string, d digest.Digest, path string) (bool, error) {
	if r.lostLinks[repository][d] && (r.options.DryRun || !r.restored) {
		return true, nil
	}
	return r.exists(ctx, path)
}

// isStored reports whether a blob exists, or can be restored.
func (r *restorer) isStored(ctx context.Context, d digest.Digest) (bool, error) {
	if d.Validate() != nil {
		return false, nil
	}
	stored, err := r.exists(ctx, layout.BlobPath(d))
	if err == nil && !stored {
		stored, err = r.isRestorable(ctx, layout.BlobPath(d))
	}
	return stored, err
}

// conclude ends a restore after all its runs. With Options.Digest it links this digest, and isStored
// reports whether it is a manifest in the registry. Otherwise it finds the manifests that no
// repository links.
func (r *restorer) conclude(ctx context.Context) (isStored bool, err error) {
	r.restored = true
	d := r.options.Digest
	if d == "" {
		return false, r.findNotLinked(ctx)
	}
	references, err := r.references(ctx, d)
	if err != nil || len(references) == 0 || r.lost[d] {
		return false, err
	}
	if isStored, err = r.exists(ctx, layout.BlobPath(d)); err != nil || !isStored && !r.options.DryRun {
		return false, err
	}
	if only := r.options.Repository; only != "" && r.lostLinks[only] == nil {
		r.lostLinks[only] = map[digest.Digest]bool{}
	}
	if err := r.linkIn(ctx, slices.Sorted(maps.Keys(r.lostLinks))); err != nil {
		return false, err
	}
	isLinked, err := r.willBeLinked(ctx)
	if err != nil || isLinked {
		return isStored, err
	}
	if r.options.Repository != "" {
		r.result.Unlinked = d
		return isStored, nil
	}
	// No repository of the plans links the digest. A repository that has kept all layers of the
	// image is in no plan, so all repositories are listed.
	r.wanted.digests = map[digest.Digest]bool{}
	if err := r.reach(ctx, d); err != nil {
		return false, err
	}
	linking, err := r.linking(ctx, slices.Collect(maps.Keys(r.wanted.digests)))
	if err != nil || len(linking[d]) > 0 {
		return isStored, err
	}
	var repositories []string
	for _, of := range linking {
		repositories = append(repositories, of...)
	}
	slices.Sort(repositories)
	if err := r.linkIn(ctx, slices.Compact(repositories)); err != nil {
		return false, err
	}
	if !slices.ContainsFunc(r.result.Linked, func(l Linked) bool { return l.Digest == d }) {
		r.result.Unlinked = d
	}
	return isStored, nil
}

// linkIn links Options.Digest in the given repositories, as far as they can serve it.
func (r *restorer) linkIn(ctx context.Context, repositories []string) error {
	r.relink = nil
	for _, repository := range repositories {
		if _, err := r.serves(ctx, repository, r.options.Digest); err != nil {
			return err
		}
	}
	return r.writeLinks(ctx)
}

// writeLinks writes the revision links of relink. It skips manifests that are not complete.
func (r *restorer) writeLinks(ctx context.Context) error {
	for _, link := range r.relink {
		complete, err := r.isComplete(ctx, link.Digest)
		if err != nil {
			return err
		}
		if !complete {
			continue
		}
		if !r.options.DryRun {
			err = r.store.Put(ctx, layout.RevisionPath(link.Repository, link.Digest), strings.NewReader(link.Digest.String()))
		}
		switch {
		case err == nil:
			r.result.Linked = append(r.result.Linked, link)
		case !errors.Is(err, fs.ErrExist):
			return err
		}
	}
	if r.options.DryRun || len(r.relink) == 0 {
		return nil
	}
	return r.store.Sync(ctx)
}

// isComplete reports whether neither a manifest nor one of its references is lost.
func (r *restorer) isComplete(ctx context.Context, d digest.Digest) (bool, error) {
	references, err := r.references(ctx, d)
	complete := !r.lost[d]
	for _, to := range references {
		complete = complete && !r.lost[to]
	}
	return complete, err
}

// willBeLinked reports whether a repository in the plans links Options.Digest, or will do so after
// the restore.
func (r *restorer) willBeLinked(ctx context.Context) (bool, error) {
	d := r.options.Digest
	for repository := range r.lostLinks {
		for _, path := range []string{layout.RevisionPath(repository, d), layout.LayerPath(repository, d)} {
			linked, err := r.exists(ctx, path)
			if err != nil || linked {
				return linked, err
			}
		}
		if r.options.DryRun && (r.lostLinks[repository][d] || slices.Contains(r.result.Linked, Linked{repository, d})) {
			return true, nil
		}
	}
	return false, nil
}

// findNotLinked sets Restored.NotLinked: the restored manifests that no repository links. With
// Options.Repository these are only the manifests that this repository can serve.
func (r *restorer) findNotLinked(ctx context.Context) error {
	unlinked := slices.DeleteFunc(r.maybeUnlinked, func(d digest.Digest) bool {
		_, linked := r.linked[r.hashOf(d)]
		return linked || r.lost[d]
	})
	isManifest := make([]bool, len(unlinked))
	err := storage.Each(ctx, len(unlinked), r.store.Concurrency(), func(ctx context.Context, i int) error {
		references, err := r.references(ctx, unlinked[i])
		isManifest[i] = len(references) > 0
		return err
	})
	var found []digest.Digest
	for i := 0; i < len(unlinked) && err == nil; i++ {
		serves := isManifest[i]
		if serves && r.options.Repository != "" {
			serves, err = r.serves(ctx, r.options.Repository, unlinked[i])
		}
		if serves {
			found = append(found, unlinked[i])
		}
	}
	if err != nil || len(found) == 0 {
		return err
	}
	linking, err := r.linking(ctx, found)
	if err != nil { // an unrelated repository may be unreadable
		r.result.NotLinkedUnknown = err.Error()
		return context.Cause(ctx)
	}
	found = slices.DeleteFunc(found, func(d digest.Digest) bool { return len(linking[d]) > 0 })
	slices.Sort(found)
	found = slices.Compact(found)
	r.result.NotLinked, r.result.NotLinkedCount = found[:min(len(found), maxLeft)], len(found)
	return nil
}

// linking lists all repositories, and returns for each digest the repositories that link it.
func (r *restorer) linking(ctx context.Context, digests []digest.Digest) (map[digest.Digest][]string, error) {
	paths := map[string]digest.Digest{} // by the end of the path of a link to it
	for _, d := range digests {
		if d.Validate() == nil {
			for _, path := range []string{layout.RevisionPath("", d), layout.LayerPath("", d)} {
				paths[strings.TrimPrefix(path, layout.RepositoryPath(""))] = d
			}
		}
	}
	var mu sync.Mutex
	found := map[digest.Digest][]string{}
	err := r.store.Scan(ctx, storage.RepositoriesDir, func(page []storage.Object) error {
		for _, object := range page {
			at := max(strings.LastIndex(object.Path, "/_layers/"), strings.LastIndex(object.Path, "/_manifests/revisions/"))
			if at < 0 {
				continue
			}
			d, ok := paths[object.Path[at:]]
			if !ok {
				continue
			}
			exists, err := r.exists(ctx, object.Path) // a scan may report the directory of a link
			if err != nil {
				return err
			}
			if exists {
				mu.Lock()
				found[d] = append(found[d], strings.TrimPrefix(object.Path[:at], storage.RepositoriesDir+"/"))
				mu.Unlock()
			}
		}
		return nil
	})
	return found, err
}
