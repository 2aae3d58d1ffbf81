package window

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
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
	mortal         bool     // it ends when regsweep is killed (on Linux)
}

// run runs the command. When ctx is done it stops the command, and returns the cause once all processes of
// the command have ended. So a part of Before can't close the registry after After has opened it. A
// process with a session of its own, such as a registry, is left alone.
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
	sh.Cancel = func() error { return syscall.Kill(-sh.Process.Pid, syscall.SIGTERM) }
	err := sh.Run()
	if err != nil && ctx.Err() != nil {
		if sh.Process != nil {
			endGroup(sh.Process.Pid)
		}
		return context.Cause(ctx)
	}
	return err
}

// endGroup waits until all processes of a group have ended, and kills them after killDelay.
func endGroup(group int) {
	for began := time.Now(); time.Since(began) < killDelay; time.Sleep(lookAgain) {
		_, _ = syscall.Wait4(-group, nil, syscall.WNOHANG, nil) // in a container this process inherits them
		if errors.Is(syscall.Kill(-group, 0), syscall.ESRCH) {
			return
		}
	}
	_ = syscall.Kill(-group, syscall.SIGKILL) // they may have ended
}

// firstBytes returns the beginning of a file, as far as it can be read.
func firstBytes(file *os.File) string {
	content, _ := io.ReadAll(io.NewSectionReader(file, 0, 1<<20)) // a part is better than nothing
	return string(content)
}
