package quarantine_test

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"regsweep/internal/imagetest"
	"regsweep/quarantine"
	"regsweep/storage"
)

// TestARunOfOddFilesIsDamaged: a run that is a symbolic link, or whose plan is no file, is damaged: it is listed, and does not keep
// other runs from being listed, restored and purged. A purge removes it and follows no link.
func TestARunOfOddFilesIsDamaged(t *testing.T) {
	for name, spoil := range map[string]func(r *registry, dir string) error{
		"the run is a symbolic link": func(r *registry, dir string) error {
			return moveAway(r, dir)
		},
		"its plan is a symbolic link": func(r *registry, dir string) error {
			return moveAway(r, dir+"/plan.jsonl")
		},
		"its plan is a pipe": func(r *registry, dir string) error {
			r.Remove(dir + "/plan.jsonl")
			return syscall.Mkfifo(r.Path(dir+"/plan.jsonl"), 0o600)
		},
		"its plan is a directory": func(r *registry, dir string) error {
			r.Remove(dir + "/plan.jsonl")
			r.Mkdir(dir + "/plan.jsonl")
			return nil
		},
		"its plan is a directory with a file": func(r *registry, dir string) error {
			r.Remove(dir + "/plan.jsonl")
			r.Write(dir+"/plan.jsonl/x", "x")
			return nil
		},
	} {
		for _, isOlder := range []bool{true, false} {
			r := newRegistry(t)
			r.live("app")
			r.untagged("app", imagetest.Layer(2, 100))
			before := r.everything()
			run := r.take()
			odd := "20200101T000000Z-00000000"
			if !isOlder {
				odd = "20990101T000000Z-00000000"
			}
			for _, file := range []string{"plan.jsonl", "blobs/sha256/00/data"} {
				r.Write(kept(odd, file), "behind a link")
			}
			if err := spoil(r, quarantine.Dir+"/"+odd); err != nil {
				t.Fatal(err)
			}
			runs, err := quarantine.Runs(t.Context(), r.store)
			if err != nil || len(runs) != 2 {
				t.Fatalf("%s: the runs are %+v, %v", name, runs, err)
			}
			for _, listed := range runs {
				if (listed.Name == odd) != (listed.Damage != "") {
					t.Errorf("%s: %s has the damage %q", name, listed.Name, listed.Damage)
				}
			}
			if found, err := quarantine.Find(t.Context(), r.store, quarantine.Latest); err != nil || found != runs[1].Name {
				t.Errorf("%s: the latest run is %s, %v", name, found, err)
			}
			restored, err := quarantine.RestoreAll(t.Context(), r.store, quarantine.RestoreOptions{})
			if err != nil || len(restored.Damaged) != 1 || restored.Damaged[0].Run != odd || restored.LeftCount > 0 {
				t.Errorf("%s: restored %+v, %v", name, restored, err)
			}
			r.same(before, name+": restored")
			if r.Exists(kept(run, "plan.jsonl")) {
				t.Errorf("%s: the other run is still there", name)
			}
			if _, err := quarantine.Purge(t.Context(), r.store, odd); err != nil {
				t.Errorf("%s: it is not purged: %v", name, err)
			}
			if runs, err := quarantine.Runs(t.Context(), r.store); err != nil || len(runs) != 0 {
				t.Errorf("%s: purged, the runs are %+v, %v", name, runs, err)
			}
			r.same(before, name+": purged")
			if is := strings.Contains(name, "symbolic"); is != isThere(awayOf(r)) || name == "the run is a symbolic link" && !isThere(awayOf(r)+"/blobs/sha256/00/data") {
				t.Errorf("%s: what the link leads to is gone", name)
			}
		}
	}
}

// TestASymbolicLinkWithinARunIsLeft: what lies behind a symbolic link within a run is not restored, and is no reason to stop.
func TestASymbolicLinkWithinARunIsLeft(t *testing.T) {
	for _, dir := range []string{"blobs", "repositories", "repositories/app/_uploads", "blobs to nothing", "repositories to nothing"} {
		dir, toNothing := strings.CutSuffix(dir, " to nothing")
		r := newRegistry(t)
		r.live("app")
		r.untagged("app", imagetest.Layer(2, 100))
		r.Upload("app", "left", time.Now().Add(-1000*time.Hour), []byte("half an upload"))
		run := r.take()
		if err := moveAway(r, kept(run, dir)); err != nil {
			t.Fatal(err)
		}
		if toNothing {
			if err := errors.Join(os.RemoveAll(awayOf(r)), os.Mkdir(awayOf(r), 0o755)); err != nil {
				t.Fatal(err)
			}
		}
		if runs, err := quarantine.Runs(t.Context(), r.store); err != nil || len(runs) != 1 {
			t.Errorf("%s: the runs are %+v, %v", dir, runs, err)
		}
		restored, err := quarantine.RestoreAll(t.Context(), r.store, quarantine.RestoreOptions{})
		if err != nil || restored.LeftCount == 0 {
			t.Errorf("%s: restored %+v, %v", dir, restored, err)
		}
		if !isThere(awayOf(r)) {
			t.Errorf("%s: what the link leads to is gone", dir)
		}
		if _, err := quarantine.Purge(t.Context(), r.store, run); err != nil || !isThere(awayOf(r)) {
			t.Errorf("%s: the purge: %v", dir, err)
		}
	}
}

// TestAQuarantineThatIsASymbolicLinkIsNotEmpty: a quarantine that is a symbolic link is an error for all that would find nothing there.
func TestAQuarantineThatIsASymbolicLinkIsNotEmpty(t *testing.T) {
	r := newRegistry(t)
	r.live("app")
	r.untagged("app", imagetest.Layer(2, 100))
	run := r.take()
	if err := moveAway(r, quarantine.Dir); err != nil {
		t.Fatal(err)
	}
	_, listed := quarantine.Runs(t.Context(), r.store)
	_, found := quarantine.Find(t.Context(), r.store, run)
	_, restored := quarantine.RestoreAll(t.Context(), r.store, quarantine.RestoreOptions{})
	for _, err := range []error{listed, found, restored} {
		if err == nil || !strings.Contains(err.Error(), storage.QuarantineDir+": it is a symbolic link, which is not followed") {
			t.Errorf("it says %v", err)
		}
	}
}

func awayOf(r *registry) string { return r.Path("") + "-away" }

// moveAway leaves a symbolic link where something was.
func moveAway(r *registry, path string) error {
	if err := os.Rename(r.Path(path), awayOf(r)); err != nil {
		return err
	}
	return os.Symlink(awayOf(r), r.Path(path))
}

func isThere(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
