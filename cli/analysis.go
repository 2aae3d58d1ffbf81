package cli

import (
	"context"
	"errors"
	"time"

	"regsweep/audit"
	"regsweep/inventory"
	"regsweep/mark"
	"regsweep/storage"
	"regsweep/storage/config"

	urfave "github.com/urfave/cli/v2"
)

// analysis is a command that only reads: audit, why or graph. It needs no lock and no proof.
type analysis struct {
	*runner
	conf  config.Config
	store storage.Store
	cache cacheOptions
	// record is where verify remembers what it has read.
	record cacheOptions
	// minAge makes read record what is younger: only why has this flag.
	minAge time.Duration

	// read sets these.
	reader storage.Store // reads manifests through the cache
	facts  audit.Facts
	close  func() // of the cache
}

// analysisReport is the first part of the reports of these commands.
type analysisReport struct {
	Report  int              `json:"report"`
	Command string           `json:"command"`
	Storage storage.Identity `json:"storage"`
	Config  string           `json:"config,omitempty"` // the config.yml that was read
	Time    time.Time        `json:"time,omitzero"`    // of the beginning

	notRead []string
}

// analysisEnd is the last part of these reports.
type analysisEnd struct {
	Problems []inventory.Problem `json:"problems"`
	Requests storage.Requests    `json:"requests"`
	cacheReport
	ending
}

// analysisFlags returns the flags that these commands have in common.
func analysisFlags() []urfave.Flag {
	flags := []urfave.Flag{jsonFlag(), toggle("quiet", "print no progress", "q")}
	return append(append(flags, limitFlags()...), cacheFlags()...)
}

// analyse runs a command that only reads. The work fills the report, whose last part is end.
func (r *runner) analyse(ctx context.Context, end *analysisEnd, work func(a *analysis) error) error {
	a := &analysis{runner: r}
	err := withCause(ctx, work(a))
	if a.close != nil {
		a.close()
	}
	end.Problems = append(end.Problems, end.cacheReport.problems...)
	if a.store == nil {
		return err
	}
	end.Requests = a.store.Requests()
	return storage.ExplainPermission(a.store, err)
}

// openTarget opens the target of the command.
func (a *analysis) openTarget(c *urfave.Context, target []string, report *analysisReport) (err error) {
	a.startProgress(c.Bool("quiet"))
	a.cache = readCacheOptions(c)
	if err := a.cache.check(); err != nil {
		return err
	}
	if a.conf, a.store, err = a.target(c, target, false); err != nil {
		a.store = nil
		return err
	}
	report.Storage, report.Config, report.notRead = a.store.Identity(), a.conf.File, a.conf.NotRead
	report.Time = a.env.Now()
	a.facts.Now = report.Time
	return nil
}

// read lists the storage, reads the manifests, and finds what is alive in a gc without flags.
func (a *analysis) read(ctx context.Context, sizes bool, end *analysisEnd) (err error) {
	if err := a.readGraph(ctx, sizes, end); err != nil {
		return err
	}
	if a.facts.Live, err = a.live(ctx, mark.Roots{}); err != nil {
		return err
	}
	end.Problems = append([]inventory.Problem{}, a.facts.Live.Problems...)
	return nil
}

// readGraph lists the storage, and reads the manifests.
func (a *analysis) readGraph(ctx context.Context, sizes bool, end *analysisEnd) (err error) {
	a.reader, a.close, err = a.openCache(ctx, a.store, a.cache, &end.cacheReport)
	if err != nil {
		return err
	}
	for try := 1; ; try++ {
		if err = a.list(ctx, sizes); try == 3 || !errors.Is(err, storage.ErrGone) || ctx.Err() != nil {
			return err
		}
		a.say("something was deleted while it was listed: listing again")
	}
}

// list is one try of readGraph. The error is storage.ErrGone if something is deleted meanwhile.
func (a *analysis) list(ctx context.Context, sizes bool) error {
	now := a.facts.Now
	_, statsTimes := a.store.(storage.DirTimes) // otherwise the listing has them
	phase := a.progress.Begin("listing", "name", 0)
	ahead := mark.NewAhead(a.reader)
	options := inventory.Options{Concurrency: a.store.Concurrency(), Sizes: sizes, TagTimes: sizes || !statsTimes, OnBlobs: phase.Add, OnLinks: phase.Add, OnRevision: ahead.Read}
	if a.minAge > 0 {
		options.Since = now.Add(-a.minAge)
	}
	inv, err := inventory.Take(ctx, a.reader, options)
	phase.EndWith("listed", err)
	if err != nil {
		return err
	}
	if inv.Blobs() == 0 && len(inv.Repositories) == 0 {
		if err := config.RequireLayout(ctx, a.store, a.conf); err != nil {
			return err
		}
	}
	phase = a.progress.Begin("marking", "manifest", 0)
	graph, err := mark.Read(ctx, inv, a.reader, mark.ReadOptions{
		Concurrency: a.store.Concurrency(), Ahead: ahead, OnManifests: phase.Expect, OnRead: phase.Add,
	})
	phase.EndWith("marked", err)
	if err != nil {
		return err
	}
	a.facts = audit.Facts{Inventory: inv, Graph: graph, Now: now, UploadAge: uploadAge}
	return nil
}

// live finds what is alive with some roots, and reads the links on which that depends. It answers a question: no
// plan is made of it.
func (a *analysis) live(ctx context.Context, roots mark.Roots) (live *mark.Live, err error) {
	roots.WhatIf = true
	if a.facts.Live == nil {
		live, err = a.facts.Graph.Live(ctx, roots)
	} else {
		live, err = a.facts.Live.With(ctx, a.facts.Graph, roots)
	}
	if err != nil {
		return nil, err
	}
	return live.CheckLinks(ctx, a.reader, a.store.Concurrency())
}
