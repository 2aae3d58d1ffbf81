package storage

import (
	"context"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync/atomic"
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
func (f *filesystem) pushedAfter(ctx context.Context, repositories []string, after time.Time) (*LastUpload, error) {
	return firstPush(ctx, len(repositories), f.Concurrency(), func(ctx context.Context, i int) (*LastUpload, error) {
		return f.pushedTo(ctx, repositories[i], after)
	})
}

// firstPush looks for a push in n places, and stops at the first that is found.
func firstPush(ctx context.Context, n, limit int, find func(ctx context.Context, i int) (*LastUpload, error)) (*LastUpload, error) {
	var push atomic.Pointer[LastUpload]
	err := Each(ctx, n, limit, func(ctx context.Context, i int) error {
		found, err := find(ctx, i)
		if found != nil {
			push.Store(found)
			return errEnough
		}
		return err
	})
	if found := push.Load(); found != nil {
		return found, nil
	}
	return nil, err
}

func (f *filesystem) pushedTo(ctx context.Context, repository string, after time.Time) (*LastUpload, error) {
	for _, name := range []string{uploadsDir, manifestsDir + "/tags", manifestsDir + "/revisions/sha256", layersDir + "/sha256"} {
		changed, err := f.changedAfter(ctx, RepositoryPath(repository)+"/"+name, after)
		if err != nil {
			return nil, err
		}
		if changed {
			return f.linkedAfter(ctx, RepositoryPath(repository)+"/"+manifestsDir, after)
		}
	}
	return nil, nil
}

// changedAfter reports whether a directory is there and was changed after a time.
func (f *filesystem) changedAfter(ctx context.Context, dir string, after time.Time) (bool, error) {
	t, err := f.tree()
	if t == nil || err != nil {
		return false, err
	}
	f.head.Add(1)
	stat, err := f.lstat(ctx, t, dir)
	if isAbsent(err) {
		return false, nil
	}
	if err != nil {
		return false, &fs.PathError{Op: "stat", Path: dir, Err: err}
	}
	return modTime(&stat).After(after), nil
}

// linkedAfter finds the newest link below a directory that was written after a time.
func (f *filesystem) linkedAfter(ctx context.Context, dir string, after time.Time) (newest *LastUpload, err error) {
	err = f.Below(ctx, dir, func(page []Object) error {
		for _, object := range page {
			if path.Base(object.Path) == linkFile && object.ModTime.After(after) {
				newest, after = &LastUpload{Repository: strings.Clone(parsePath(object.Path).repository), Touched: object.ModTime}, object.ModTime
			}
		}
		return nil
	})
	return newest, err
}

// Pushes finds what is pushed to a filesystem while a run removes from it, through a registry that
// was not asked or that took pushes between two probes. It finds what LastPush finds, and
// repositories that are new. Nothing may be removed from a repository meanwhile. In another storage
// it finds nothing, since it would have to list everything.
type Pushes struct {
	filesystem *filesystem // nil for another storage
	begun      time.Time
	dirs       []string              // of the repositories, and all directories above them
	since      map[string]*time.Time // by directory of a repository: begun, or later
	known      map[string]bool       // dirs
}

// NewPushes is for pushes after a time. A link that has a later time already, by a clock that is
// wrong, is no such push.
func NewPushes(ctx context.Context, store Store, inv *Inventory, begun time.Time) (*Pushes, error) {
	f, isFilesystem := store.(*filesystem)
	if !isFilesystem {
		return &Pushes{}, nil
	}
	p := &Pushes{filesystem: f, begun: begun, since: map[string]*time.Time{}, known: map[string]bool{RepositoriesDir: true}}
	for _, r := range inv.Repositories {
		dir := RepositoryPath(r.Name)
		since := begun
		p.since[dir] = &since
		for ; !p.known[dir]; dir = path.Dir(dir) {
			p.known[dir] = true
		}
	}
	p.dirs = slices.Sorted(maps.Keys(p.known))
	return p, Each(ctx, len(inv.Repositories), f.Concurrency(), func(ctx context.Context, i int) error {
		name := inv.Repositories[i].Name
		found, err := f.pushedTo(ctx, name, begun)
		if found != nil {
			*p.since[RepositoryPath(name)] = found.Touched
		}
		return err
	})
}

// Find returns a push, or nil if there was none.
func (p *Pushes) Find(ctx context.Context) (*LastUpload, error) {
	if p.filesystem == nil {
		return nil, nil
	}
	return firstPush(ctx, len(p.dirs), p.filesystem.Concurrency(), func(ctx context.Context, i int) (*LastUpload, error) {
		if since := p.since[p.dirs[i]]; since != nil {
			if found, err := p.filesystem.pushedTo(ctx, strings.TrimPrefix(p.dirs[i], RepositoriesDir+"/"), *since); found != nil || err != nil {
				return found, err
			}
		}
		return p.newRepository(ctx, p.dirs[i])
	})
}

// newRepository finds a push to a repository that is new below a directory.
func (p *Pushes) newRepository(ctx context.Context, parent string) (*LastUpload, error) {
	isChanged, err := p.filesystem.changedAfter(ctx, parent, p.begun)
	if !isChanged || err != nil {
		return nil, err
	}
	entries, _, err := p.filesystem.browse(ctx, parent)
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		dir := parent + "/" + entry.name
		if !entry.isDir() || p.known[dir] || entry.name[0] == '_' {
			continue
		}
		if found, err := p.filesystem.linkedAfter(ctx, dir, p.begun); found != nil || err != nil {
			return found, err
		}
	}
	return nil, nil
}
