package window

import (
	"context"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// killDelay is the time between SIGTERM and SIGKILL for a command that is stopped.
const killDelay = 10 * time.Second

// command is a command for sh.
//
// It runs in a session of its own: Ctrl-C on the terminal is meant for regsweep, which then stops the
// command or lets it end. Its output goes to a file and not through a pipe: the command may start a
// registry, which keeps its output open.
type command struct {
	text           string
	dir            string
	env            []string
	stdout, stderr *os.File
	mortal         bool // it ends when regsweep is killed (on Linux)
}

// run runs the command. When ctx is done it stops all processes of the command, and returns the cause.
func (c command) run(ctx context.Context) error {
	sh := exec.CommandContext(ctx, "sh", "-c", c.text)
	sh.Dir, sh.Env, sh.Stdout, sh.Stderr = c.dir, c.env, c.stdout, c.stderr
	sh.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if c.mortal {
		dieWithParent(sh.SysProcAttr)
		// The parent is this thread.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
	}
	var kill *time.Timer
	sh.Cancel = func() error {
		group := -sh.Process.Pid
		kill = time.AfterFunc(killDelay, func() { _ = syscall.Kill(group, syscall.SIGKILL) }) // it may have ended
		return syscall.Kill(group, syscall.SIGTERM)
	}
	err := sh.Run()
	if kill != nil {
		kill.Stop()
	}
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// firstBytes returns the beginning of a file, as far as it can be read.
func firstBytes(file *os.File) string {
	content, _ := io.ReadAll(io.NewSectionReader(file, 0, 1<<20)) // a part is better than nothing
	return string(content)
}
