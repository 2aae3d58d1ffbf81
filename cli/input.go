package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
)

// readLine reads a line and nothing beyond it, which may be the next answer. The end
// of the input ends the line.
func readLine(from io.Reader) (string, error) {
	var line []byte
	one := make([]byte, 1)
	for {
		n, err := from.Read(one)
		if n == 1 && one[0] == '\n' || errors.Is(err, io.EOF) {
			return strings.TrimRight(string(line), "\r"), nil
		}
		if err != nil {
			return "", err
		}
		line = append(line, one[:n]...)
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

// answer reads a line from standard input.
func (r *runner) answer(ctx context.Context) (string, error) {
	return await(ctx, func() (string, error) { return readLine(r.env.In) })
}

// password reads one from standard input, unseen where that is a terminal.
func (r *runner) password(ctx context.Context) (string, error) {
	if !r.env.InTerminal || r.env.Ask == nil {
		return r.answer(ctx)
	}
	read, restore, err := r.env.ReadSecret()
	if err != nil {
		return "", err
	}
	defer fmt.Fprintln(r.env.Ask)
	defer restore()
	fmt.Fprint(r.env.Ask, "Password: ")
	return await(ctx, read)
}
