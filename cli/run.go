package cli

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"regsweep/descriptors"
	"regsweep/guard"
	"regsweep/internal/progress"
	"regsweep/inventory"
	"regsweep/storage"
	"regsweep/sweep"
	"regsweep/window"
)

// The exit codes.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2 // wrong usage or config
	exitRefused     = 3 // by the safety check
	exitProblems    = 4 // done, with problems that kept something
	exitLocked      = 5 // by another run
	exitReadOnly    = 6 // a window's --after has failed
	exitInterrupted = 130
)

// ErrInterrupted is the cause with which Main cancels a run on a signal.
var ErrInterrupted = errors.New("interrupted")

var (
	// errDeclined is the error if a person answers no. The exit code is that of an interruption.
	errDeclined = errors.New("not confirmed: nothing was removed")
	// errProblems ends a run that is done, but had problems that kept something.
	errProblems = errors.New("done, with problems that kept something")
)

// reportedError is an error that was printed already. It only sets the exit code.
type reportedError struct{ error }

func (e reportedError) Unwrap() error { return e.error }

// runner runs one command. Its methods are the actions of the commands.
type runner struct {
	env Env
	// jsonWritten is true after the JSON document was written. With --json there is exactly one.
	jsonWritten bool
	progress    *progress.Progress
	endOutput   func() // waits for a while until all was written to standard error
}

// Main runs the command in os.Args until it ends or a signal stops it, and returns the exit code.
func Main(env Env) (exitCode int) {
	boundGarbage()

	// Without this, SIGPIPE ends a sweep when the reader of standard output exits. It is not ignored, since the commands
	// of a window would inherit that.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)

	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) { // nohup ignores it
		signal.Notify(signals, syscall.SIGHUP)
	}
	go func() {
		<-signals
		signal.Stop(signals) // a second signal ends the process at once
		cancel(ErrInterrupted)
	}()
	return Run(ctx, os.Args, env)
}

// Run runs one command line and returns the exit code.
func Run(ctx context.Context, args []string, env Env) int {
	r := &runner{env: env, endOutput: func() {}}
	defer func() { r.endOutput() }()
	r.startProgress(false)
	app := newApp(r)
	normalized, err := normalizeArgs(app, args)
	if err == nil {
		err = app.RunContext(ctx, normalized)
	}
	if err != nil && !r.jsonWritten && asksForJSON(args) {
		err = r.writeJSON(emptyReport(args), err)
	}
	if err != nil && !errors.As(err, &reportedError{}) {
		r.say(err.Error())
	}
	return exitCode(err)
}

// asksForJSON reports whether --json was given, also if the command line is not valid.
func asksForJSON(args []string) bool {
	for _, arg := range args {
		switch arg {
		case "--":
			return false
		case "--" + jsonName, "-" + jsonName, "--" + jsonName + "=true":
			return true
		}
	}
	return false
}

// startProgress makes the progress of a command, which may be quiet.
func (r *runner) startProgress(quiet bool) {
	r.progress = progress.New(progress.Options{
		Out: r.env.Err, Draw: r.env.ErrTerminal && r.env.Getenv("TERM") != "dumb", Now: r.env.Now, Quiet: quiet,
		Width: func() int { return r.env.Width(r.env.Err) },
	})
}

// say prints one message to standard error.
func (r *runner) say(text string) { r.progress.Note(strings.TrimSpace(text)) }

// exitCode returns the exit code of an error.
func exitCode(err error) int {
	var usage *storage.UsageError
	var refused *guard.RefusedError
	var lost *guard.LostError
	var held *guard.HeldError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, new(*window.AfterError)): // whatever happened before
		return exitReadOnly
	case errors.As(err, new(*descriptors.StaleError)):
		return exitFailed
	case errors.Is(err, errProblems):
		return exitProblems
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &refused), errors.As(err, &lost), errors.Is(err, sweep.ErrNothingTagged), errors.Is(err, errTooMuch),
		errors.Is(err, errNoRoots), errors.Is(err, errNoLinkedRoots), errors.Is(err, inventory.ErrOtherProduct):
		return exitRefused
	case errors.As(err, &held), errors.Is(err, guard.ErrLockLost), errors.As(err, new(*window.OpenError)):
		return exitLocked
	case errors.Is(err, ErrInterrupted), errors.Is(err, errDeclined), errors.Is(err, context.Canceled):
		return exitInterrupted
	}
	return exitFailed
}

// withCause returns the cause of the cancellation of ctx if err is the result of it, and err
// otherwise. The cause says why the work stopped, and err only where.
func withCause(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	if cause != nil && (errors.Is(err, context.Canceled) || errors.Is(err, cause)) {
		return cause
	}
	return err
}
