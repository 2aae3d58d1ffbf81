package quarantine

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"sync/atomic"
	"time"

	"regsweep/internal/spool"
	"regsweep/storage"
	"regsweep/sweep"
)

// Taker is a storage.Remover that moves objects to a quarantine instead of removing them.
//
// It can be interrupted at any time. Each object is then either at its own path or in the quarantine,
// and the quarantine's plan lists it.
type Taker struct {
	// Run is the name of the quarantine.
	Run    string
	store  Store
	hidden *hidden // nil if objects are moved
	absent atomic.Int64
	// moved and failed count outcomes. pruned is set if an empty directory was recorded.
	moved, failed atomic.Int64
	pruned        atomic.Bool
}

// Plan is the part of sweep.Plan that a Taker needs.
type Plan interface {
	io.WriterTo
	// Refs yields all objects that will be removed.
	Refs() iter.Seq[storage.Ref]
}

// shortestLine is about the length of the shortest lines of a plan, in bytes.
const shortestLine = 200

// Check returns an error if it is known beforehand that a plan can't be moved to a quarantine. It
// changes nothing.
func Check(ctx context.Context, store Store, plan *sweep.Plan) error {
	checker, ok := store.(storage.MoveChecker)
	if !ok {
		return nil
	}
	if err := checker.CheckMoves(ctx, Dir, int64(plan.Len())*shortestLine, plan.Refs()); err != nil {
		return fmt.Errorf("--quarantine: %w", err)
	}
	return nil
}

// Begin makes a quarantine with a plan. When Begin returns, the plan survives a loss of power. The name
// of the quarantine consists of now and of bytes from random.
func Begin(ctx context.Context, store Store, plan Plan, now time.Time, random io.Reader) (_ *Taker, err error) {
	distinct := make([]byte, 4)
	if _, err := io.ReadFull(random, distinct); err != nil {
		return nil, fmt.Errorf("quarantine: make a name: %w", err)
	}
	t := &Taker{Run: now.UTC().Format(timeLayout) + "-" + hex.EncodeToString(distinct), store: store}
	file, err := spool.Write(func(w io.Writer) error { _, err := plan.WriteTo(w); return err })
	if err != nil {
		return nil, fmt.Errorf("quarantine: %w", err)
	}
	defer func() {
		if closeErr := file.Close(); err == nil && closeErr != nil {
			err = fmt.Errorf("quarantine: %w", closeErr)
		}
	}()
	if err := store.Put(ctx, planOf(t.Run), file); err != nil {
		return nil, fmt.Errorf("quarantine: %w", err)
	}
	// Only if versioning is enabled is it certain that a removal hides the object and does not destroy it.
	over, err := inState(ctx, store, storage.VersionsKept)
	if err == nil && over != nil {
		t.hidden, err = recordHidden(ctx, store, over, t.Run, plan.Refs())
	}
	if err == nil {
		// The plan must survive a loss of power before the first rename does.
		err = store.Sync(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("quarantine: %w", err), t.hidden.close())
	}
	return t, nil
}

// Hides reports whether objects are hidden behind delete markers instead of being moved.
func (t *Taker) Hides() bool { return t.hidden != nil }

// End returns once all moves survive a loss of power. If nothing was moved, End removes the quarantine
// and sets Run to "".
func (t *Taker) End(ctx context.Context) error {
	err := errors.Join(t.store.Sync(ctx), t.hidden.close())
	if err == nil {
		err = t.discardEmpty(ctx)
	}
	if err != nil {
		return fmt.Errorf("quarantine: %w", err)
	}
	return nil
}

func (t *Taker) discardEmpty(ctx context.Context) error {
	_, isS3 := t.store.(versioned)
	if t.moved.Load() > 0 || t.pruned.Load() || isS3 && t.failed.Load() > 0 { // a failed request may have been executed
		return nil
	}
	empty, err := isEmpty(ctx, t.store, t.Run)
	if err != nil || !empty {
		return err
	}
	// A failed move may have been executed. So only the plan, the record and empty directories are
	// removed.
	keeping, err := inState(ctx, t.store, storage.VersionsKept, storage.VersionsSuspended)
	if err != nil {
		return err
	}
	if err := clearPlan(ctx, t.store, t.Run, keeping); err != nil {
		return err
	}
	t.Run = ""
	return nil
}

// Absent returns the number of objects that did not exist when they were to be moved. They count as
// removed, and are not in the quarantine.
func (t *Taker) Absent() int64 { return t.absent.Load() }

// Remove implements storage.Remover. The outcome of a moved object is Hidden: it still uses space.
func (t *Taker) Remove(ctx context.Context, refs []storage.Ref) []storage.Outcome {
	outcomes := t.move(ctx, refs)
	for _, o := range outcomes {
		switch {
		case o.Err != nil:
			t.failed.Add(1)
		case o.Hidden:
			t.moved.Add(1)
		default:
			t.absent.Add(1)
		}
	}
	return outcomes
}

func (t *Taker) move(ctx context.Context, refs []storage.Ref) []storage.Outcome {
	if t.hidden != nil {
		return t.hidden.hide(ctx, t.store, refs)
	}
	moves := make([]storage.Move, len(refs))
	for i, ref := range refs {
		moves[i] = storage.Move{From: ref.Path, To: dirOf(t.Run) + "/" + ref.Path, Content: ref.Content}
	}
	outcomes := t.store.Move(ctx, moves)
	for i := range outcomes {
		switch err := outcomes[i].Err; {
		case err == nil:
			outcomes[i].Hidden = true
		case errors.Is(err, fs.ErrNotExist):
			outcomes[i].Err = nil
		}
	}
	return outcomes
}

// Prune implements storage.Remover. It first makes the empty directories in the quarantine, so that
// they can be restored too.
func (t *Taker) Prune(ctx context.Context, dir string) (pruned bool, err error) {
	if t.store.Identity().Driver != "filesystem" { // there are no directories
		return t.store.Prune(ctx, dir)
	}
	err = t.store.Below(ctx, dir, func(page []storage.Object) error {
		for _, object := range page {
			if !object.Dir {
				continue
			}
			if err := t.store.MakeDir(ctx, dirOf(t.Run)+"/"+object.Path); err != nil {
				return err
			}
			t.pruned.Store(true)
		}
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("quarantine: %w", err)
	}
	return t.store.Prune(ctx, dir)
}
