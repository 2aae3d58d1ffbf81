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
		&urfave.StringFlag{Name: cacheName, Usage: "remember a bucket's manifests in `DIR` (default: regsweep in your cache directory)"},
		toggle(noCacheName, "read every manifest from the storage"),
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

// openCache opens the cache and returns a store that reads through it, or the store itself if there is
// no cache. A default directory that can't be written is reported, and the run continues without a
// cache. close removes what the storage no longer has, and reports failures of the cache. A second call of close does nothing.
func (g *gcRun) openCache(ctx context.Context) (reader storage.Store, close func(), err error) {
	o := g.options.cache
	noClose := func() {}
	switch {
	case o.off:
		return g.store, noClose, nil
	case !cache.CanCache(g.store):
		if o.given {
			g.say("warning: --cache: there is nothing to remember of a " + g.store.Identity().Driver + " storage, only of a bucket")
		}
		return g.store, noClose, nil
	case !o.given && g.env.CacheDir == "":
		return g.store, noClose, nil // the user has no home directory
	case !o.given:
		o.dir = filepath.Join(g.env.CacheDir, "regsweep")
	}
	cached, err := cache.Open(g.store, o.dir, g.env.Now())
	if err == nil {
		return cached, sync.OnceFunc(func() { g.closeCache(ctx, cached) }), nil
	}
	if unwrapped := errors.Unwrap(err); unwrapped != nil {
		err = unwrapped // without the operation and the name of a temporary file
	}
	if o.given {
		return nil, nil, storage.Usagef("--cache: %s can't be written: %w", o.dir, err)
	}
	g.cacheProblem(inventory.Problem{
		Kind: inventory.CacheUnusable, Path: o.dir, Effect: inventory.Note,
		Detail: fmt.Sprintf("the cache can't be written (%v): all manifests are read; --no-cache, or --cache with another directory", err),
	})
	return g.store, noClose, nil
}

// closeCache closes the cache, and reports its use and its failures.
func (g *gcRun) closeCache(ctx context.Context, cached *cache.Cache) {
	cached.Close(ctx)
	use := cached.Use()
	g.report.Cache = &use
	for _, f := range cached.Failures() {
		kind := inventory.CacheUnusable
		if f.IsDamage {
			kind = inventory.CacheDamaged
		}
		g.cacheProblem(inventory.Problem{Kind: kind, Path: f.Path, Effect: inventory.Note, Detail: f.Detail})
	}
}

// cacheProblem prints a problem of the cache at once, because it concerns this machine and not the
// registry. It also adds the problem to the report.
func (g *gcRun) cacheProblem(p inventory.Problem) {
	g.say("warning: " + describe(p))
	g.report.cacheProblems = append(g.report.cacheProblems, p)
}
