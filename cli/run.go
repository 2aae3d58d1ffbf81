package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"regsweep/guard"
	"regsweep/internal/human"
	"regsweep/inventory"
	"regsweep/storage"
	"regsweep/sweep"
)

// The exit codes.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2 // wrong usage or config
	exitRefused     = 3 // by the safety check
	exitProblems    = 4 // done, with problems that kept something
	exitLocked      = 5 // by another run
	exitInterrupted = 130
)

// ErrInterrupted is the cause with which main cancels a run on a signal.
var ErrInterrupted = errors.New("interrupted")

var (
	// errDeclined is the answer no, which ends a run as an interruption does.
	errDeclined = errors.New("not confirmed: nothing was removed")
	// errProblems gives a run that is done the exit code for it.
	errProblems = errors.New("done, with problems that kept something")
)

// told is an error that the user has been told already: it only gives the exit code.
type told struct{ error }

func (t told) Unwrap() error { return t.error }

// runner carries the world to the commands.
type runner struct {
	env Env
	// reported is set once a JSON document was written: there is one, always.
	reported bool
	// shown is the progress of the command.
	shown *progress
}

// Run runs one command line and returns the exit code.
func Run(ctx context.Context, args []string, env Env) int {
	r := &runner{env: env, shown: newProgress(env, false)}
	app := newApp(r)
	arranged, err := arrange(app, args)
	if err == nil {
		err = app.RunContext(ctx, arranged)
	}
	if err != nil && !r.reported && asksForJSON(args) {
		err = r.writeJSON(emptyReport(args), err)
	}
	if err != nil && !errors.As(err, &told{}) {
		r.say(err.Error())
	}
	return exitCode(err)
}

// asksForJSON looks for --json itself, for when the command line does not parse.
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

// say prints a line for the user, whatever a storage or a registry put into it.
func (r *runner) say(text string) {
	fmt.Fprintln(r.env.Err, human.Fold("regsweep: "+human.Printable(strings.TrimSpace(text)), r.env.errWidth()))
}

func exitCode(err error) int {
	var usage *storage.UsageError
	var refused *guard.RefusedError
	var lost *guard.LostError
	var held *guard.HeldError
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errProblems):
		return exitProblems
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &refused), errors.As(err, &lost), errors.Is(err, sweep.ErrNothingTagged), errors.Is(err, errTooMuch), errors.Is(err, errNoRoots), errors.Is(err, errNoLinkedRoots), errors.Is(err, inventory.ErrOtherProduct):
		return exitRefused
	case errors.As(err, &held), errors.Is(err, guard.ErrLockLost):
		return exitLocked
	case errors.Is(err, ErrInterrupted), errors.Is(err, errDeclined), errors.Is(err, context.Canceled):
		return exitInterrupted
	}
	return exitFailed
}

// because replaces an error that comes of the cancelling of ctx by the reason for it,
// which says more than where the work happened to be.
func because(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	if cause != nil && (errors.Is(err, context.Canceled) || errors.Is(err, cause)) {
		return cause
	}
	return err
}
