// Package terminal finds the terminal of a process, on which it can ask questions and read passwords.
package terminal

import (
	"io"
	"os"
)

// Terminal is a terminal for questions and passwords.
type Terminal struct {
	io.Reader
	io.Writer
	// Flush drops the input that was typed and not read yet.
	Flush func() error
	// Hide turns the echo of the terminal off, until restore is called.
	Hide func() (restore func(), err error)
	// OnResume calls do each time the process continues after it was suspended, until stop
	// returns.
	OnResume func(do func()) (stop func())
}

// Find returns the controlling terminal of the process. Standard input may be a file or a pipe, with a
// password or a plan, so it is not read for answers. A process without a controlling terminal, for
// example after su -c, can have a terminal as standard input. isIn and isErr say whether standard input
// and standard error are terminals. noAnswer says why a terminal cannot be used.
func Find(isIn, isErr bool) (terminal *Terminal, noAnswer string) {
	own, foreground, err := controllingTerminal()
	switch {
	case err == nil && !foreground:
		return nil, "it runs in the background, where it can't ask before it removes something"
	case err == nil:
		return on(own, own), ""
	case !isIn:
		return nil, ""
	case !isErr:
		return nil, "the question before a removal would not be seen, since standard error is no terminal"
	}
	return on(os.Stdin, os.Stderr), ""
}

// on returns a terminal that reads from in and writes to out.
func on(in, out *os.File) *Terminal {
	return &Terminal{
		Reader: in, Writer: out,
		Flush:    func() error { return flushTyped(int(in.Fd())) },
		Hide:     func() (restore func(), err error) { return hideTyped(int(in.Fd())) },
		OnResume: onResume,
	}
}
