package quarantine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"regsweep/storage"
	"regsweep/sweep"
)

// Freed counts the objects that a purge has removed and the storage has confirmed.
type Freed struct {
	sweep.Tally
	// LinkBytes is the part of the bytes that belonged to links.
	LinkBytes int64
	// Unreadable is the number of damaged lines in the record of versions. Their versions are
	// kept in the bucket, and no quarantine records them any more.
	Unreadable int
}

func (f *Freed) add(path string, count int, bytes int64) {
	f.Add(count, bytes)
	if isLink(path) {
		f.LinkBytes += bytes
	}
}

// Purge destroys a quarantine, its plan last, and returns the confirmed removals, also with an error.
// After an interruption or an error it can be run again. A damaged record of versions is purged as
// far as it can be read. While a run has a damaged record, the purge of other runs returns an error,
// because both may record the same version.
func Purge(ctx context.Context, store Store, run string) (freed Freed, err error) {
	hidden, err := openHidden(ctx, store, run)
	isDamaged := errors.As(err, new(*damagedError))
	if isDamaged {
		hidden, err = readRecord(ctx, store, run, true)
	}
	if err == nil && hidden != nil {
		var others Recorded
		if others, err = readRecords(ctx, store, run, isDamaged); err == nil {
			err = hidden.forget(ctx, others, &freed)
		} else if errors.As(err, new(*damagedError)) {
			err = fmt.Errorf("%w: purge that quarantine first, with --run and its name", err)
		}
		err = errors.Join(err, others.Close(), hidden.close())
	}
	if err == nil {
		err = clearRun(ctx, store, run, &freed)
	}
	if err != nil {
		return freed, fmt.Errorf("purge the quarantine %s: %w", run, err)
	}
	return freed, nil
}

// clearRun removes all objects in a run's directory, and then the directory.
func clearRun(ctx context.Context, store Store, run string, freed *Freed) error {
	keeping, err := inState(ctx, store, storage.VersionsKept, storage.VersionsSuspended)
	if err != nil {
		return err
	}
	for range 2 { // a listing may miss an object, and without the plan nobody would find it
		if err := removeBelow(ctx, store, run, keeping == nil, freed); err != nil {
			return err
		}
		if keeping != nil {
			count, bytes, err := keeping.Erase(ctx, dirOf(run)+"/", hiddenOf(run), planOf(run))
			freed.Add(count, bytes)
			if err != nil {
				return err
			}
		}
	}
	if err := pruneBelow(ctx, store, run); err != nil {
		return err
	}
	// The plan is removed last: as long as it exists, the run can be purged again.
	return clearPlan(ctx, store, run, keeping)
}

// pruneBelow removes the directories in a run's directory. It returns an error for a directory that is
// not empty: the directory has a file that was not listed.
func pruneBelow(ctx context.Context, store Store, run string) error {
	if store.Identity().Driver != "filesystem" { // there are no directories
		return nil
	}
	names, err := store.Names(ctx, dirOf(run))
	if err != nil {
		return err
	}
	for _, name := range names {
		dir := dirOf(run) + "/" + name
		if dir == planOf(run) { // a symbolic link or a directory
			continue
		}
		if pruned, err := store.Prune(ctx, dir); err != nil {
			return err
		} else if !pruned {
			return fmt.Errorf("%s still holds what was not listed", dir)
		}
	}
	return nil
}

// clearPlan removes a run's record, its plan, and its empty directories. keeping is the store if its
// bucket keeps versions, otherwise nil.
func clearPlan(ctx context.Context, store Store, run string, keeping versioned) (err error) {
	for _, path := range []string{hiddenOf(run), planOf(run)} {
		if keeping != nil {
			_, _, err = keeping.Erase(ctx, path)
		} else {
			err = store.Remove(ctx, []storage.Ref{{Path: path}})[0].Err
		}
		if err != nil && !errors.Is(err, storage.ErrNotRegular) { // a directory is pruned below
			return err
		}
	}
	if pruned, pruneErr := store.Prune(ctx, dirOf(run)); pruneErr != nil || !pruned && err != nil {
		return cmp.Or(pruneErr, err)
	}
	// Other runs' directories are kept even if they are empty: they can be restored.
	if others, err := store.Names(ctx, Dir); err != nil || len(others) > 0 {
		return err
	}
	_, err = store.Prune(ctx, Dir)
	return err
}

// removeBelow aborts the unfinished multipart uploads in a run's directory. If objects is set, it also
// removes the objects there.
func removeBelow(ctx context.Context, store Store, run string, objects bool, freed *Freed) error {
	var refs []storage.Ref
	var bytes []int64
	remove := func() error {
		var first error
		for i, outcome := range store.Remove(ctx, refs) {
			switch {
			case outcome.Err == nil && !outcome.Hidden:
				freed.add(strings.TrimPrefix(refs[i].Path, dirOf(run)+"/"), 1, bytes[i]-min(bytes[i], outcome.HardLinkedBytes))
			case first == nil:
				first = outcome.Err
			}
		}
		refs, bytes = refs[:0], bytes[:0]
		return first
	}
	err := below(ctx, store, run, func(object storage.Object) error {
		if object.Dir || !objects && object.Multipart == "" {
			return nil
		}
		refs = append(refs, storage.Ref{Path: object.Path, Multipart: object.Multipart})
		bytes = append(bytes, max(0, object.Size))
		if len(refs) < storage.RemoveBatch {
			return nil
		}
		return remove()
	})
	if err != nil {
		return err
	}
	return remove()
}
