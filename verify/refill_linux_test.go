package verify

import (
	"context"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"regsweep/internal/imagetest"
	"regsweep/internal/servertest"
	"regsweep/internal/system/systemtest"
	"regsweep/storage"
	"regsweep/storage/layout"

	"golang.org/x/sys/unix"
)

// TestRefillSurvivesEachFault: each system call below the storage fails once. Each blob is then intact or as it was, or its
// wrong content is in the quarantine. The next run makes all of it whole.
func TestRefillSurvivesEachFault(t *testing.T) {
	t.Parallel()
	d := pushAndDamage(t)
	want := contents(t, directory(t, d.root))
	blobs := []ToRefill{d.blobs[1], d.blobs[3]} // one that is missing, and one that is wrong
	whole := map[string]string{}
	for _, b := range blobs {
		whole[layout.BlobPath(b.Digest)] = want[layout.BlobPath(b.Digest)]
	}
	for at, failed := int64(1), true; failed; at++ {
		root := t.TempDir()
		tree := imagetest.NewTree(t, root)
		wrong := layout.BlobPath(blobs[1].Digest)
		tree.Write(wrong, "wrong")
		store := directory(t, root)
		source, err := FromStorage(directory(t, d.root), store)
		if err != nil {
			t.Fatal(err)
		}
		o := RefillOptions{Concurrency: 1, MoveAway: moveAway(store)}
		var calls atomic.Int64
		stop := systemtest.FailBelow(t, tree.Path(""), func(op, path string) error {
			if calls.Add(1) == at {
				return unix.EIO
			}
			return nil
		})
		outcomes, err := Refill(t.Context(), store, source, blobs, o)
		stop()
		failed = calls.Load() >= at
		for i, o := range outcomes {
			if o.Err == nil && contents(t, store)[layout.BlobPath(blobs[i].Digest)] != whole[layout.BlobPath(o.Blob)] || err == nil && o.Err != nil {
				t.Errorf("call %d: %+v, %v", at, o, err)
			}
		}
		got := contents(t, directory(t, root))
		for path, content := range got {
			if content != whole[path] && (path != wrong || content != "wrong") {
				t.Errorf("call %d: %s has %d bytes", at, path, len(content))
			}
		}
		if _, has := got[wrong]; !has && !tree.Exists(quarantined(blobs[1].Digest)) {
			t.Errorf("call %d: the wrong content is lost", at)
		}
		again, err := Refill(t.Context(), store, source, blobs, o)
		if err != nil || !maps.Equal(contents(t, store), whole) {
			t.Errorf("call %d: the next run ends with %+v, %v", at, again, err)
		}
	}
}

// TestNoSpaceForATemporaryFile: the error names the directory, and the other blobs are refilled.
func TestNoSpaceForATemporaryFile(t *testing.T) {
	if os.Getuid() != 0 {
		servertest.Lacks(t, "only root can mount a small disk")
	}
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=1m"); err != nil {
		servertest.Lacks(t, "nothing can be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	d := pushAndDamage(t)
	t.Setenv("TMPDIR", disk)
	store := directory(t, d.copy)
	source, err := FromStorage(directory(t, d.root), store)
	if err != nil {
		t.Fatal(err)
	}
	outcomes, err := Refill(t.Context(), store, source, d.blobs, RefillOptions{MoveAway: moveAway(store), Concurrency: 1})
	if err != nil {
		t.Fatal(err)
	}
	for i, o := range outcomes {
		switch { // the first one is the largest
		case i == 0 && (!storage.IsFull(o.Err) || !strings.Contains(o.Err.Error(), disk) || !strings.Contains(o.Err.Error(), "TMPDIR")):
			t.Errorf("%+v", o)
		case i > 0 && o.Err != nil:
			t.Errorf("%+v", o)
		}
	}
	if entries, err := os.ReadDir(disk); err != nil || len(entries) > 0 {
		t.Errorf("there is %v, %v", entries, err)
	}
}

// faultyStore is a fake: it stores other content than it gets.
type faultyStore struct{ storage.Store }

func (f faultyStore) Put(ctx context.Context, path string, content io.ReadSeeker) error {
	return f.Store.Put(ctx, path, strings.NewReader("rotten"))
}

// TestWhatIsReadBackWrongEndsTheRun: wrong content is not left where a push would not replace it.
func TestWhatIsReadBackWrongEndsTheRun(t *testing.T) {
	t.Parallel()
	d := pushAndDamage(t)
	store := directory(t, d.copy)
	source, err := FromStorage(directory(t, d.root), store)
	if err != nil {
		t.Fatal(err)
	}
	before := contents(t, store)
	outcomes, err := Refill(t.Context(), faultyStore{store}, source, d.blobs[:2], RefillOptions{Concurrency: 1})
	if err == nil || outcomes[0].Err == nil || outcomes[1].Err != ErrNotTried {
		t.Errorf("%v, %+v", err, outcomes)
	}
	if got := contents(t, store); !maps.Equal(got, before) {
		t.Errorf("the blobs have changed: %v", slices.Sorted(maps.Keys(got)))
	}
}
