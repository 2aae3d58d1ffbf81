package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"regsweep/internal/spool"
	"regsweep/internal/terminal"
	"regsweep/storage"
)

// standardInput has the file names that mean standard input.
var standardInput = []string{"-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"}

// readLine reads one line, without its end. It reads no byte after the line, because that may be the
// next answer. If the input ends before the line, it returns the incomplete line and io.EOF.
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

// await returns the results of read, or the cause of ctx when ctx is done: an interrupted process does
// not wait until somebody presses enter. read then continues until the process ends.
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

// password reads a password from the terminal, which does not show it. It reads standard input if stdin
// is true and standard input is not a terminal, or if there is no terminal.
func (r *runner) password(ctx context.Context, stdin bool) (string, error) {
	if stdin && !r.env.InTerminal || r.env.Terminal == nil {
		line, err := await(ctx, func() (string, error) { return readLine(r.env.In) })
		if errors.Is(err, io.EOF) {
			err = nil // a file may end without a newline
		}
		return line, err
	}
	tty := r.env.Terminal
	restore, err := tty.Hide()
	if err != nil {
		return "", err
	}
	defer fmt.Fprintln(tty)
	defer restore()
	line, err := awaitLine(ctx, tty, func() {
		// A shell that had the terminal meanwhile has turned the echo on again.
		if _, err := tty.Hide(); err != nil {
			return // no prompt: then nobody types a password that is shown
		}
		fmt.Fprint(tty, "Password: ")
	})
	if errors.Is(err, io.EOF) { // Ctrl-D. The text before it is not a password
		return "", nil
	}
	return line, err
}

// awaitLine calls prompt and returns the line that is typed after it. It calls prompt again each time the
// process continues after it was suspended.
func awaitLine(ctx context.Context, tty *terminal.Terminal, prompt func()) (string, error) {
	stop := tty.OnResume(prompt)
	defer stop()
	prompt() // after OnResume, so that each suspension after the prompt is noticed
	return await(ctx, func() (string, error) { return readLine(tty) })
}

// readInput opens a file, or standard input if path names it, and passes it to read. Both end with ctx,
// because a pipe may have no writer.
func (r *runner) readInput(ctx context.Context, path string, read func(io.Reader) error) error {
	_, err := await(ctx, func() (string, error) {
		if slices.Contains(standardInput, path) {
			return "", read(r.env.In)
		}
		file, err := os.Open(path)
		if err != nil {
			return "", err
		}
		return "", errors.Join(read(file), file.Close())
	})
	return err
}

// openPlan opens a plan, so that it can be read more than once. It copies standard input or a pipe to a
// temporary file, and copied is true then.
func (r *runner) openPlan(ctx context.Context, path string) (file *os.File, copied bool, err error) {
	info, err := os.Stat(path)
	switch {
	case slices.Contains(standardInput, path), err == nil && info.Mode()&fs.ModeNamedPipe != 0:
		file, err = temporaryFile(func(w io.Writer) error {
			return r.readInput(ctx, path, func(from io.Reader) error {
				_, err := io.Copy(w, from)
				return err
			})
		})
		return file, true, err
	case err == nil && !info.Mode().IsRegular():
		return nil, false, storage.Usagef("%s is no regular file", path)
	case err == nil:
		file, err = os.Open(path)
	}
	if err != nil {
		return nil, false, storage.Usagef("the plan %s can't be read: %w", path, errors.Unwrap(err))
	}
	return file, false, nil
}

// temporaryFile makes a file without a name, calls write to fill it, and goes back to its start. The
// file is removed when it is closed.
func temporaryFile(write func(io.Writer) error) (*os.File, error) {
	file, err := spool.New()
	if err != nil {
		return nil, fmt.Errorf("a plan from standard input or a pipe is copied to a temporary file: %w: set TMPDIR to a directory that can be written, or name a file", err)
	}
	if err = write(file); err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("copy the plan to a temporary file: %w", err), file.Close())
	}
	return file, nil
}
