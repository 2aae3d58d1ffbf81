package quarantine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"regsweep/storage"
	"regsweep/storage/layout"
	"regsweep/sweep"
)

// unrecorded counts the blobs and uploads of a plan that are hidden in the bucket and that neither the
// quarantine nor any record of versions has. They show that the run's record is missing or too short.
// The count is 0 without the permission to list versions.
func (s *contents) unrecorded(ctx context.Context, plan *sweep.File, own *hidden) (count int, err error) {
	over, err := inState(ctx, s.store, storage.VersionsKept, storage.VersionsSuspended)
	if err != nil || over == nil {
		return 0, err
	}
	var paths, found []string
	ask := func() error {
		hidden, err := over.HiddenPaths(ctx, paths)
		if errors.Is(err, fs.ErrPermission) {
			err = nil
		}
		found, paths = append(found, hidden...), paths[:0]
		return err
	}
	err = plan.Each(func(removal sweep.Removal) error {
		path := contentOf(removal)
		if path == "" || s.has(path) {
			return nil
		}
		if _, ok, err := own.find(path); err != nil || ok {
			return err
		}
		if paths = append(paths, path); len(paths) < storage.RemoveBatch {
			return nil
		}
		return ask()
	})
	if err == nil {
		err = ask()
	}
	if err != nil || len(found) == 0 {
		return 0, err
	}
	// A run that was killed before it wrote its record has hidden nothing. The objects may have been
	// hidden by the next run.
	others, err := readRecords(ctx, s.store, s.run, true)
	for i := 0; i < len(found) && err == nil; i++ {
		var ok bool
		if ok, err = others.names(found[i]); !ok {
			count++
		}
	}
	return count, errors.Join(err, others.Close())
}

// contentOf returns the path of a removal's blob, or of its upload's data. It is "" for links.
func contentOf(removal sweep.Removal) string {
	switch {
	case !removal.IsNamed():
	case removal.Kind.Form() == sweep.Content:
		return layout.BlobPath(removal.Digest)
	case removal.Kind.Form() == sweep.Files && removal.Repository != "":
		return layout.UploadPath(removal.Repository, removal.Upload) + "/data"
	}
	return ""
}

// names reports whether a quarantine records any version of an object.
func (r Recorded) names(path string) (bool, error) {
	for _, h := range r {
		if _, found, err := h.find(path); err != nil || found {
			return found, err
		}
	}
	return false, nil
}

// unrecordedDamage returns the text of Run.Damage if the record lacks count objects.
func unrecordedDamage(count int) string {
	return fmt.Sprintf("its record of versions is missing or too short: it lacks %d that are hidden in the bucket", count)
}

// missing returns the verdict for a blob, or the data of an upload, that is neither in the registry nor
// in a quarantine: WhyUnrecorded if the bucket has a hidden version of it, otherwise WhyGone.
func (r *restorer) missing(ctx context.Context, path string) (verdict, error) {
	over, ok := r.store.(versioned)
	if !ok {
		return verdict{why: WhyGone}, nil
	}
	hidden, err := over.HiddenPaths(ctx, []string{path})
	switch {
	case errors.Is(err, fs.ErrPermission):
	case err != nil:
		return verdict{}, err
	case len(hidden) > 0:
		return verdict{why: WhyUnrecorded}, nil
	}
	return verdict{why: WhyGone}, nil
}
