//go:build !linux

package window

import "syscall"

// signalSession sends a signal to the process group of a session. The error is os.ErrProcessDone if there is no process.
func signalSession(session int, signal syscall.Signal) error { return signalGroup(session, signal) }
