package cli

import (
	"context"
	"io"
	"os"
)

// Terminal is a terminal to ask questions on.
type Terminal struct {
	io.Reader
	io.Writer
	// Flush drops everything that was typed and not read yet.
	Flush func() error
	// Hide makes the terminal show no more what is typed, until restore is called.
	Hide func() (restore func(), err error)
	// OnResume calls do each time the process goes on after it was suspended, until stop
	// returns.
	OnResume func(do func()) (stop func())
}

// findTerminal finds the terminal that the process was started from. Standard input may
// be something else: a password from a file, a plan, or another program's output is no
// answer to a question. A process without a terminal of its own can still have one as
// its standard input, as after su -c.
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

func terminalOn(in, out *os.File) *Terminal {
	return &Terminal{
		Reader: in, Writer: out,
		Flush:    func() error { return flushTyped(int(in.Fd())) },
		Hide:     func() (restore func(), err error) { return hideTyped(int(in.Fd())) },
		OnResume: onResume,
	}
}

// awaitLine returns the line that is typed after a prompt. Whoever suspends the process and
// goes on sees the prompt again.
func (t *Terminal) awaitLine(ctx context.Context, prompt func()) (string, error) {
	stop := t.OnResume(prompt)
	defer stop()
	prompt() // once it is seen, a suspension is noticed
	return await(ctx, func() (string, error) { return readLine(t) })
}
