package filesystem

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"regsweep/internal/imagetest"
	"regsweep/storage"
	"regsweep/storage/layout"

	"github.com/opencontainers/go-digest"
)

// leaseFor is a lease that allows this many removals.
func leaseFor(ctx context.Context, removals int) (context.Context, error) {
	lost := errors.New("lost")
	return storage.WithLease(ctx, func(context.Context) error {
		if removals--; removals < 0 {
			return lost
		}
		return nil
	}), lost
}

// Empty directories are also removed only under the lease: a push makes a directory and then writes
// into it.
func TestPromise4DirectoriesAreRemovedUnderTheLease(t *testing.T) {
	const layers, repository = "repositories/team/app/_layers", "repositories/team/app"
	for removals, left := range []string{layers, repository, "repositories/team", "repositories"} {
		tree, store, _ := smallRegistry(t)
		tree.Mkdir(layers)
		ctx, lost := leaseFor(t.Context(), removals)
		gone, err := store.Prune(ctx, layers)
		if removals < 3 && (!errors.Is(err, lost) || !errors.Is(err, storage.ErrNotBegun)) || removals == 3 && err != nil || gone != (removals > 0) {
			t.Errorf("%d removals: %t, %v", removals, gone, err)
		}
		for _, dir := range []string{layers, repository, "repositories/team"} {
			if want := len(dir) <= len(left); tree.Exists(dir) != want {
				t.Errorf("%d removals: there is %s: %t, want %t", removals, dir, !want, want)
			}
		}
	}
	// These are a file, its directory, and the parent of that directory.
	for removals, left := range []string{layout.BlobPath(digest.FromString("x")), "blobs/sha256/" + digest.FromString("x").Encoded()[:2] + "/" + digest.FromString("x").Encoded(), "blobs/sha256/" + digest.FromString("x").Encoded()[:2]} {
		tree, store, _ := smallRegistry(t)
		path := layout.BlobPath(tree.Blob([]byte("x")))
		ctx, lost := leaseFor(t.Context(), removals)
		if outcome := store.Remove(ctx, []storage.Ref{{Path: path}})[0]; removals == 0 && !errors.Is(outcome.Err, lost) || removals > 0 && outcome.Err != nil {
			t.Errorf("%d removals: %v", removals, outcome.Err)
		}
		if !tree.Exists(left) {
			t.Errorf("%d removals: %s is gone", removals, left)
		}
	}
}

// A removal that may not begin does not wait for its turn: a run that has to end would take long.
func TestARemovalThatMayNotBeginDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tree := imagetest.NewTree(t, t.TempDir())
		var refs []storage.Ref
		var moves []storage.Move
		for i := range 50 {
			path := layout.BlobPath(tree.Blob([]byte{byte(i)}))
			refs, moves = append(refs, storage.Ref{Path: path}), append(moves, storage.Move{From: path, To: storage.QuarantineDir + "/run/" + path})
		}
		store, err := Open(tree.Root(), storage.Limits{MaxRequests: 1})
		if err != nil {
			t.Fatal(err)
		}
		ended := errors.New("ended")
		ctx := storage.WithBegin(t.Context(), func() error { return ended })
		began := time.Now()
		for _, o := range append(store.Remove(ctx, refs), store.Move(ctx, moves)...) {
			if !errors.Is(o.Err, ended) || !errors.Is(o.Err, storage.ErrNotBegun) {
				t.Errorf("outcome: %v", o.Err)
			}
		}
		if took := time.Since(began); took > 0 {
			t.Errorf("they wait for %s", took)
		}
	})
}
