package filesystem

import (
	"context"
	"errors"
	"strings"
	"testing"

	"regsweep/internal/system/systemtest"
	"regsweep/storage"
	"regsweep/storage/layout"

	"golang.org/x/sys/unix"
)

// A move checks its lease immediately before each rename, and not only before it makes the
// directories.
func TestPromise4AMoveAsksItsLeaseRightBeforeTheRename(t *testing.T) {
	for name, test := range map[string]struct {
		lostAt string
		moves  bool
	}{
		"lost before":                          {"fstatat", false},
		"lost while a directory is made":       {"mkdirat", false},
		"lost while a directory is given away": {"fchmodat", false},
		"never lost":                           {"none", true},
	} {
		t.Run(name, func(t *testing.T) {
			tree, store, image := smallRegistry(t)
			if err := unix.Chmod(tree.Path(""), 0o770); err != nil { // so that a new directory has its permissions changed
				t.Fatal(err)
			}
			from := layout.RevisionPath("app", image)
			to := storage.QuarantineDir + "/run/data/" + from
			lost, isLost := errors.New("lost"), false
			systemtest.FailBelow(t, tree.Path(""), func(op, path string) error {
				isLost = isLost || op == test.lostAt
				return nil
			})
			ctx := storage.WithLease(t.Context(), func(context.Context) error {
				if isLost {
					return lost
				}
				return nil
			})
			err := store.Move(ctx, []storage.Move{{From: from, To: to}})[0].Err
			if isLost != !test.moves {
				t.Fatalf("the call %s was made: %t", test.lostAt, isLost)
			}
			if test.moves && err != nil || !test.moves && (!errors.Is(err, storage.ErrNotBegun) || !errors.Is(err, lost)) {
				t.Errorf("the move ends with %v", err)
			}
			if tree.Exists(to) != test.moves || tree.Exists(from) == test.moves {
				t.Errorf("moved: %t, want %t", tree.Exists(to), test.moves)
			}
		})
	}
}

// A move that was interrupted between making the second name of a file and removing the first is
// completed only under the lease.
func TestPromise4TheSecondNameOfAFileIsRemovedUnderTheLease(t *testing.T) {
	tree, store, image := smallRegistry(t)
	from, to := layout.RevisionPath("app", image), storage.QuarantineDir+"/run/data/"+layout.RevisionPath("app", image)
	tree.Mkdir(to[:strings.LastIndex(to, "/")])
	if err := unix.Link(tree.Path(from), tree.Path(to)); err != nil {
		t.Fatal(err)
	}
	lost, isLost := errors.New("lost"), false
	stop := systemtest.FailBelow(t, tree.Path(""), func(op, path string) error {
		isLost = isLost || op == "renameat2"
		return nil
	})
	ctx := storage.WithLease(t.Context(), func(context.Context) error {
		if isLost {
			return lost
		}
		return nil
	})
	if err := store.Move(ctx, []storage.Move{{From: from, To: to}})[0].Err; !errors.Is(err, storage.ErrNotBegun) || !tree.Exists(from) {
		t.Errorf("the move ends with %v; the file is there: %t", err, tree.Exists(from))
	}
	stop()
	if err := store.Move(t.Context(), []storage.Move{{From: from, To: to}})[0].Err; err != nil || tree.Exists(from) || !tree.Exists(to) {
		t.Errorf("the next move ends with %v", err)
	}
}
