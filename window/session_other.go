//go:build !linux

package window

import (
	"errors"
	"os"
	"syscall"
)

// signalSession sends a signal to the process group of a session. The error is os.ErrProcessDone if there is no process.
func signalSession(session int, signal syscall.Signal) error {
	err := syscall.Kill(-session, signal)
	if errors.Is(err, syscall.ESRCH) {
		return os.ErrProcessDone
	}
	return err
}
