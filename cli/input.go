package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
)

// readLine reads a line and nothing beyond it, which may be the next answer. Where the
// input ends before the line does, it returns io.EOF with what there is.
func readLine(from io.Reader) (string, error) {
	var line []byte
	one := make([]byte, 1)
	for {
		n, err := from.Read(one)
		if n == 1 && one[0] == '\n' {
			err = nil
		} else if n == 1 && err == nil {
			line = append(line, one[0])
			continue
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return "", err
		}
		return strings.TrimRight(string(line), "\r"), err
	}
}

// await returns what read does, or gives up when ctx is done: an interrupted process
// does not wait for somebody to press enter. What goes on reading ends with it.
func await(ctx context.Context, read func() (string, error)) (string, error) {
	type result struct {
		line string
		err  error
	}
	done := make(chan result, 1)
	go func() {
		line, err := read()
		done <- result{line, err}
	}()
	select {
	case <-ctx.Done():
		return "", context.Cause(ctx)
	case read := <-done:
		return read.line, read.err
	}
}

// password reads one from the terminal, unseen, or from standard input where that was
// asked for and is something else.
func (r *runner) password(ctx context.Context, stdin bool) (string, error) {
	if stdin && !r.env.InTerminal || r.env.Terminal == nil {
		line, err := await(ctx, func() (string, error) { return readLine(r.env.In) })
		if errors.Is(err, io.EOF) {
			err = nil // a file may end without a newline
		}
		return line, err
	}
	terminal := r.env.Terminal
	restore, err := terminal.Hide()
	if err != nil {
		return "", err
	}
	defer fmt.Fprintln(terminal)
	defer restore()
	line, err := terminal.awaitLine(ctx, func() {
		// The shell that was there meanwhile has made the terminal show what is typed.
		if _, err := terminal.Hide(); err != nil {
			return // without the question nobody types a password
		}
		fmt.Fprint(terminal, "Password: ")
	})
	if errors.Is(err, io.EOF) { // Ctrl-D: what was typed before it is no password
		return "", nil
	}
	return line, err
}
