package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"regsweep/internal/imagetest"
	"regsweep/internal/terminal"
	"regsweep/storage"

	"github.com/opencontainers/go-digest"
)

// output collects what is written. Any goroutine may write.
type output struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (s *output) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buffer.Write(p)
}

// take returns what was written since the last call.
func (s *output) take() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.buffer.Reset()
	return s.buffer.String()
}

// userTerminal is an Env with a terminal on which nobody has typed yet.
type userTerminal struct {
	Env
	out, screen *output
	keys        io.WriteCloser
	flushError  error
}

func newTerminal(t *testing.T) *userTerminal {
	reader, writer := io.Pipe()
	t.Cleanup(func() {
		if err := writer.Close(); err != nil {
			t.Error(err)
		}
	})
	x := &userTerminal{out: new(output), screen: new(output), keys: writer}
	x.Env = Env{
		In: strings.NewReader("y\n"), Out: x.out, Err: x.screen, Now: time.Now, Getenv: func(string) string { return "" },
		Terminal:   &terminal.Terminal{Reader: reader, Writer: x.screen, Flush: func() error { return x.flushError }, OnResume: func(func()) func() { return func() {} }},
		InTerminal: true, OutTerminal: true, ErrTerminal: true, Width: func(io.Writer) int { return 100 },
		Host: "here", User: "me", ProbeInterval: time.Minute,
	}
	return x
}

// run starts gc on a registry with garbage, and waits for the question.
func (x *userTerminal) run(ctx context.Context, t *testing.T, flags ...string) (tree *imagetest.Tree, code chan int) {
	t.Helper()
	tree = imagetest.NewTree(t, t.TempDir())
	tree.Tag("team/app", "v1", tree.Manifest("team/app", imagetest.Image(imagetest.OCI, imagetest.Layer(1, 0))))
	tree.Blob([]byte("what a crash left"))
	code = make(chan int, 1)
	go func() {
		code <- Run(ctx, append([]string{"regsweep", "gc", "--registry-stopped", tree.Root()}, flags...), x.Env)
	}()
	asked := ""
	for deadline := time.Now().Add(10 * time.Second); !strings.HasSuffix(asked, "\nRemove 1 blob, 17 B? [y/N] "); asked += x.screen.take() {
		if time.Now().After(deadline) {
			t.Fatalf("it does not ask: %q", asked)
		}
		time.Sleep(time.Millisecond)
	}
	if !strings.Contains(asked, "Garbage") || !strings.Contains(asked, "17 B") {
		t.Errorf("it asks without a summary: %q", asked)
	}
	return tree, code
}

func (x *userTerminal) types(t *testing.T, keys string) {
	t.Helper()
	if _, err := io.WriteString(x.keys, keys); err != nil {
		t.Fatal(err)
	}
}

func TestAfterTheAnswerOnlyTheOutcomeIsPrinted(t *testing.T) {
	x := newTerminal(t)
	_, code := x.run(t.Context(), t)
	x.types(t, "y\n")
	if got := <-code; got != exitDone {
		t.Errorf("it exits with %d: %q", got, x.screen.take())
	}
	if got, want := x.out.take(), "\nRemoved 1 blob; 17 B freed, as the storage confirmed.\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestTheAnswerNoIsReportedOnce(t *testing.T) {
	x := newTerminal(t)
	_, code := x.run(t.Context(), t)
	x.types(t, "n\n")
	if got := <-code; got != exitInterrupted {
		t.Errorf("it exits with %d", got)
	}
	if got := x.out.take(); got != "" {
		t.Errorf("on standard output: %q", got)
	}
	if got, want := x.screen.take(), "regsweep: not confirmed: nothing was removed\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestAReportThatGoesToAFileIsWhole(t *testing.T) {
	x := newTerminal(t)
	x.OutTerminal = false
	_, code := x.run(t.Context(), t)
	x.types(t, "yes\n")
	if got := <-code; got != exitDone {
		t.Errorf("it exits with %d", got)
	}
	if got := x.out.take(); !strings.Contains(got, "Garbage") || !strings.Contains(got, "Removed 1 blob") {
		t.Errorf("%q", got)
	}
}

func TestASignalAnswersTheQuestion(t *testing.T) {
	x := newTerminal(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	tree, code := x.run(ctx, t)
	cancel(ErrInterrupted)
	select {
	case got := <-code:
		if got != exitInterrupted {
			t.Errorf("it exits with %d", got)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it still waits for the answer")
	}
	if got := x.screen.take(); !strings.HasSuffix(got, "\nregsweep: interrupted: nothing was removed\n") {
		t.Errorf("%q", got)
	}
	if got := x.out.take(); got != "" {
		t.Errorf("on standard output: %q", got)
	}
	if tree.Exists(".regsweep/lock") {
		t.Error("it leaves its lock")
	}
}

// If there is a terminal and nobody can be asked on it, the run does not begin.
func TestARunThatCannotAskDoesNotBegin(t *testing.T) {
	x := newTerminal(t)
	x.Terminal, x.NoAnswer = nil, "it runs in the background"
	tree := imagetest.NewTree(t, t.TempDir())
	tree.Tag("team/app", "v1", tree.Manifest("team/app", imagetest.Image(imagetest.OCI, imagetest.Layer(1, 0))))
	garbage := tree.Blob([]byte("what a crash left"))
	if got := Run(t.Context(), []string{"regsweep", "gc", "--registry-stopped", tree.Root()}, x.Env); got != exitUsage {
		t.Errorf("it exits with %d", got)
	}
	if got, want := x.screen.take(), "regsweep: it runs in the background: say --yes if nothing needs to be asked\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if !tree.Exists(imagetest.BlobPath(garbage)) {
		t.Error("it removes")
	}
	if got := Run(t.Context(), []string{"regsweep", "gc", "--registry-stopped", "--yes", tree.Root()}, x.Env); got != exitDone {
		t.Errorf("with --yes it exits with %d", got)
	}
}

// Text that was typed before the question must not answer it.
func TestAnAnswerIsNotReadIfEarlierInputCannotBeDropped(t *testing.T) {
	x := newTerminal(t)
	x.flushError = errBroken
	tree := imagetest.NewTree(t, t.TempDir())
	tree.Tag("team/app", "v1", tree.Manifest("team/app", imagetest.Image(imagetest.OCI, imagetest.Layer(1, 0))))
	garbage := tree.Blob([]byte("what a crash left"))
	if got := Run(t.Context(), []string{"regsweep", "gc", "--registry-stopped", tree.Root()}, x.Env); got != exitFailed {
		t.Errorf("it exits with %d", got)
	}
	if !tree.Exists(imagetest.BlobPath(garbage)) {
		t.Error("it removes")
	}
}

func TestAnAnswerWithoutEnterIsNoAnswer(t *testing.T) {
	x := newTerminal(t)
	tree, code := x.run(t.Context(), t)
	x.types(t, "y")
	if err := x.keys.Close(); err != nil {
		t.Fatal(err)
	}
	if got := <-code; got != exitInterrupted {
		t.Errorf("it exits with %d", got)
	}
	if !tree.Exists(imagetest.BlobPath(digest.FromString("what a crash left"))) {
		t.Error("it removes")
	}
}

// The line after an answer is left for the next question.
func TestOneLineIsRead(t *testing.T) {
	in := strings.NewReader("secret\r\ny\nlast")
	for _, want := range []struct {
		line string
		err  error
	}{{"secret", nil}, {"y", nil}, {"last", io.EOF}, {"", io.EOF}} {
		if got, err := readLine(in); err != want.err || got != want.line {
			t.Errorf("%q, %v, want %v", got, err, want)
		}
	}
	if _, err := readLine(brokenReader{}); !errors.Is(err, errBroken) {
		t.Errorf("%v", err)
	}
}

type brokenReader struct{}

var errBroken = errors.New("broken")

func (brokenReader) Read([]byte) (int, error) { return 0, errBroken }

// The cause of a cancellation says more than context.Canceled.
func TestTheCauseReplacesTheCancellation(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	other := storage.Usagef("something else")
	if err := withCause(ctx, other); err != other {
		t.Errorf("%v", err)
	}
	cancel(ErrInterrupted)
	if err := withCause(ctx, context.Canceled); err != ErrInterrupted {
		t.Errorf("%v", err)
	}
	if err := withCause(ctx, other); err != other {
		t.Errorf("%v", err)
	}
	if err := withCause(ctx, nil); err != nil {
		t.Errorf("%v", err)
	}
}

// A terminal that can't move its cursor gets lines instead of a bar.
func TestADumbTerminalHasNoBar(t *testing.T) {
	for term, want := range map[string]bool{"xterm": true, "dumb": false} {
		r := &runner{env: Env{ErrTerminal: true, Getenv: func(string) string { return term }}}
		if r.startProgress(false); r.progress.Draw != want {
			t.Errorf("TERM=%s: a bar is drawn: %t", term, !want)
		}
	}
}
