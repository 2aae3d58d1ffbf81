//go:build linux || darwin || freebsd || netbsd || openbsd

package cli

import (
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// controllingTerminal opens the terminal that the process belongs to. In the background
// a process is stopped when it reads there.
func controllingTerminal() (terminal *os.File, foreground bool, err error) {
	// Reads block: os.OpenFile would use kqueue, which macOS does not have for /dev/tty.
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

// flushTyped is called again if a signal interrupts it: a process that was stopped in the
// background, where it may not flush, goes on in the foreground.
func flushTyped(fd int) error { return again(func() error { return flushInput(fd) }) }

// hideTyped changes what the terminal echoes and nothing else: a line still ends with enter,
// and Ctrl-C, Ctrl-D and Ctrl-Z have their meaning.
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

// again calls do until no signal interrupts it.
func again(do func() error) error {
	for {
		if err := do(); err != unix.EINTR {
			return err
		}
	}
}

// onResume: a shell that has suspended a job sends it SIGCONT once the terminal is the job's.
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
