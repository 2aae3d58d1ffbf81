// Package servertest builds released programs from their source, and runs them as servers: processes
// that end at the latest when the test process does. It knows nothing of what they serve. It also
// ends tests that need something that the machine lacks.
package servertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"time"
)

// Process is a server that has been started and ends at the latest with us.
type Process struct {
	command *exec.Cmd
	output  *tail
	done    chan struct{} // closed once it has ended
}

// startWait is how long a server may take to answer. Machines that run several
// test processes on two cores have been seen to need most of it.
const startWait = time.Minute

// Start starts a server and waits until ready returns nil.
func Start(ctx context.Context, env []string, ready func(context.Context) error, path string, args ...string) (*Process, error) {
	p := &Process{command: exec.Command(path, args...), output: &tail{}, done: make(chan struct{})}
	p.command.Env = append(os.Environ(), env...)
	p.command.Stdout, p.command.Stderr = p.output, p.output
	dieWithParent(p.command)

	started := make(chan error)
	go func() {
		defer close(p.done)
		// The parent that a child dies with is a thread, not a process: this one
		// must not end before the child does.
		runtime.LockOSThread()
		err := p.command.Start()
		started <- err
		if err == nil {
			_ = p.command.Wait() // a killed process is all the same to us
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", path, err)
	}

	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	for {
		err := ready(ctx)
		if err == nil {
			return p, nil
		}
		select {
		case <-p.done:
			return nil, fmt.Errorf("start %s: it ended: %s", path, p.output)
		case <-ctx.Done():
			p.Stop()
			return nil, fmt.Errorf("start %s: not ready: %w: %s", path, err, p.output)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Stop ends the process at once, as a crash would, and waits until it is gone.
func (p *Process) Stop() {
	select {
	case <-p.done:
	default:
		_ = p.command.Process.Kill() // it fails where the process has just ended
		<-p.done
	}
}

// OnFreePort starts a server on a loopback port that is free now, and on another
// if somebody takes the port before the server does.
func OnFreePort(start func(host string) (*Process, error)) (*Process, string, error) {
	for attempt := 1; ; attempt++ {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, "", fmt.Errorf("find a port: %w", err)
		}
		host := listener.Addr().String()
		if err := listener.Close(); err != nil {
			return nil, "", fmt.Errorf("find a port: %w", err)
		}
		p, err := start(host)
		if err == nil || attempt == 3 || !strings.Contains(err.Error(), "in use") {
			return p, host, err
		}
	}
}

// Scratch is a directory that goes when it is removed, or when this process ends
// in whatever way: no test gets to clean up after a server that all tests share.
type Scratch struct {
	Path  string
	alive io.Closer
}

// NewScratch makes one in a directory, by default that for temporary files.
func NewScratch(dir, pattern string) (*Scratch, error) {
	path, err := os.MkdirTemp(dir, pattern)
	if err != nil {
		return nil, err
	}
	// The shell's read ends when the last writer of the pipe does, which is us.
	watcher := exec.Command("sh", "-c", `read _; sleep 1; rm -rf "$1"`, "sh", path)
	inOwnGroup(watcher) // an interrupt from the terminal is not for it
	alive, err := watcher.StdinPipe()
	if err == nil {
		err = watcher.Start()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("watch %s: %w", path, err), os.RemoveAll(path))
	}
	go func() { _ = watcher.Wait() }() // it ends a moment after Remove, or after us
	return &Scratch{path, alive}, nil
}

// Remove removes it with its content.
func (s *Scratch) Remove() error {
	return errors.Join(os.RemoveAll(s.Path), s.alive.Close())
}

// tail keeps the end of a server's output, for the error that says why it failed.
type tail struct {
	mu   sync.Mutex
	kept []byte
}

const tailSize = 8 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, p...)
	if over := len(t.kept) - tailSize; over > 0 {
		t.kept = append(t.kept[:0], t.kept[over:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.kept))
}

// JoinCleanup is the error of a failed start, and removes what it has made.
func JoinCleanup(err error, s *Scratch) error { return errors.Join(err, s.Remove()) }
