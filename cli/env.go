package cli

import (
	"context"
	"io"
	"os"
	"os/user"
	"strconv"
	"time"

	"regsweep/guard"
	"regsweep/internal/terminal"
	"regsweep/storage"
	"regsweep/storage/config"

	"golang.org/x/term"
)

// Env has everything that the commands use of the process and of the machine. Tests set their own.
type Env struct {
	In       io.Reader
	Out, Err io.Writer
	// Terminal asks the questions, even if standard input is a file. It is nil if nobody can be
	// asked.
	Terminal *terminal.Terminal
	// NoAnswer says why nobody can be asked although there is a terminal. It is "" if there is no
	// terminal, as in a run from cron.
	NoAnswer string
	Now      func() time.Time
	Getenv   func(string) string
	// Open opens the storage of a target. nil means open.Store.
	Open func(context.Context, config.Config) (storage.Store, error)

	InTerminal, OutTerminal, ErrTerminal bool
	// Width returns the width of a terminal in columns, or 0 if the writer is not a terminal.
	Width func(io.Writer) int
	// CacheDir is the user's directory for caches, or "" if there is none.
	CacheDir string

	Host, User string
	// ProbeInterval is the time between two proofs while a sweep runs.
	ProbeInterval time.Duration
	// LockRefresh and LockStale are the fields of guard.LockOptions. All runs on a storage must
	// have the same values.
	LockRefresh, LockStale time.Duration
}

// Process returns the Env of this process.
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
	env.Terminal, env.NoAnswer = terminal.Find(env.InTerminal, env.ErrTerminal)
	return env
}

// terminalWidth is the Width of a real process.
func terminalWidth(w io.Writer) int {
	file, ok := w.(*os.File)
	if !ok {
		return 0
	}
	width, _, err := term.GetSize(int(file.Fd()))
	if err != nil {
		return 0
	}
	if width == 0 { // the terminal does not know its width, such as a serial line
		if width, err = strconv.Atoi(os.Getenv("COLUMNS")); err != nil || width <= 0 {
			width = 80
		}
	}
	return width
}
