package storage

import (
	"context"
	"io/fs"
	"path"
	"time"
)

// isPushed reports whether only a push writes such a link. Removals do not change its time.
func (e entry) isPushed() bool {
	return e.kind == kindLayer || e.kind == kindRevision || e.kind == kindTag || e.kind == kindTagIndex
}

// LastPush finds the repository that was pushed to last, by the times of its links. An
// S3 listing has them: see Repository.Pushed. On a filesystem the directories say where
// to look: a push changes that of the uploads, or that of the tags. So does a removal, but not
// the times of links. It returns nil if nothing was pushed since.
func LastPush(ctx context.Context, store Store, pushed map[string]time.Time, since time.Time) (*LastUpload, error) {
	f, isFilesystem := store.(*filesystem)
	var last LastUpload
	for name, touched := range pushed {
		if isFilesystem {
			var err error
			if touched, err = f.pushed(ctx, name, since); err != nil {
				return nil, err
			}
		}
		if touched.After(since) && touched.After(last.Touched) {
			last = LastUpload{Repository: name, Touched: touched}
		}
	}
	if last.Repository == "" {
		return nil, nil
	}
	return &last, nil
}

// pushed is when a link of a repository's manifests was written last, or zero if its
// directories did not change since.
func (f *filesystem) pushed(ctx context.Context, repository string, since time.Time) (last time.Time, err error) {
	t, err := f.tree()
	if t == nil || err != nil {
		return last, err
	}
	dir, changed := RepositoryPath(repository), false
	for _, name := range []string{uploadsDir, manifestsDir + "/tags"} {
		f.head.Add(1)
		stat, err := f.lstat(ctx, t, dir+"/"+name)
		if err != nil && !isAbsent(err) {
			return last, &fs.PathError{Op: "stat", Path: dir + "/" + name, Err: err}
		}
		changed = changed || err == nil && modTime(&stat).After(since)
	}
	if !changed {
		return last, nil
	}
	err = f.Below(ctx, dir+"/"+manifestsDir, func(page []Object) error {
		for _, object := range page {
			if path.Base(object.Path) == linkFile && object.ModTime.After(last) {
				last = object.ModTime
			}
		}
		return nil
	})
	return last, err
}
