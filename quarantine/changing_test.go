package quarantine_test

import (
	"context"
	"strings"
	"testing"

	"regsweep/quarantine"
	"regsweep/storage"
)

// changing is a fake: a run's objects vanish while it is listed, so many times.
type changing struct {
	storage.Store
	run   string
	times int
}

func (c *changing) Below(ctx context.Context, dir string, visit func([]storage.Object) error) error {
	if strings.HasSuffix(dir, c.run) && c.times > 0 {
		c.times--
		return storage.ErrGone
	}
	return c.Store.Below(ctx, dir, visit)
}

// TestARunThatChangesIsListed: another run may restore or purge what is listed. The others are
// listed all the same.
func TestARunThatChangesIsListed(t *testing.T) {
	r := newRegistry(t)
	r.live("app")
	r.untagged("app")
	first := r.take()
	r.untagged("other")
	second := r.take()
	for times, damaged := range map[int]bool{0: false, 2: false, 1000: true} {
		runs, err := quarantine.Runs(t.Context(), &changing{r.store, first, times})
		if err != nil || len(runs) != 2 {
			t.Fatalf("%d runs, %v", len(runs), err)
		}
		for _, run := range runs {
			if isDamaged := run.Damage != ""; isDamaged != (damaged && run.Name == first) || run.Name == second && run.Objects.Count == 0 {
				t.Errorf("%d times: %+v", times, run)
			}
		}
	}
}
