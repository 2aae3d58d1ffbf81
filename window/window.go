// Package window holds a maintenance window. It runs a command that makes a registry read-only, then
// the collection, and then the command that makes the registry writable again, however the collection
// has ended. A note of the open window lets the next run do that if this one is killed.
package window

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"regsweep/internal/human"
	"regsweep/internal/spool"
)

const (
	// tries is how often the command that makes the registry writable is run until it succeeds.
	tries = 3
	// patience bounds all these tries together.
	patience = 15 * time.Minute
)

// Window has the commands of a window, and what they need.
type Window struct {
	Before, After string // commands for sh
	Note          Note   // without After
	Notes         Notes
	Env           []string     // of the commands
	Quiet         bool         // show the output of a command only if it fails
	Output        io.Writer    // where the output of the commands is shown; a write must not block
	Say           func(string) // must not block
	Now           func() time.Time
	// Runs, if set, reports whether the process of a noted window is known to run still.
	Runs func(*Note) bool
}

// Report says what was done in a window.
type Report struct {
	Opened time.Time `json:"opened,omitzero"`
	Closed time.Time `json:"closed,omitzero"` // zero if After has failed
	Before *Ran      `json:"before,omitempty"`
	After  *Ran      `json:"after,omitempty"`
	// Recovered is set if an earlier window was still open.
	Recovered *Recovered `json:"recovered,omitempty"`
}

// Ran says how a command has ended.
type Ran struct {
	Seconds float64 `json:"seconds"`
	Error   string  `json:"error,omitempty"`
}

// Recovered is an earlier window that was closed now.
type Recovered struct {
	Opened time.Time `json:"opened"`
	Host   string    `json:"host"`
	User   string    `json:"user"`
	After  Ran       `json:"after"`
}

// OpenError says that the process of a window still runs.
type OpenError struct{ note *Note }

func (e *OpenError) Error() string {
	return e.note.String() + ", still runs: it makes the registry writable when it ends"
}

// AfterError says that the registry may still be read-only: the command that makes it writable has failed.
type AfterError struct {
	err   error
	Ended error // how the collection has ended
}

func (e *AfterError) Error() string {
	text := "THE REGISTRY MAY STILL REFUSE PUSHES: " + e.err.Error()
	if e.Ended != nil {
		text += ". Before that: " + e.Ended.Error()
	}
	return text
}

func (e *AfterError) Unwrap() error { return e.err }

// Result is the end of a collection, for After.
type Result struct {
	Code   int    // the exit code
	Report []byte // JSON
	Err    error
}

// Hold opens the window, calls collect, and closes the window, also if ctx is done or collect panics. The
// caller holds the lock of the storage. It has called Recover, and it keeps signals from ending the process.
//
// If nothing could be noted, Hold returns an error and runs no command. If After fails, the error is an
// *AfterError. Otherwise it is the one of result, which gets the error of Before or of collect.
func (w *Window) Hold(ctx context.Context, report *Report, collect func(context.Context) error, result func(error) Result) (err error) {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	note := w.Note
	note.After, note.Opened = w.After, w.Now().UTC()
	own, stored := w.Notes.write(ctx, note)
	switch {
	case own != nil && stored != nil:
		return fmt.Errorf("the window was not opened, since it could not be noted: %w", errors.Join(own, stored))
	case own != nil:
		w.Say(fmt.Sprintf("warning: the window is noted in the storage alone (%v): if this run is killed, only a window with an --after of its own closes it", own))
	case stored != nil:
		w.Say(fmt.Sprintf("warning: the window is noted on this machine alone: %v", stored))
	}
	report.Opened = note.Opened

	defer func() {
		crash := recover()
		if crash != nil {
			err = fmt.Errorf("the collection has crashed: %v", crash)
		}
		ended := result(err)
		if err = w.close(context.WithoutCancel(ctx), &note, report, ended); err == nil {
			err = ended.Err
		}
		if crash != nil {
			panic(crash)
		}
	}()
	w.say("before", w.Before)
	report.Before = &Ran{}
	if err := w.run(ctx, w.Before, note.Dir, report.Before, w.env(nil, ""), true, true); err != nil {
		return fmt.Errorf("nothing was removed: --before: %w", err)
	}
	return collect(ctx)
}

// close runs After, and removes the note if that succeeds.
func (w *Window) close(ctx context.Context, note *Note, report *Report, result Result) error {
	file, remove := w.writeReport(result.Report)
	defer remove()
	w.say("after", w.After)
	report.After = &Ran{}
	if err := w.runAfter(ctx, w.After, note.Dir, report.After, w.env(&result.Code, file)); err != nil {
		return &AfterError{err: fmt.Errorf("--after: %w: make the registry writable by hand, or correct the command and run regsweep window --recover --after COMMAND %s", err, w.Note.Target), Ended: result.Err}
	}
	report.Closed = w.Now().UTC()
	w.forget(ctx, note)
	return nil
}

// Recover closes a window that was left open, and reports whether there was one. The caller holds the lock
// of the storage, if there is a storage. Commands to close it are the one that the window has noted on
// this machine, and the window's own After, if that is set. The second one is run if there is no other,
// or if the first one fails.
func (w *Window) Recover(ctx context.Context, report *Report) (bool, error) {
	own, stored, problem, err := w.Notes.find(ctx)
	if err != nil {
		return false, err
	}
	if problem != nil {
		w.Say(fmt.Sprintf("warning: a window was left open, and its note can't be used: %v", problem))
		if stored == nil {
			stored = unknown()
		}
	}
	if own != nil && w.Runs != nil && w.Runs(own) {
		return true, &OpenError{own}
	}
	note, commands := own, []string{}
	if own != nil {
		commands = append(commands, own.After)
	} else if note = stored; note == nil {
		return false, nil
	}
	if w.After != "" && (own == nil || w.After != own.After) {
		commands = append(commands, w.After)
	}
	if len(commands) == 0 {
		return true, &AfterError{err: fmt.Errorf("%s was not closed, and this machine has no note of it. Its --after is only in the storage, where others can write, so it was not run. "+
			"If it is right, run it by hand, or: regsweep window --recover --after %s %s", stored, human.Printable(quote(stored.After)), w.Note.Target)}
	}
	if own == nil && stored.After != w.After {
		w.Say("warning: that window's --after was another one, which this machine has no note of: " + human.Printable(stored.After))
	}
	w.Say(note.String() + " was not closed: its --after runs now")
	report.Recovered = &Recovered{Opened: note.Opened, Host: note.Host, User: note.User}
	dir := note.Dir
	if own == nil {
		dir = w.Note.Dir
	}
	for i, text := range commands {
		w.say("after", text)
		if err = w.runAfter(context.WithoutCancel(ctx), text, dir, &report.Recovered.After, w.env(nil, "")); err == nil {
			w.forget(context.WithoutCancel(ctx), own)
			return true, nil
		}
		if dir = w.Note.Dir; i+1 < len(commands) {
			w.Say(fmt.Sprintf("that failed: %v; the --after of this command runs instead", err))
		}
	}
	return true, &AfterError{err: fmt.Errorf("%s was not closed: its --after: %w: make the registry writable by hand, or run regsweep window --recover --after COMMAND %s", note, err, w.Note.Target)}
}

// Command runs a command while the window is open and returns the words that it prints.
func (w *Window) Command(ctx context.Context, text string) (words []string, err error) {
	output, err := spool.New()
	if err != nil {
		return nil, fmt.Errorf("keep its output: %w", err)
	}
	defer func() { err = errors.Join(err, output.Close()) }()
	problems, err := spool.New()
	if err != nil {
		return nil, fmt.Errorf("keep its output: %w", err)
	}
	defer func() { err = errors.Join(err, problems.Close()) }()
	err = command{text: text, dir: w.Note.Dir, env: w.env(nil, ""), stdout: output, stderr: problems, mortal: true}.run(ctx)
	if err != nil {
		_, _ = io.WriteString(w.Output, lastLines(problems)) // it never fails
		return nil, err
	}
	return strings.Fields(firstBytes(output)), nil
}

// runAfter runs a command until it succeeds, at most tries times. A signal does not stop it. Only the output of the first
// try is kept: the disk for it may be full.
func (w *Window) runAfter(ctx context.Context, text, dir string, ran *Ran, env []string) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("it did not end in %s", patience))
	defer cancel()
	for try := 1; ; try++ {
		if err = w.run(ctx, text, dir, ran, env, false, try == 1); err == nil || try == tries || ctx.Err() != nil {
			return err
		}
		w.Say(fmt.Sprintf("after failed: %v: it is tried again", err))
		time.Sleep(time.Duration(try) * time.Second)
	}
}

// run runs a command and records how it ended. It shows the output of the command after its end: a reader
// that is stuck must not keep the registry read-only.
func (w *Window) run(ctx context.Context, text, dir string, ran *Ran, env []string, mortal, keep bool) error {
	var output *os.File // nil if there is no place for it
	if keep {
		if file, err := spool.New(); err == nil {
			output = file
			defer func() { _ = file.Close() }() // it has no name
		}
	}
	began := w.Now()
	err := command{text: text, dir: dir, env: env, stdout: output, stderr: output, mortal: mortal}.run(ctx)
	ran.Seconds, ran.Error = w.Now().Sub(began).Seconds(), ""
	if err != nil {
		ran.Error = err.Error()
	}
	if output != nil && (err != nil || !w.Quiet) {
		_, _ = io.WriteString(w.Output, lastLines(output)) // it never fails
	}
	return err
}

func (w *Window) say(name, text string) {
	if !w.Quiet {
		w.Say(name + ": " + strings.Join(strings.Fields(strings.ReplaceAll(text, "\\\n", " ")), " "))
	}
}

// forget removes the note of a window that is closed.
func (w *Window) forget(ctx context.Context, note *Note) {
	if err := w.Notes.remove(ctx, note); err != nil {
		w.Say(fmt.Sprintf("warning: the registry is writable, but the note of the window could not be removed, and the next window runs its --after once more: %v", err))
	}
}

// env returns the environment of a command. The code and the report are those of the collection, if it
// has ended.
func (w *Window) env(code *int, report string) []string {
	result := ""
	if code != nil {
		result = strconv.Itoa(*code)
	}
	return append(w.Env[:len(w.Env):len(w.Env)], "REGSWEEP_TARGET="+w.Note.Target, "REGSWEEP_RESULT="+result, "REGSWEEP_REPORT="+report)
}

// writeReport writes the report to a file for After. It returns "" if there is no place for it.
func (w *Window) writeReport(report []byte) (name string, remove func()) {
	file, err := w.reportFile()
	if err != nil {
		w.Say(fmt.Sprintf("warning: --after gets no report: %v", err))
		return "", func() {}
	}
	remove = func() { _ = os.Remove(file.Name()) } // After may have taken it away
	_, err = file.Write(report)
	if err = errors.Join(err, file.Close()); err != nil {
		w.Say(fmt.Sprintf("warning: --after gets no report: %v", err))
		remove()
		return "", func() {}
	}
	return file.Name(), remove
}

// reportFile makes the file beside the note. There the next window overwrites what a killed one has left.
func (w *Window) reportFile() (*os.File, error) {
	if w.Notes.Dir != "" && requireOwn(w.Notes.Dir) == nil {
		name := strings.TrimSuffix(w.Notes.name(w.Note.Storage), ".json") + ".report"
		if file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600); err == nil {
			return file, nil
		}
	}
	return os.CreateTemp("", "regsweep-report-*.json")
}

// quote quotes a text for sh.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
