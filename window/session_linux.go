package window

import (
	"os"
	"syscall"

	"github.com/prometheus/procfs"
)

// signalSession sends a signal to all processes of a session. The error is os.ErrProcessDone if there are none. A process
// group is not enough: timeout(1) makes one of its own.
func signalSession(session int, signal syscall.Signal) error {
	processes, err := procfs.AllProcs()
	if err != nil { // without /proc
		return signalGroup(session, signal)
	}
	err = os.ErrProcessDone
	for _, process := range processes {
		stat, statErr := process.Stat()
		if statErr != nil || stat.Session != session || stat.State == "Z" || stat.State == "X" { // it has ended
			continue
		}
		err = nil
		_ = syscall.Kill(process.PID, signal) // it may have ended meanwhile
	}
	return err
}
