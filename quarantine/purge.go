package quarantine

import (
	"context"
	"fmt"

	"regsweep/storage"
	"regsweep/sweep"
)

// Purge removes a quarantine for good, its plan last, and returns what the storage has
// confirmed gone. Interrupted, or stopped by an error, it can be run again.
func Purge(ctx context.Context, store Store, run string) (freed sweep.Tally, err error) {
	var refs []storage.Ref
	var bytes []int64
	remove := func() error {
		var first error
		for i, outcome := range store.Remove(ctx, refs) {
			switch {
			case outcome.Err == nil:
				freed.Add(1, bytes[i])
			case first == nil:
				first = outcome.Err
			}
		}
		refs, bytes = refs[:0], bytes[:0]
		return first
	}
	err = below(ctx, store, run, func(object storage.Object) error {
		if object.Dir {
			return nil
		}
		refs = append(refs, storage.Ref{Path: object.Path, Multipart: object.Multipart})
		bytes = append(bytes, max(0, object.Size))
		if len(refs) < storage.RemoveBatch {
			return nil
		}
		return remove()
	})
	if err == nil {
		err = remove()
	}
	if err == nil {
		err = discard(ctx, store, run)
	}
	if err != nil {
		return freed, fmt.Errorf("purge the quarantine %s: %w", run, err)
	}
	return freed, nil
}

// discard removes the plan of a run in whose directory there is nothing else, and the
// directory.
func discard(ctx context.Context, store Store, run string) error {
	if err := store.Remove(ctx, []storage.Ref{{Path: planOf(run)}})[0].Err; err != nil {
		return err
	}
	if _, err := store.Prune(ctx, dirOf(run)); err != nil {
		return err
	}
	// Of other runs' directories even the empty ones are something to restore.
	if others, err := store.Names(ctx, Dir); err != nil || len(others) > 0 {
		return err
	}
	_, err := store.Prune(ctx, Dir)
	return err
}
