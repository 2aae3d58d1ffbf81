package cli

import (
	"io"
	"os"

	"golang.org/x/term"
)

// Terminal is a terminal to ask questions on.
type Terminal struct {
	io.Reader
	io.Writer
	// Flush drops everything that was typed and not read yet.
	Flush func() error
	// ReadSecret reads a line without showing it. Once restore is called the terminal
	// shows what is typed again, whether read has returned or not.
	ReadSecret func() (read func() (string, error), restore func(), err error)
}

// findTerminal finds the terminal that the process was started from. Standard input may
// be something else: a password from a file, a plan, or another program's output is no
// answer to a question. A process without a terminal of its own can still have one as
// its standard input, as after su -c.
func findTerminal(env Env) (terminal *Terminal, noAnswer string) {
	own, foreground, err := controllingTerminal()
	switch {
	case err == nil && !foreground:
		return nil, "regsweep runs in the background, where it can't ask before it removes something"
	case err == nil:
		return terminalOn(own, own), ""
	case !env.InTerminal:
		return nil, ""
	case !env.ErrTerminal:
		return nil, "the question before a removal would not be seen, since standard error is no terminal"
	}
	return terminalOn(os.Stdin, os.Stderr), ""
}

func terminalOn(in, out *os.File) *Terminal {
	return &Terminal{
		Reader: in, Writer: out,
		Flush: func() error { return flushTyped(int(in.Fd())) },
		ReadSecret: func() (read func() (string, error), restore func(), err error) {
			before, err := term.GetState(int(in.Fd()))
			if err != nil {
				return nil, nil, err
			}
			read = func() (string, error) {
				line, err := term.ReadPassword(int(in.Fd()))
				return string(line), err
			}
			restore = func() {
				if err := term.Restore(int(in.Fd()), before); err != nil {
					return // the terminal is gone
				}
			}
			return read, restore, nil
		},
	}
}
