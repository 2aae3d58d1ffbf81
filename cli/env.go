package cli

import (
	"context"
	"io"
	"os"
	"os/user"
	"strconv"
	"time"

	"regsweep/guard"
	"regsweep/storage"

	"golang.org/x/term"
)

// Env is what the commands have of the world outside.
type Env struct {
	In       io.Reader
	Out, Err io.Writer
	// Ask is where a question is put when In is a terminal; nil where nobody would
	// see it.
	Ask    io.Writer
	Now    func() time.Time
	Getenv func(string) string
	// Open opens the storage that a target names; nil means storage.Open.
	Open func(context.Context, storage.Config) (storage.Store, error)

	InTerminal, OutTerminal, ErrTerminal bool
	// Width is the width of the terminal that a writer is, or 0 where it is none.
	Width func(io.Writer) int
	// ReadSecret reads a line from In, a terminal, without showing it. Once restore
	// is called the terminal is as it was, whether read has returned or not.
	ReadSecret func() (read func() (string, error), restore func(), err error)

	// CacheDir is where the user's programs keep what they can do without; "" where
	// there is no such place.
	CacheDir string

	Host, User string
	// ProbeInterval is how often the proof is repeated while a sweep runs.
	ProbeInterval time.Duration
	// LockRefresh and LockStale are those of guard.LockOptions, on which all who share a
	// storage must agree.
	LockRefresh, LockStale time.Duration
}

// Process is the Env of the running process.
func Process() Env {
	host, err := os.Hostname()
	if err != nil {
		host = "an unknown host"
	}
	name := "uid " + strconv.Itoa(os.Getuid())
	if known, err := user.Current(); err == nil {
		name = known.Username
	}
	cacheDir, err := os.UserCacheDir()
	if err != nil {
		cacheDir = "" // a user without a home
	}
	env := Env{
		CacheDir: cacheDir,
		Host:     host, User: name,
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Now: time.Now, Getenv: os.Getenv,
		InTerminal:    term.IsTerminal(int(os.Stdin.Fd())),
		OutTerminal:   term.IsTerminal(int(os.Stdout.Fd())),
		ErrTerminal:   term.IsTerminal(int(os.Stderr.Fd())),
		Width:         terminalWidth,
		ReadSecret:    readSecret,
		ProbeInterval: guard.WatchInterval,
	}
	if env.InTerminal {
		env.Ask = questionsTo(env)
	}
	return env
}

// questionsTo finds the terminal to ask on, which is not standard error where that
// goes to a file.
func questionsTo(env Env) io.Writer {
	if env.ErrTerminal {
		return env.Err
	}
	terminal, err := os.OpenFile("/dev/tty", os.O_WRONLY, 0)
	if err != nil {
		return nil
	}
	return terminal
}

func terminalWidth(w io.Writer) int {
	file, ok := w.(*os.File)
	if !ok {
		return 0
	}
	width, _, err := term.GetSize(int(file.Fd()))
	if err != nil {
		return 0
	}
	return width
}

func readSecret() (read func() (string, error), restore func(), err error) {
	stdin := int(os.Stdin.Fd())
	before, err := term.GetState(stdin)
	if err != nil {
		return nil, nil, err
	}
	read = func() (string, error) {
		line, err := term.ReadPassword(stdin)
		return string(line), err
	}
	restore = func() {
		if err := term.Restore(stdin, before); err != nil {
			return // the terminal is gone
		}
	}
	return read, restore, nil
}
