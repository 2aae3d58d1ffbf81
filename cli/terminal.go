package cli

import (
	"context"
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

// findTerminal returns the controlling terminal of the process. Standard input may be a file or a pipe,
// with a password or a plan, so it is not read for answers. A process without a controlling terminal,
// for example after su -c, can have a terminal as standard input. noAnswer says why a terminal cannot be
// used.
func findTerminal(env Env) (terminal *Terminal, noAnswer string) {
	own, foreground, err := controllingTerminal()
	switch {
	case err == nil && !foreground:
		return nil, "it runs in the background, where it can't ask before it removes something"
	case err == nil:
		return terminalOn(own, own), ""
	case !env.InTerminal:
		return nil, ""
	case !env.ErrTerminal:
		return nil, "the question before a removal would not be seen, since standard error is no terminal"
	}
	return terminalOn(os.Stdin, os.Stderr), ""
}

// terminalOn returns a terminal that reads from in and writes to out.
func terminalOn(in, out *os.File) *Terminal {
	return &Terminal{
		Reader: in, Writer: out,
		Flush:    func() error { return flushTyped(int(in.Fd())) },
		Hide:     func() (restore func(), err error) { return hideTyped(int(in.Fd())) },
		OnResume: onResume,
	}
}

// awaitLine calls prompt and returns the line that is typed after it. It calls prompt again each time the
// process continues after it was suspended.
func (t *Terminal) awaitLine(ctx context.Context, prompt func()) (string, error) {
	stop := t.OnResume(prompt)
	defer stop()
	prompt() // after OnResume, so that each suspension after the prompt is noticed
	return await(ctx, func() (string, error) { return readLine(t) })
}
