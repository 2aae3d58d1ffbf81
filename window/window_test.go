package window

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"regsweep/storage"
	"regsweep/storage/config"
	"regsweep/storage/open"
)

// held is a window on a registry on a filesystem. Its commands write to files in dir.
type held struct {
	Window
	dir  string
	said bytes.Buffer
}

func newHeld(t *testing.T) *held {
	t.Helper()
	h := &held{dir: t.TempDir()}
	root := filepath.Join(h.dir, "registry")
	if err := os.MkdirAll(filepath.Join(root, storage.Root), 0o755); err != nil {
		t.Fatal(err)
	}
	target, err := config.ParseTarget(root, os.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	store, err := open.Store(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	h.Window = Window{
		Before: "echo before >>log", After: "echo after >>log",
		Note:  Note{Storage: store.Identity(), Target: root, Dir: h.dir},
		Notes: Notes{Dir: filepath.Join(h.dir, "state"), Store: store, Target: root},
		Env:   os.Environ(), Output: os.Stderr, Now: time.Now,
		Say: func(text string) { h.said.WriteString(text + "\n") },
	}
	return h
}

func (h *held) hold(t *testing.T, ctx context.Context, collect func(context.Context) error) (Report, error) {
	t.Helper()
	var report Report
	err := h.Hold(ctx, &report, collect, func(err error) Result { return Result{Code: 7, Report: []byte("{}"), Err: err} })
	return report, err
}

// ran checks which commands have run.
func (h *held) ran(t *testing.T, want ...string) {
	t.Helper()
	log, err := os.ReadFile(filepath.Join(h.dir, "log"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	if got := strings.Fields(string(log)); strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("these commands ran: %q, want %q\n%s", got, want, &h.said)
	}
}

// write writes a note to both places.
func (h *held) write(t *testing.T, note Note) {
	t.Helper()
	if own, stored := h.Notes.write(t.Context(), note); own != nil || stored != nil {
		t.Fatal(own, stored)
	}
}

// isOpen checks whether each of the two places has a note.
func (h *held) isOpen(t *testing.T, want bool) {
	t.Helper()
	own, stored, problem, err := h.Notes.find(t.Context())
	if err != nil || problem != nil || (own != nil) != want || (stored != nil) != want {
		t.Errorf("the window is noted: %v in the directory, %v in the storage, want %t; %v", own, stored, want, err)
	}
}

func TestTheWindowIsNotedWhileItIsOpen(t *testing.T) {
	t.Parallel()
	h := newHeld(t)
	report, err := h.hold(t, t.Context(), func(context.Context) error {
		h.isOpen(t, true)
		h.ran(t, "before")
		return nil
	})
	if err != nil || report.Closed.Before(report.Opened) || report.Before.Error+report.After.Error != "" {
		t.Errorf("%+v: %v", report, err)
	}
	h.ran(t, "before", "after")
	h.isOpen(t, false)
}

func TestAfterRunsHoweverTheCollectionEnds(t *testing.T) {
	t.Parallel()
	failed := errors.New("failed")
	for name, collect := range map[string]func(context.CancelFunc) error{
		"failure":      func(context.CancelFunc) error { return failed },
		"interruption": func(cancel context.CancelFunc) error { cancel(); return context.Canceled },
		"crash":        func(context.CancelFunc) error { panic("crash") },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHeld(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			defer func() {
				if crash := recover(); (crash != nil) != (name == "crash") {
					t.Errorf("it crashes with %v", crash)
				}
				h.ran(t, "before", "after")
				h.isOpen(t, false)
			}()
			if _, err := h.hold(t, ctx, func(context.Context) error { return collect(cancel) }); err == nil {
				t.Error("no error")
			}
		})
	}
}

func TestBeforeIsStoppedAndAfterRuns(t *testing.T) {
	t.Parallel()
	h := newHeld(t)
	h.Before = "echo before >>log; sleep 1000; echo more >>log"
	ctx, cancel := context.WithCancelCause(t.Context())
	over := errors.New("time is up")
	go func() {
		for ctx.Err() == nil {
			if log, err := os.ReadFile(filepath.Join(h.dir, "log")); err == nil && len(log) > 0 {
				cancel(over)
			}
		}
	}()
	report, err := h.hold(t, ctx, func(context.Context) error {
		t.Error("it collects although before has not ended")
		return nil
	})
	if !errors.Is(err, over) || report.Before.Error == "" || report.Closed.IsZero() {
		t.Errorf("%+v: %v", report, err)
	}
	h.ran(t, "before", "after")
}

func TestAfterIsTriedAgain(t *testing.T) {
	t.Parallel()
	for fails, want := range map[int]bool{tries - 1: true, tries: false} {
		h := newHeld(t)
		h.After = "echo after >>log; [ $(wc -l <log) -gt " + string(rune('0'+fails)) + " ]"
		h.Before = ":"
		_, err := h.hold(t, t.Context(), func(context.Context) error { return nil })
		if (err == nil) != want || !want && !errors.As(err, new(*AfterError)) {
			t.Errorf("after %d failures: %v", fails, err)
		}
		h.isOpen(t, !want)
	}
}

func TestNothingRunsIfNothingCanBeNoted(t *testing.T) {
	t.Parallel()
	h := newHeld(t)
	h.Notes.Dir = "/proc/no/such"
	if err := os.WriteFile(filepath.Join(h.dir, "registry", storage.Root, storage.OwnDir), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := h.hold(t, t.Context(), func(context.Context) error { return nil }); err == nil || !strings.Contains(err.Error(), "was not opened") {
		t.Error(err)
	}
	h.ran(t)
}

func TestARecoveryRunsTheNotedCommandFirst(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		noted, own string // the commands
		lost       bool   // the directory
		want       string
		fails      bool
	}{
		"noted":                      {noted: "echo noted >>log", own: "echo own >>log", want: "noted"},
		"no other":                   {noted: "echo noted >>log", want: "noted"},
		"noted fails":                {noted: "echo noted >>log; false", own: "echo own >>log", want: "noted noted noted own"},
		"noted fails, and no other":  {noted: "echo noted >>log; false", want: "noted noted noted", fails: true},
		"in the storage alone":       {noted: "echo noted >>log", own: "echo own >>log", lost: true, want: "own"},
		"in the storage, no command": {noted: "echo noted >>log", lost: true, fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHeld(t)
			note := h.Note
			note.After = test.noted
			h.write(t, note)
			if test.lost {
				if err := os.RemoveAll(h.Notes.Dir); err != nil {
					t.Fatal(err)
				}
			}
			h.After = test.own
			var report Report
			found, err := h.Recover(t.Context(), &report)
			if !found || errors.As(err, new(*AfterError)) != test.fails {
				t.Errorf("found %t: %v", found, err)
			}
			h.ran(t, strings.Fields(test.want)...)
			if !test.fails {
				h.isOpen(t, false)
			}
		})
	}
}

// A window that was left open, and whose note in the storage could not be removed, does not prevent
// the next one.
func TestAnOldNoteIsReplaced(t *testing.T) {
	t.Parallel()
	h := newHeld(t)
	note := h.Note
	note.User, note.After = "earlier", "true"
	h.write(t, note)
	note.User = "later"
	h.write(t, note)
	own, stored, problem, err := h.Notes.find(t.Context())
	if err != nil || problem != nil || own.User != "later" || stored.User != "later" {
		t.Error(own, stored, err)
	}
}

// No part of a --before that was stopped, or has failed, may close the registry after --after has opened it.
func TestAllOfBeforeEndsBeforeAfter(t *testing.T) {
	t.Parallel()
	const part = `sh -c 'trap "echo told >>log" TERM; echo $$ >pid.new; mv pid.new pid; `
	for _, test := range []struct{ name, before, log string }{
		{"a child that ends a while after SIGTERM", part + `sleep 1; echo closes >>log'; :`, "before told closes after"},
		{"a child that never ends", part + `while :; do sleep 1; done'; :`, "before told after"},
		{"a process group of its own", "timeout 60 " + part + `sleep 1; echo closes >>log'; :`, "before told closes after"},
		{"it fails by itself", part + `sleep 1; echo closes >>log' & until [ -e pid ]; do sleep 0.01; done; false`, "before told closes after"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := newHeld(t)
			h.Before = "echo before >>log; " + test.before
			h.After = `grep -qs 'State:.[^ZX]' "/proc/$(cat pid)/status" && echo alive >>log; echo after >>log`
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			go func() {
				for ctx.Err() == nil {
					if _, err := os.Stat(filepath.Join(h.dir, "pid")); err == nil && !strings.HasSuffix(test.before, "false") {
						cancel(errors.New("stopped"))
					}
					time.Sleep(10 * time.Millisecond)
				}
			}()
			report, err := h.hold(t, ctx, func(context.Context) error { return nil })
			if err == nil || report.Closed.IsZero() {
				t.Error(report, err)
			}
			h.ran(t, strings.Fields(test.log)...)
		})
	}
}

// The disk for the output may be full: what --after prints must not make it fail for ever.
func TestAfterIsTriedWithoutAPlaceForItsOutput(t *testing.T) {
	t.Parallel()
	h := newHeld(t)
	h.After = "echo after >>log; test ! -f /dev/stdout"
	if report, err := h.hold(t, t.Context(), func(context.Context) error { return nil }); err != nil || report.Closed.IsZero() {
		t.Error(report, err)
	}
	h.ran(t, "before", "after", "after")
}

// The note in a storage may name another storage: whoever writes to the storage can write the note.
func TestANoteOfAnotherStorageStays(t *testing.T) {
	t.Parallel()
	h := newHeld(t)
	other := h.Note
	other.Storage = storage.Identity{Driver: "s3", Root: "s3://other"}
	h.write(t, other)
	var report Report
	if found, err := h.Recover(t.Context(), &report); !found || err != nil {
		t.Error(found, err)
	}
	if _, err := os.Stat(h.Notes.name(other.Storage)); err != nil {
		t.Error(err)
	}
}

// Without the storage, a note that can't be read does not hide another one.
func TestADamagedNoteHidesNoOther(t *testing.T) {
	t.Parallel()
	h := newHeld(t)
	note := h.Note
	note.After = "echo noted >>log"
	h.write(t, note)
	if err := os.WriteFile(filepath.Join(h.Notes.Dir, "0000.json"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	h.Notes.Store = nil
	var report Report
	if found, err := h.Recover(t.Context(), &report); !found || err != nil {
		t.Error(found, err)
	}
	h.ran(t, "noted")
}

// A note that can't be used does not keep the registry read-only: the command's own --after closes the window.
func TestANoteThatCanNotBeUsed(t *testing.T) {
	t.Parallel()
	for _, content := range []string{"", "{}", "null", `{"window":2,"after":"echo other >>log"}`, `{"window":1}`} {
		t.Run(content, func(t *testing.T) {
			t.Parallel()
			h := newHeld(t)
			h.write(t, h.Note)
			if err := os.WriteFile(h.Notes.name(h.Note.Storage), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			after := h.After
			h.After = ""
			var report Report
			if found, err := h.Recover(t.Context(), &report); !found || !errors.As(err, new(*AfterError)) {
				t.Error(found, err)
			}
			h.After = after
			if found, err := h.Recover(t.Context(), &report); !found || err != nil {
				t.Error(found, err)
			}
			h.ran(t, "after")
			h.isOpen(t, false)
		})
	}
}

// Whoever writes to the storage can put anything in the place of the note. It does not keep the registry read-only.
func TestADamagedNoteInTheStorage(t *testing.T) {
	t.Parallel()
	for name, place := range map[string]func(path string) error{
		"a directory":     func(path string) error { return os.Mkdir(path, 0o755) },
		"a symbolic link": func(path string) error { return os.Symlink("/etc/passwd", path) },
		"too large":       func(path string) error { return os.WriteFile(path, make([]byte, noteLimit+1), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHeld(t)
			note := h.Note
			note.After = "echo noted >>log"
			h.write(t, note)
			path := filepath.Join(h.Note.Target, storage.Root, NotePath)
			if err := errors.Join(os.Remove(path), place(path)); err != nil {
				t.Fatal(err)
			}
			var report Report
			if found, err := h.Recover(t.Context(), &report); !found || err != nil {
				t.Error(found, err)
			}
			if _, err := h.hold(t, t.Context(), func(context.Context) error { return nil }); err != nil {
				t.Error(err)
			}
			h.ran(t, "noted", "before", "after")
		})
	}
}

func TestAWindowThatStillRunsIsNotClosed(t *testing.T) {
	t.Parallel()
	h := newHeld(t)
	note := h.Note
	note.After = "echo noted >>log"
	h.write(t, note)
	h.Runs = func(*Note) bool { return true }
	var report Report
	if _, err := h.Recover(t.Context(), &report); !errors.As(err, new(*OpenError)) {
		t.Error(err)
	}
	h.ran(t)
	h.isOpen(t, true)
}

// blocked is a writer that nobody reads: a fake of a full pipe.
type blocked chan struct{}

func (b blocked) Write(text []byte) (int, error) {
	<-b
	return len(text), nil
}

func TestOutputNeverBlocks(t *testing.T) {
	t.Parallel()
	to := make(blocked)
	o := NewOutput(to)
	for range 10 * cap(o.texts) {
		if n, err := o.Write([]byte("text")); n != 4 || err != nil {
			t.Fatal(n, err)
		}
	}
	close(to)
	o.End()
	<-o.ended
}

func TestOutputIsPassedOn(t *testing.T) {
	t.Parallel()
	var to bytes.Buffer
	o := NewOutput(&to)
	text := []byte("one ")
	_, _ = o.Write(text) // it never fails
	copy(text, "two ")
	_, _ = o.Write(text)
	o.End()
	if to.String() != "one two " {
		t.Errorf("%q", &to)
	}
}
