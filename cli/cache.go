package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"regsweep/inventory"
	"regsweep/storage"
	"regsweep/storage/cache"

	urfave "github.com/urfave/cli/v2"
)

const (
	cacheName   = "cache"
	noCacheName = "no-cache"
)

// cacheFlags returns the flags of the cache of manifests.
func cacheFlags() []urfave.Flag {
	return []urfave.Flag{
		&urfave.StringFlag{Name: cacheName, Usage: "remember a bucket's manifests, and what verify has read, in `DIR` (default: regsweep in your cache directory)"},
		toggle(noCacheName, "read every manifest from the storage, and remember nothing"),
	}
}

type cacheOptions struct {
	dir   string // "" for the default
	given bool
	off   bool
}

func readCacheOptions(c *urfave.Context) cacheOptions {
	return cacheOptions{dir: c.String(cacheName), given: c.IsSet(cacheName), off: c.Bool(noCacheName)}
}

func (o cacheOptions) check() error {
	switch {
	case o.given && o.off:
		return storage.Usagef("--cache and --no-cache contradict each other")
	case o.given && o.dir == "":
		return storage.Usagef("--cache: the name of the directory is empty")
	}
	return nil
}

// cacheReport is the part of a report about the cache.
type cacheReport struct {
	Cache *cache.Use `json:"cache,omitempty"`

	problems []inventory.Problem // of the cache; they are added to the problems of the report
}

// openCache opens the cache and returns a store that reads through it, or the store itself if there is
// no cache. A default directory that can't be written is reported, and the run continues without a
// cache. close removes what the storage no longer has, and reports the use and the failures of the
// cache. A second call of close does nothing.
func (r *runner) openCache(ctx context.Context, store storage.Store, o cacheOptions, report *cacheReport) (reader storage.Store, close func(), err error) {
	noClose := func() {}
	switch {
	case o.off:
		return store, noClose, nil
	case !cache.CanCache(store):
		if o.given {
			r.say("warning: --cache: there is nothing to remember of a " + store.Identity().Driver + " storage, only of a bucket")
		}
		return store, noClose, nil
	case !o.given && r.env.CacheDir == "":
		return store, noClose, nil // the user has no home directory
	case !o.given:
		o.dir = filepath.Join(r.env.CacheDir, "regsweep")
	}
	cached, err := cache.Open(store, o.dir, r.env.Now())
	if err == nil {
		return cached, sync.OnceFunc(func() { r.closeCache(ctx, cached, report) }), nil
	}
	if unwrapped := errors.Unwrap(err); unwrapped != nil {
		err = unwrapped // without the operation and the name of a temporary file
	}
	if o.given {
		return nil, nil, storage.Usagef("--cache: %s can't be written: %w", o.dir, err)
	}
	r.cacheProblem(report, inventory.Problem{
		Kind: inventory.CacheUnusable, Path: o.dir, Effect: inventory.Note,
		Detail: fmt.Sprintf("the cache can't be written (%v): all manifests are read; --no-cache, or --cache with another directory", err),
	})
	return store, noClose, nil
}

// closeCache closes the cache, and reports its use and its failures.
func (r *runner) closeCache(ctx context.Context, cached *cache.Cache, report *cacheReport) {
	cached.Close(ctx)
	use := cached.Use()
	report.Cache = &use
	for _, f := range cached.Failures() {
		kind := inventory.CacheUnusable
		if f.IsDamage {
			kind = inventory.CacheDamaged
		}
		r.cacheProblem(report, inventory.Problem{Kind: kind, Path: f.Path, Effect: inventory.Note, Detail: f.Detail})
	}
}

// cacheProblem prints a problem of the cache at once, because it concerns this machine and not the
// registry. It also adds the problem to the report.
func (r *runner) cacheProblem(report *cacheReport, p inventory.Problem) {
	r.say("warning: " + describe(p))
	report.problems = append(report.problems, p)
}
