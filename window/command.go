package window

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"regsweep/internal/human"
)

const (
	// killDelay is the time between SIGTERM and SIGKILL for a command that is stopped.
	killDelay = 10 * time.Second
	// lookAgain is the time between two looks at the processes of a command that is stopped.
	lookAgain = 20 * time.Millisecond
)

// command is a command for sh.
//
// It runs in a session of its own: Ctrl-C on the terminal is meant for regsweep, which then stops the
// command or lets it end. Its output goes to a file and not through a pipe: the command may start a
// registry, which keeps its output open.
type command struct {
	text           string
	dir            string
	env            []string
	stdout, stderr *os.File // nil for none
	mortal         bool     // all of it ends when it fails, or when regsweep is killed (on Linux)
}

// run runs the command. When ctx is done it stops the command, and returns the cause once all processes of its
// session have ended. So a part of Before can't close the registry after After has opened it. The same holds if
// a mortal command fails. A process with a session of its own, such as a registry, is left alone.
func (c command) run(ctx context.Context) error {
	sh := exec.CommandContext(ctx, "sh", "-c", c.text)
	sh.Dir, sh.Env, sh.WaitDelay = c.dir, c.env, killDelay
	if c.stdout != nil && c.stderr != nil {
		sh.Stdout, sh.Stderr = c.stdout, c.stderr
	}
	sh.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if c.mortal {
		dieWithParent(sh.SysProcAttr)
		// The parent is this thread.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
	}
	sh.Cancel = func() error { return signalSession(sh.Process.Pid, syscall.SIGTERM) }
	err := sh.Run()
	switch {
	case err == nil || sh.Process == nil:
	case ctx.Err() != nil:
		awaitSession(sh.Process.Pid) // Cancel has sent SIGTERM
	case c.mortal:
		_ = signalSession(sh.Process.Pid, syscall.SIGTERM) // there may be no process
		awaitSession(sh.Process.Pid)
	}
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// awaitSession waits until all processes of a session have ended. It kills those that run after killDelay.
func awaitSession(session int) {
	for began, signal := time.Now(), syscall.Signal(0); time.Since(began) < killDelay+killDelay/5; time.Sleep(lookAgain) {
		if time.Since(began) >= killDelay {
			signal = syscall.SIGKILL
		}
		if errors.Is(signalSession(session, signal), os.ErrProcessDone) {
			return
		}
	}
}

// signalGroup sends a signal to a process group. The error is os.ErrProcessDone if there is no process.
func signalGroup(group int, signal syscall.Signal) error {
	err := syscall.Kill(-group, signal)
	if errors.Is(err, syscall.ESRCH) {
		return os.ErrProcessDone
	}
	return err
}

// shownOutput is how much of the output of a command is read, in bytes.
const shownOutput = 1 << 20

// firstBytes returns the beginning of a file, as far as it can be read.
func firstBytes(file *os.File) string { return bytesAt(file, 0) }

// lastLines returns the end of a file, without control characters.
func lastLines(file *os.File) string {
	size := int64(0)
	if info, err := file.Stat(); err == nil {
		size = info.Size()
	}
	lines := strings.SplitAfter(bytesAt(file, max(0, size-shownOutput)), "\n")
	for i, line := range lines {
		text, isWhole := strings.CutSuffix(line, "\n")
		if lines[i] = human.Printable(text); isWhole {
			lines[i] += "\n"
		}
	}
	return strings.Join(lines, "")
}

func bytesAt(file *os.File, from int64) string {
	content, _ := io.ReadAll(io.NewSectionReader(file, from, shownOutput)) // a part is better than nothing
	return string(content)
}
