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
	"regsweep/storage/config"

	"golang.org/x/term"
)

// Env is what the commands have of the world outside.
type Env struct {
	In       io.Reader
	Out, Err io.Writer
	// Terminal is where questions are put and answered, whatever standard input is; nil
	// where nobody can be asked.
	Terminal *Terminal
	// NoAnswer is why nobody can be asked although a terminal is there; "" for a run that
	// nobody watches, such as one from cron.
	NoAnswer string
	Now      func() time.Time
	Getenv   func(string) string
	// Open opens the storage that a target names; nil means open.Store.
	Open func(context.Context, config.Config) (storage.Store, error)

	InTerminal, OutTerminal, ErrTerminal bool
	// Width is the width of the terminal that a writer is, or 0 where it is none.
	Width func(io.Writer) int
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
		ProbeInterval: guard.WatchInterval,
	}
	env.Terminal, env.NoAnswer = findTerminal(env)
	return env
}

// errWidth is the width in which messages are broken; 0 where they are not.
func (e Env) errWidth() int {
	if !e.ErrTerminal {
		return 0
	}
	return e.Width(e.Err)
}

// outWidth is the same for standard output.
func (e Env) outWidth() int {
	if !e.OutTerminal {
		return 0
	}
	return e.Width(e.Out)
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
	if width == 0 { // a terminal that does not say, such as a serial line
		if width, err = strconv.Atoi(os.Getenv("COLUMNS")); err != nil || width <= 0 {
			width = 80
		}
	}
	return width
}
