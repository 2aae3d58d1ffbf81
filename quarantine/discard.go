package quarantine

import (
	"context"
	"errors"

	"regsweep/storage"
)

// discard removes a quarantine that is empty (isEmpty).
func (r *restorer) discard(ctx context.Context, run string) error {
	empty, err := isEmpty(ctx, r.store, run)
	if err != nil || !empty {
		return err
	}
	return clearRun(ctx, r.store, run, &Freed{})
}

// finishDiscard removes a run without a plan if it is empty: its discard was interrupted. It returns a
// *NoRunError then. If the run has objects, it keeps them and returns errNoPlan.
func finishDiscard(ctx context.Context, store Store, run string) error {
	empty, err := isEmpty(ctx, store, run)
	if err != nil || !empty {
		return errors.Join(errNoPlan, err)
	}
	if err := clearRun(ctx, store, run, &Freed{}); err != nil {
		return err
	}
	return &NoRunError{run}
}

// isEmpty reports whether a run's directory has no objects except for its plan, its record and
// unfinished multipart uploads.
func isEmpty(ctx context.Context, store Store, run string) (bool, error) {
	empty := true
	err := below(ctx, store, run, func(object storage.Object) error {
		empty = empty && (object.Dir || object.Multipart != "")
		return nil
	})
	return empty, err
}
