//go:build linux || darwin || freebsd || netbsd || openbsd

package terminal

import (
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// controllingTerminal opens the controlling terminal of the process. foreground is false if the kernel
// would stop the process when it reads there.
func controllingTerminal() (terminal *os.File, foreground bool, err error) {
	// unix.Open makes reads block. os.OpenFile would use kqueue, which macOS lacks for /dev/tty.
	fd, err := unix.Open("/dev/tty", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, false, err
	}
	group, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP)
	if err != nil {
		return nil, false, err
	}
	return os.NewFile(uintptr(fd), "/dev/tty"), group == unix.Getpgrp(), nil
}

// flushTyped drops the input that was typed. The kernel stops a background process that does so. When the
// process continues in the foreground, the call fails with EINTR and is repeated.
func flushTyped(fd int) error { return again(func() error { return flushInput(fd) }) }

// hideTyped turns the echo off. Everything else stays: a line ends with enter, and Ctrl-C, Ctrl-D and
// Ctrl-Z work.
func hideTyped(fd int) (restore func(), err error) {
	state, err := unix.IoctlGetTermios(fd, getState)
	if err != nil {
		return nil, err
	}
	before := *state
	state.Lflag = state.Lflag&^unix.ECHO | unix.ICANON | unix.ISIG
	state.Iflag |= unix.ICRNL
	if err := again(func() error { return unix.IoctlSetTermios(fd, setState, state) }); err != nil {
		return nil, err
	}
	return func() {
		if err := again(func() error { return unix.IoctlSetTermios(fd, setState, &before) }); err != nil {
			return // the terminal is gone
		}
	}, nil
}

// again calls do until it does not fail with EINTR.
func again(do func() error) error {
	for {
		if err := do(); err != unix.EINTR {
			return err
		}
	}
}

// onResume calls do at each SIGCONT. A shell sends that signal to a suspended job after it has given the
// terminal to the job.
func onResume(do func()) (stop func()) {
	resumed, ended := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(resumed, unix.SIGCONT)
	go func() {
		defer close(ended)
		for range resumed {
			do()
		}
	}()
	return func() {
		signal.Stop(resumed)
		close(resumed)
		<-ended
	}
}
