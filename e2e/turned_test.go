package e2e

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"regsweep/storage"
)

// turning is a storage of which a registry becomes writable while it is listed for the
// last time before the removal. It is a fake of the moment alone.
type turning struct {
	storage.Store
	scans *atomic.Int64
	turn  func()
}

func (s turning) Scan(ctx context.Context, dir string, visit func([]storage.Object) error) error {
	if dir == storage.RepositoriesDir && s.scans.Add(1) == 3 { // as in storeFault.scan
		s.turn()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Second):
		}
	}
	return s.Store.Scan(ctx, dir, visit)
}

// TestTheProofIsRepeatedFromTheSecondListingOn: a registry that becomes writable while all
// is listed once more, or the plan of a quarantine written, ends the run before anything is
// removed (4).
func TestTheProofIsRepeatedFromTheSecondListingOn(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	_, alive := s.unrelated()
	s.must(s.registry.SetReadOnly(true))
	before := s.files()
	var scans atomic.Int64
	wrapped.Store(s.tree.Root(), func(store storage.Store) storage.Store {
		return turning{store, &scans, func() { s.must(s.registry.SetReadOnly(false)) }}
	})
	defer wrapped.Delete(s.tree.Root())
	run := s.gc("-m")
	if run.code != 3 || !strings.Contains(run.report.Error, "writable") || len(run.report.Removed.counts()) > 0 {
		t.Errorf("it ends with %d, %q, and removed %v", run.code, run.report.Error, run.report.Removed.counts())
	}
	s.same("the files", keys(s.files()), keys(before))
	s.pull("afterwards", s.client, []image{alive})
}
