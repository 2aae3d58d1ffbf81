package quarantine_test

import (
	"context"
	"io"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"regsweep/internal/imagetest"
	"regsweep/quarantine"
	"regsweep/storage"
	"regsweep/storage/layout"
	"regsweep/sweep"
)

// What is gone before it is moved counts as removed, and not as moved.
func TestWhatIsAbsentIsNotInTheQuarantine(t *testing.T) {
	r := newRegistry(t)
	r.live("app")
	layer := imagetest.Layer(2, 100)
	r.untagged("app", layer)
	plan := r.plan()
	r.Remove(layout.BlobPath(layer.Digest()))
	taker, err := quarantine.Begin(t.Context(), r.store, plan, time.Now(), strings.NewReader("random bytes"))
	if err != nil {
		t.Fatal(err)
	}
	result, err := plan.Execute(t.Context(), taker, sweep.ExecuteOptions{})
	if err != nil || taker.Absent() != 1 || r.Exists(kept(taker.Run, layout.BlobPath(layer.Digest()))) {
		t.Errorf("%d objects were absent, %v", taker.Absent(), err)
	}
	if removed := result.Removed[sweep.Blob]; removed.Bytes != int64(len(layer.Content)) || result.Hidden == 0 {
		t.Errorf("removed: %+v; %d bytes count as kept", removed, result.Hidden)
	}
}

// A plan that is listed and then not found is a fault of the storage. The run is not passed over.
func TestAPlanThatIsListedIsThere(t *testing.T) {
	r := newRegistry(t)
	r.live("app")
	r.untagged("app", imagetest.Layer(2, 100))
	run := r.take()
	r.Write(kept("20200101T000000Z-00000000", "plan.jsonl"), "an older one")
	for _, alone := range []bool{false, true} {
		if alone {
			for _, dir := range []string{"blobs", "repositories"} {
				if err := os.RemoveAll(r.Path(kept(run, dir))); err != nil {
					t.Fatal(err)
				}
			}
		}
		store := denying{r.store, kept(run, "plan.jsonl")}
		_, listed := quarantine.Runs(t.Context(), store)
		found, latest := quarantine.Find(t.Context(), store, quarantine.Latest)
		if latest == nil {
			t.Errorf("the latest run is %s", found)
		}
		for _, err := range []error{listed, latest} {
			if err == nil || !strings.Contains(err.Error(), kept(run, "plan.jsonl")+": it is listed") {
				t.Errorf("alone: %t: %v", alone, err)
			}
		}
	}
}

// denying is a storage that does not find one object. It is a fault that no real storage shows on
// demand.
type denying struct {
	quarantine.Store
	path string
}

func (d denying) Stat(ctx context.Context, path string) (storage.Object, error) {
	if path == d.path {
		return storage.Object{}, fs.ErrNotExist
	}
	return d.Store.Stat(ctx, path)
}

func (d denying) Stream(ctx context.Context, path string, w io.Writer) error {
	if path == d.path {
		return fs.ErrNotExist
	}
	return d.Store.Stream(ctx, path, w)
}
