//go:build linux || darwin || freebsd || netbsd || openbsd

package cli

import (
	"os"

	"golang.org/x/sys/unix"
)

// controllingTerminal opens the terminal that the process belongs to. In the background
// a process is stopped when it reads there.
func controllingTerminal() (terminal *os.File, foreground bool, err error) {
	// os.OpenFile would make reads return at once, which term.ReadPassword does not expect.
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
func flushTyped(fd int) error {
	for {
		if err := flushInput(fd); err != unix.EINTR {
			return err
		}
	}
}
