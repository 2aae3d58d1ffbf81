package inventory

import (
	"context"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"regsweep/storage"
	"regsweep/storage/layout"

	"github.com/opencontainers/go-digest"
)

// isPushed reports whether an entry is a link that only a push writes. A removal does not change the
// time of such a link.
func isPushed(e layout.Entry) bool {
	return e.Kind == layout.Layer || e.Kind == layout.Revision || e.Kind == layout.Tag || e.Kind == layout.TagIndex
}

// LastPush finds a push after since, by the times of links. If there is a push after explained, it
// returns that one. It returns nil if nothing was pushed.
//
// pushed has the repositories. On S3 it also has the newest time of their links, from the listing.
// On a filesystem the times of the directories show which links to stat. A push changes the
// directory of the uploads, of the tags, of the revisions or of the layers. A push that mounts its
// layers from another repository and moves an old tag changes only the last two. A removal changes
// directories too, but not the times of links. If a push moves an old tag to a manifest that the
// repository already has, it changes none of these directories, so LastPush does not find it.
func LastPush(ctx context.Context, store storage.Store, pushed map[string]time.Time, since, explained time.Time) (*LastUpload, error) {
	names := slices.Sorted(maps.Keys(pushed))
	dirs, hasTimes := store.(storage.DirTimes)
	if !hasTimes {
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
		if found, err := pushedAfter(ctx, store, dirs, names, explained); found != nil || err != nil {
			return found, err
		}
	}
	return pushedAfter(ctx, store, dirs, names, since)
}

// pushedAfter finds a link of a manifest that was written after a time.
func pushedAfter(ctx context.Context, store storage.Store, dirs storage.DirTimes, repositories []string, after time.Time) (*LastUpload, error) {
	return firstPush(ctx, len(repositories), store.Concurrency(), func(ctx context.Context, i int) (*LastUpload, error) {
		return pushedTo(ctx, store, dirs, repositories[i], after)
	})
}

// firstPush calls find for the numbers 0 to n-1, and stops at the first push that is found.
func firstPush(ctx context.Context, n, limit int, find func(ctx context.Context, i int) (*LastUpload, error)) (*LastUpload, error) {
	var push atomic.Pointer[LastUpload]
	err := storage.Each(ctx, n, limit, func(ctx context.Context, i int) error {
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

// pushedDirs are directories of a repository. A push changes at least one of them.
var pushedDirs = []string{layout.UploadsDir, layout.ManifestsDir + "/tags", layout.ManifestsDir + "/revisions/sha256", layout.LayersDir + "/sha256"}

func pushedTo(ctx context.Context, store storage.Browser, dirs storage.DirTimes, repository string, after time.Time) (*LastUpload, error) {
	for _, name := range pushedDirs {
		changed, err := dirs.ChangedAfter(ctx, layout.RepositoryPath(repository)+"/"+name, after)
		if err != nil {
			return nil, err
		}
		if changed {
			return linkedAfter(ctx, store, layout.RepositoryPath(repository)+"/"+layout.ManifestsDir, after)
		}
	}
	return nil, nil
}

// linkedAfter finds the newest link below a directory that was written after a time.
func linkedAfter(ctx context.Context, store storage.Browser, dir string, after time.Time) (newest *LastUpload, err error) {
	err = store.Below(ctx, dir, func(page []storage.Object) error {
		for _, object := range page {
			if path.Base(object.Path) == layout.LinkFile && object.ModTime.After(after) {
				newest, after = &LastUpload{Repository: strings.Clone(layout.Parse(object.Path).Repository), Touched: object.ModTime}, object.ModTime
			}
		}
		return nil
	})
	return newest, err
}

// Pushes finds pushes to a filesystem while a run removes from it. Such a push goes through a
// registry that was not probed, or that accepted pushes between two probes. Pushes finds tags, and
// manifests and repositories that are new or that the run has removed before. It does not find an
// old tag that is moved to a manifest which the repository already has. Nothing may be removed from
// a repository meanwhile. On a storage without directories it finds nothing, since it would have to
// list everything.
type Pushes struct {
	store   storage.Store
	times   storage.DirTimes // nil for a storage without directories
	inv     *Inventory
	removed func(repository string) map[ID]bool
	since   time.Time
	dirs    []string             // the directories of the repositories, and their parents
	isKnown map[string]bool      // by directory in dirs: whether it is a repository
	later   map[string]time.Time // by directory: the newest time of links that was already later than since
}

// ClockTick is how far the time of a newly written file may be behind the clock.
const ClockTick = 10 * time.Millisecond

// NewPushes returns a Pushes for pushes from now on. removed are the revisions that the run has
// removed: if one of them exists again, it was pushed. A link that already has a later time, because
// a clock was wrong, is no push.
func NewPushes(ctx context.Context, store storage.Store, inv *Inventory, removed func(repository string) map[ID]bool, now time.Time) (*Pushes, error) {
	times, hasTimes := store.(storage.DirTimes)
	if !hasTimes {
		return &Pushes{}, nil
	}
	p := &Pushes{store: store, times: times, inv: inv, removed: removed, since: now.Add(-ClockTick), isKnown: map[string]bool{storage.RepositoriesDir: false}, later: map[string]time.Time{}}
	for _, r := range inv.Repositories {
		dir := layout.RepositoryPath(r.Name)
		p.isKnown[dir] = true
		for dir = path.Dir(dir); !hasKey(p.isKnown, dir); dir = path.Dir(dir) {
			p.isKnown[dir] = false
		}
	}
	p.dirs = slices.Sorted(maps.Keys(p.isKnown))
	var mu sync.Mutex
	return p, storage.Each(ctx, len(inv.Repositories), store.Concurrency(), func(ctx context.Context, i int) error {
		found, err := pushedTo(ctx, store, times, inv.Repositories[i].Name, p.since)
		if found != nil {
			mu.Lock()
			p.later[layout.RepositoryPath(found.Repository)] = found.Touched
			mu.Unlock()
		}
		return err
	})
}

// Find returns a push since the last call, or nil if there was none.
func (p *Pushes) Find(ctx context.Context, now time.Time) (*LastUpload, error) {
	if p.times == nil {
		return nil, nil
	}
	found, err := firstPush(ctx, len(p.dirs), p.store.Concurrency(), func(ctx context.Context, i int) (*LastUpload, error) {
		if dir := p.dirs[i]; p.isKnown[dir] {
			if found, err := p.pushedTo(ctx, dir); found != nil || err != nil {
				return found, err
			}
		}
		return p.newRepository(ctx, p.dirs[i])
	})
	if found == nil && err == nil {
		p.since = now.Add(-ClockTick)
	}
	return found, err
}

// pushedTo finds a push to a repository. It makes fewer calls than LastPush: the run itself changes
// the directories of revisions in most repositories, so a changed directory is often no push. Each
// link is in a directory of its own. Only if the time of that directory has changed is the link statted.
func (p *Pushes) pushedTo(ctx context.Context, repository string) (*LastUpload, error) {
	since := p.since
	if later := p.later[repository]; later.After(since) {
		since = later
	}
	name := strings.TrimPrefix(repository, storage.RepositoriesDir+"/")
	r, removed := p.inv.Repository(name), p.removed(name)
	isNew := func(hex string) bool {
		id, found := p.inv.Find(digest.NewDigestFromEncoded(digest.SHA256, hex))
		return !found || !r.HasRevision(id) || removed[id]
	}
	var touched time.Time
	for _, place := range []struct {
		dir, link string
		may       func(name string) bool
	}{
		{layout.ManifestsDir + "/tags", "current", func(string) bool { return true }},
		{layout.ManifestsDir + "/revisions/sha256", "", isNew},
	} {
		changed, err := p.times.ChangedAfter(ctx, repository+"/"+place.dir, since)
		if err != nil {
			return nil, err
		}
		if changed && touched.IsZero() {
			if touched, err = p.times.LinkedAfter(ctx, repository+"/"+place.dir, place.link, since, place.may); err != nil {
				return nil, err
			}
		}
	}
	if touched.IsZero() {
		return nil, nil
	}
	return &LastUpload{Repository: name, Touched: touched}, nil
}

// newRepository finds a push to a new repository below a directory.
func (p *Pushes) newRepository(ctx context.Context, parent string) (*LastUpload, error) {
	isChanged, err := p.times.ChangedAfter(ctx, parent, p.since)
	if !isChanged || err != nil {
		return nil, err
	}
	names, err := p.times.Dirs(ctx, parent)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		dir := parent + "/" + name
		if hasKey(p.isKnown, dir) || name[0] == '_' {
			continue
		}
		if found, err := linkedAfter(ctx, p.store, dir, p.since); found != nil || err != nil {
			return found, err
		}
	}
	return nil, nil
}

func hasKey(m map[string]bool, key string) bool {
	_, found := m[key]
	return found
}
