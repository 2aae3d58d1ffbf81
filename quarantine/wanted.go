package quarantine

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"regsweep/manifest"
	"regsweep/mark"
	"regsweep/storage"
	"regsweep/storage/layout"
	"regsweep/sweep"

	"github.com/opencontainers/go-digest"
)

// wanted is the part of a plan that will be restored.
type wanted struct {
	everything bool
	// repositories are the repositories whose links are wanted; nil means all.
	repositories map[string]bool
	// digests are the wanted blobs. If linked is set, only links to these digests are wanted. With
	// --repository, all links of the repository are.
	digests map[digest.Digest]bool
	linked  bool
}

func (w *wanted) has(removal sweep.Removal) bool {
	switch {
	case w.everything:
		return true
	case removal.Kind.Form() == sweep.Content:
		return w.digests[removal.Digest]
	case w.repositories != nil && !w.repositories[removal.Repository]:
		return false
	case !w.linked:
		return true
	}
	return len(removal.Links()) > 0 && w.digests[removal.Digest]
}

// hasDirectory reports whether an empty directory is wanted: because all of its repository is wanted.
// For one digest no directories are restored.
func (w *wanted) hasDirectory(path string) bool {
	if w.everything || w.linked {
		return w.everything
	}
	for name := range w.repositories {
		for _, dir := range layout.LayoutPaths(name) {
			if path == dir || strings.HasPrefix(path, dir+"/") {
				return true
			}
		}
	}
	return false
}

// want sets wanted according to the options. The error is a *NothingError if the plan has none of it.
func (r *restorer) want(ctx context.Context) error {
	o := r.options
	r.wanted = wanted{everything: o.Repository == "" && o.Digest == "", linked: o.Digest != "", digests: map[digest.Digest]bool{}}
	if o.Repository != "" {
		r.wanted.repositories = map[string]bool{o.Repository: true}
	}
	if o.Digest != "" {
		return r.wantDigest(ctx)
	}
	found := r.wanted.everything
	err := r.plan.Each(func(removal sweep.Removal) error {
		if removal.Kind.IsServed() { // without such a link the registry does not serve the digest
			for _, link := range removal.Links() {
				r.linked[r.hashOf(link.Target)] = struct{}{}
			}
		}
		if r.wanted.everything || !o.names(removal) {
			return nil
		}
		found = true
		r.wanted.digests[removal.Digest] = true
		for _, link := range removal.Links() {
			r.wanted.digests[link.Target] = true
		}
		r.noteLost(removal)
		return nil
	})
	if err == nil && !found {
		err = &NothingError{Repository: o.Repository}
	}
	if err != nil || r.dir == "" {
		return err
	}
	return r.plan.Each(func(removal sweep.Removal) error {
		if removal.Kind.Form() != sweep.Content || removal.Bytes > manifestLimit {
			return nil
		}
		if _, linked := r.linked[r.hashOf(removal.Digest)]; !linked {
			r.maybeUnlinked = append(r.maybeUnlinked, removal.Digest)
		}
		return nil
	})
}

func (s *restoration) hashOf(d digest.Digest) uint64 { return maphash.String(s.seed, string(d)) }

// noteLost adds a removed revision or layer link to lostLinks.
func (s *restoration) noteLost(removal sweep.Removal) {
	if !removal.Kind.IsServed() {
		return
	}
	if s.lostLinks[removal.Repository] == nil {
		s.lostLinks[removal.Repository] = map[digest.Digest]bool{}
	}
	s.lostLinks[removal.Repository][removal.Digest] = true
}

// wantDigest adds Options.Digest and all that it reaches to wanted. The repositories are the one in the
// options or, without it, those that lost a link to the digest or can serve it again.
func (r *restorer) wantDigest(ctx context.Context) error {
	o := r.options
	if err := r.reach(ctx, o.Digest); err != nil {
		return err
	}
	found := false
	holders := map[string]bool{} // repositories that lost a link to the digest
	err := r.plan.Each(func(removal sweep.Removal) error {
		if removal.Digest == o.Digest {
			found = found || o.names(removal)
			if removal.Repository != "" {
				holders[removal.Repository] = true
			}
		}
		if r.wanted.digests[removal.Digest] && (o.Repository == "" || removal.Repository == o.Repository) {
			r.noteLost(removal)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if o.Repository != "" && r.lostLinks[o.Repository] == nil {
		r.lostLinks[o.Repository] = map[digest.Digest]bool{}
	}
	for _, repository := range slices.Sorted(maps.Keys(r.lostLinks)) {
		serves, err := r.serves(ctx, repository, o.Digest)
		if err != nil {
			return err
		}
		if serves {
			holders[repository] = true
		}
	}
	if !found && len(r.relink) == 0 {
		return &NothingError{Repository: o.Repository, Digest: o.Digest}
	}
	if o.Repository == "" && len(holders) > 0 {
		r.wanted.repositories = holders
	}
	return nil
}

// reach adds a digest and all digests that it reaches through intact manifests: an image with its
// layers, an index with its images.
func (r *restorer) reach(ctx context.Context, root digest.Digest) error {
	var failed error
	alive := mark.MapSet[digest.Digest]{}
	mark.Reach(alive, []digest.Digest{root}, func(d digest.Digest) (to []digest.Digest) {
		if failed == nil {
			to, failed = r.references(ctx, d)
		}
		return to
	})
	for d := range alive {
		r.wanted.digests[d] = true
	}
	return failed
}

// manifestLimit is the largest content that is read as a manifest, in bytes. Registries
// refuse to take one above 4 MiB (registry/handlers/manifests.go of Distribution).
const manifestLimit = 4 << 20

// references reads a manifest, from a quarantine or from the registry, and returns its references. It
// returns none if the digest has no intact manifest.
func (r *restorer) references(ctx context.Context, d digest.Digest) (to []digest.Digest, err error) {
	if d.Validate() != nil {
		return nil, nil
	}
	path := layout.BlobPath(d)
	for _, read := range []func(context.Context, string, int64) ([]byte, error){r.readHidden, r.readKept, r.store.Read} {
		content, err := read(ctx, path, manifestLimit)
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, storage.ErrTooLarge), errors.Is(err, storage.ErrNotRegular), errors.Is(err, storage.ErrUnreadable):
			continue
		case err != nil:
			return nil, err
		case d.Algorithm().FromBytes(content) != d:
			continue
		}
		m, err := manifest.Parse(content)
		if err != nil {
			return nil, nil // a layer
		}
		for _, reference := range m.References {
			to = append(to, digest.Digest(reference.Digest))
		}
		return to, nil
	}
	return nil, nil
}

// readKept reads an object that was moved to a quarantine.
func (r *restorer) readKept(ctx context.Context, path string, limit int64) ([]byte, error) {
	for _, dir := range r.dirs() {
		content, err := r.store.Read(ctx, dir+"/"+path, limit)
		if !errors.Is(err, fs.ErrNotExist) {
			return content, err
		}
	}
	return nil, fs.ErrNotExist
}

// NothingError is returned if a plan has no removal of the requested repository or digest.
type NothingError struct {
	Repository string
	Digest     digest.Digest
	// Run is the run to restore. Others are the other runs whose plans have such a removal. Both
	// are empty for a restore of all runs, or from a plan in a file.
	Run    string
	Others []string
}

func (e *NothingError) Error() string {
	in := "in the quarantine"
	if e.Run != "" {
		in = "in this run"
	}
	switch {
	case e.Digest == "":
		return fmt.Sprintf("there is nothing of the repository %s %s", e.Repository, in)
	case e.Repository == "":
		return fmt.Sprintf("there is nothing of %s %s", e.Digest, in)
	}
	return fmt.Sprintf("there is nothing of %s in the repository %s %s", e.Digest, e.Repository, in)
}

// others returns all runs but one whose plans have a removal that the options ask for. It skips runs
// whose plans can't be read.
func (s *restoration) others(ctx context.Context, run string) (others []string, err error) {
	names, err := s.store.Names(ctx, Dir)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if name == run {
			continue
		}
		record, err := open(ctx, s.store, name)
		if errors.As(err, new(*NoRunError)) || errors.As(err, new(*damagedError)) {
			continue
		}
		if err != nil {
			return nil, err
		}
		lists := false
		err = record.plan.Each(func(removal sweep.Removal) error {
			lists = lists || s.options.names(removal)
			return nil
		})
		if err = errors.Join(err, record.close()); err != nil {
			return nil, err
		}
		if lists {
			others = append(others, name)
		}
	}
	return others, nil
}

// names reports whether a removal has the repository or the digest that the options ask for.
func (o RestoreOptions) names(removal sweep.Removal) bool {
	if o.Digest == "" {
		return removal.Repository == o.Repository
	}
	return removal.Digest == o.Digest && (removal.Kind.Form() == sweep.Content || o.Repository == "" || removal.Repository == o.Repository)
}
