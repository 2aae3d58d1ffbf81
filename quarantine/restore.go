package quarantine

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"regsweep/storage"
	"regsweep/sweep"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

// RestoreOptions select the part of a run that is restored. The zero value restores all of it.
type RestoreOptions struct {
	// Repository restores the objects of one repository, and the blobs that its links name.
	Repository string
	// Digest restores one blob. If it is a manifest, all that it reaches is restored too. The links
	// are restored in Repository or, without it, in the repositories that lost a link to Digest.
	Digest digest.Digest
	// DryRun returns the result and changes nothing. It does not compare blobs with their digests,
	// so a damaged blob counts as intact.
	DryRun bool
	// OnRestored, if set, is called for each removal that was undone. The calls are serial.
	OnRestored func(kind sweep.Kind, tally sweep.Tally)
}

// Restore restores the objects of a run. It overwrites nothing, and verifies the digest of each blob
// before it restores the blob. Objects that exist already count as There, so Restore can be run again
// after any interruption. It removes a quarantine from which everything was restored.
//
// A registry may run meanwhile, but no other regsweep. An error of the storage stops the restore.
// Restored then has the results until the error.
func Restore(ctx context.Context, store Store, run string, options RestoreOptions) (Restored, error) {
	s := newRestoration(store, options)
	opened, err := s.restore(ctx, run, true)
	if !opened {
		return Restored{}, err
	}
	return s.finished(), err
}

// RestoreAll restores all runs, the newest first. If the options select a part, it skips runs that have
// nothing of it. The error is a *NothingError if no run has any of it. A manifest that is stored can be
// linked again without a run. Runs with a damaged plan are skipped and reported.
func RestoreAll(ctx context.Context, store Store, options RestoreOptions) (Restored, error) {
	s := newRestoration(store, options)
	names, err := store.Names(ctx, Dir)
	if err != nil {
		return s.finished(), fmt.Errorf("list the quarantine: %w", err)
	}
	if len(names) > 1 {
		s.noted = map[uint64]bool{}
	}
	found := false
	var nothing *NothingError
	for _, name := range slices.Backward(names) {
		_, err := s.restore(ctx, name, false)
		var noRun *NoRunError
		var damaged *damagedError
		switch {
		case errors.As(err, &noRun), errors.As(err, &nothing):
		case errors.As(err, &damaged):
			s.result.Damaged = append(s.result.Damaged, Damaged{name, damaged.Error()})
		case err != nil:
			return s.finished(), err
		default:
			found = true
		}
	}
	r := &restorer{restoration: s}
	if err = r.openLater(ctx, ""); err == nil {
		var isStored bool
		isStored, err = r.conclude(ctx)
		if found = found || isStored; err != nil {
			err = fmt.Errorf("restore: %w", err)
		}
	}
	for _, hidden := range r.laterHidden {
		err = errors.Join(err, hidden.close())
	}
	if err == nil && !found && (nothing != nil || options.Digest != "") && len(s.result.Damaged) == 0 {
		err = &NothingError{Repository: options.Repository, Digest: options.Digest}
	}
	return s.finished(), err
}

// restoration is the state that all runs of one restore share.
type restoration struct {
	store   Store
	options RestoreOptions
	seed    maphash.Seed

	mu     sync.Mutex // guards result, noted and lost
	result Restored
	// noted has the counted removals by their hashes. The value is true for a removal that was not
	// undone. Several runs can list the same removal. It is nil if there is only one run.
	noted map[uint64]bool
	// lost are blobs that were not restored. Links to them are not restored either. All blobs of
	// a run are restored before its first link.
	lost map[digest.Digest]bool
	// lostLinks has the repositories that lost revision or layer links to wanted digests, with
	// these digests. It is empty if everything is restored.
	lostLinks map[string]map[digest.Digest]bool
	// linked has the hashes of the targets of all revision and layer links in the plans. maybeUnlinked
	// has the blobs that could be manifests by their size and have no such link in their plan.
	linked        map[uint64]struct{}
	maybeUnlinked []digest.Digest
	restored      bool // all runs are restored: an object that does not exist now will not exist later
}

func newRestoration(store Store, options RestoreOptions) *restoration {
	return &restoration{
		store: store, options: options, seed: maphash.MakeSeed(), lost: map[digest.Digest]bool{},
		lostLinks: map[string]map[digest.Digest]bool{}, linked: map[uint64]struct{}{},
		result: Restored{Back: map[sweep.Kind]sweep.Tally{}, There: map[sweep.Kind]sweep.Tally{}},
	}
}

// restore restores one run. single is set if it is the only one. opened is false if the plan could not
// be opened.
func (s *restoration) restore(ctx context.Context, run string, single bool) (opened bool, err error) {
	record, err := open(ctx, s.store, run)
	if errors.Is(err, errNoPlan) && !s.options.DryRun {
		err = finishDiscard(ctx, s.store, run)
	}
	if err != nil {
		return false, fmt.Errorf("restore the quarantine %s: %w", run, err)
	}
	r := &restorer{restoration: s, plan: record.plan, dir: dirOf(run)}
	err = r.restoreRun(ctx, run, single)
	for _, hidden := range append(r.laterHidden, r.hidden) {
		err = errors.Join(err, hidden.close())
	}
	if err = errors.Join(err, record.close()); err != nil {
		err = fmt.Errorf("restore the quarantine %s: %w", run, err)
	}
	return true, err
}

// restoreRun restores the run whose plan is open. It removes a quarantine from which everything was
// restored.
func (r *restorer) restoreRun(ctx context.Context, run string, single bool) (err error) {
	if r.hidden, err = openHidden(ctx, r.store, run); err != nil {
		return err
	}
	if err := r.openLater(ctx, run); err != nil {
		return err
	}
	err = r.run(ctx)
	if nothing := (*NothingError)(nil); single && errors.As(err, &nothing) {
		nothing.Run = run
		if nothing.Others, err = r.others(ctx, run); err != nil {
			return err
		}
		return nothing
	}
	if err != nil {
		return err
	}
	if r.wanted.everything && !r.options.DryRun && r.left.Load() == 0 {
		if err := r.discard(ctx, run); err != nil {
			return err
		}
	}
	if single {
		_, err = r.conclude(ctx)
	}
	return err
}

// openLater finds the runs that are not older than this one. If this run was interrupted, they may have
// the objects of its plan that it did not move. A run's name begins with its time.
func (r *restorer) openLater(ctx context.Context, run string) error {
	names, err := r.store.Names(ctx, Dir)
	if err != nil {
		return fmt.Errorf("list the quarantine: %w", err)
	}
	madeAt, _, _ := strings.Cut(run, "-")
	for _, name := range names {
		if at, _, _ := strings.Cut(name, "-"); name == run || at < madeAt {
			continue
		}
		if isDir, err := isDirectory(ctx, r.store, name); err != nil {
			return err
		} else if !isDir { // symbolic links are not followed
			continue
		}
		r.later = append(r.later, dirOf(name))
		hidden, err := openHidden(ctx, r.store, name)
		var damaged *damagedError
		switch {
		case errors.As(err, &damaged): // reported when that run is restored
		case err != nil:
			return err
		case hidden != nil:
			r.laterHidden = append(r.laterHidden, hidden)
		}
	}
	return nil
}

// RestoreLinks restores the links of a plan whose blobs exist. It is for a run that has removed its
// garbage without a quarantine.
func RestoreLinks(ctx context.Context, store Store, plan *sweep.File, options RestoreOptions) (Restored, error) {
	r := &restorer{restoration: newRestoration(store, options), plan: plan}
	err := r.run(ctx)
	if err == nil {
		_, err = r.conclude(ctx)
	}
	if err != nil {
		err = fmt.Errorf("restore links: %w", err)
	}
	return r.finished(), err
}

// restorer restores one run. Without a plan it concludes a restore of all runs.
type restorer struct {
	*restoration
	plan   *sweep.File
	dir    string   // of the quarantine; "" if the run has none
	later  []string // directories of later runs, see openLater
	hidden *hidden  // nil if the run has moved its objects
	wanted wanted
	left   atomic.Int64 // number of removals of this run that were not undone
	// laterHidden are the records of later runs that have hidden versions.
	laterHidden []*hidden
	relink      []Linked // revision links to write that no plan lists; only with options.Digest
}

func (r *restorer) run(ctx context.Context) error {
	if err := r.want(ctx); err != nil {
		return err
	}
	for _, kind := range sweep.Restored() {
		if err := r.kind(ctx, kind); err != nil {
			return err
		}
		if r.options.DryRun {
			continue
		}
		// The target of a link must survive a loss of power before the link does.
		if err := r.store.Sync(ctx); err != nil {
			return err
		}
	}
	return r.directories(ctx)
}

// kind undoes all removals of one kind.
func (r *restorer) kind(ctx context.Context, kind sweep.Kind) error {
	undo := map[sweep.Form]func(context.Context, sweep.Removal) (verdict, error){
		sweep.Content: r.blob, sweep.Files: r.upload, sweep.Links: r.links,
	}[kind.Form()]
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(r.store.Concurrency())
	err := r.plan.Each(func(removal sweep.Removal) error {
		if removal.Kind != kind || !r.wanted.has(removal) || r.dir == "" && len(removal.Links()) == 0 {
			return nil
		}
		g.Go(func() error {
			v, err := verdict{why: WhyUnnamed}, error(nil)
			if removal.IsNamed() {
				v, err = undo(ctx, removal)
			}
			if err == nil {
				if v.why != "" {
					r.left.Add(1)
				}
				r.note(removal, v)
			}
			return err
		})
		return ctx.Err()
	})
	if failed := g.Wait(); failed != nil {
		return failed
	}
	return err
}

// directories restores the wanted empty directories.
func (r *restorer) directories(ctx context.Context) error {
	if r.dir == "" || r.options.DryRun {
		return nil
	}
	return r.store.Below(ctx, r.dir, func(page []storage.Object) error {
		for _, object := range page {
			path := strings.TrimPrefix(object.Path, r.dir+"/")
			if !object.Dir || path == r.dir || !r.wanted.hasDirectory(path) {
				continue
			}
			if err := r.store.MakeDir(ctx, path); err != nil {
				return err
			}
		}
		return nil
	})
}
