package storage

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"path"
	"slices"
	"time"
)

// isPushed reports whether only a push writes such a link. Removals do not change its time.
func (e entry) isPushed() bool {
	return e.kind == kindLayer || e.kind == kindRevision || e.kind == kindTag || e.kind == kindTagIndex
}

// LastPush finds a push after since, by the times of links, and one that is after explained
// too if there is one. It returns nil if nothing was pushed since.
//
// pushed has the repositories, with the newest time of their links if the listing had times,
// as those of S3 have. On a filesystem the directories say where to look. A push changes
// that of the uploads, of the tags, of the revisions or of the layers: one that mounts its
// layers from another repository and moves an old tag changes only the last two. A removal
// changes directories too, but not the times of links. A push of a manifest that the
// repository has under an old tag changes none of them.
func LastPush(ctx context.Context, store Store, pushed map[string]time.Time, since, explained time.Time) (*LastUpload, error) {
	names := slices.Sorted(maps.Keys(pushed))
	f, isFilesystem := store.(*filesystem)
	if !isFilesystem {
		last := LastUpload{Touched: since}
		for _, name := range names {
			if pushed[name].After(last.Touched) {
				last = LastUpload{Repository: name, Touched: pushed[name]}
			}
		}
		if last.Repository == "" {
			return nil, nil
		}
		return &last, nil
	}
	if explained.After(since) {
		if found, err := f.pushedAfter(ctx, names, explained); found != nil || err != nil {
			return found, err
		}
	}
	return f.pushedAfter(ctx, names, since)
}

// pushedAfter finds a link of a manifest that was written after a time.
func (f *filesystem) pushedAfter(ctx context.Context, repositories []string, after time.Time) (found *LastUpload, err error) {
	t, err := f.tree()
	if t == nil || err != nil {
		return nil, err
	}
	for _, repository := range repositories {
		changed := false
		for _, name := range []string{uploadsDir, manifestsDir + "/tags", manifestsDir + "/revisions/sha256", layersDir + "/sha256"} {
			dir := RepositoryPath(repository) + "/" + name
			f.head.Add(1)
			stat, err := f.lstat(ctx, t, dir)
			if err != nil && !isAbsent(err) {
				return nil, &fs.PathError{Op: "stat", Path: dir, Err: err}
			}
			changed = changed || err == nil && modTime(&stat).After(after)
		}
		if !changed {
			continue
		}
		err := f.Below(ctx, RepositoryPath(repository)+"/"+manifestsDir, func(page []Object) error {
			for _, object := range page {
				if path.Base(object.Path) == linkFile && object.ModTime.After(after) {
					found = &LastUpload{Repository: repository, Touched: object.ModTime}
					return errEnough
				}
			}
			return nil
		})
		if err != nil && !errors.Is(err, errEnough) {
			return nil, err
		}
		if found != nil {
			return found, nil
		}
	}
	return nil, nil
}
