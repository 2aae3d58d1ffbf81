package window

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// signalSession sends a signal to all processes of a session. The error is os.ErrProcessDone if there are none. A process
// group is not enough: timeout(1) makes one of its own. Source: proc_pid_stat(5), fields 3 and 6.
func signalSession(session int, signal syscall.Signal) error {
	result := os.ErrProcessDone
	if syscall.Kill(-session, signal) == nil { // also if /proc can't be read
		result = nil
	}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return err
	}
	if len(stats) > 0 {
		result = os.ErrProcessDone // a zombie of the group does not count
	}
	for _, name := range stats {
		content, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		_, after, _ := bytes.Cut(content[bytes.LastIndexByte(content, ')')+1:], []byte(" ")) // a name may have spaces and brackets
		fields := bytes.Fields(after)
		if len(fields) < 4 || string(fields[3]) != strconv.Itoa(session) || bytes.ContainsAny(fields[0], "ZX") {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		if err != nil {
			continue
		}
		result = nil
		_ = syscall.Kill(pid, signal) // it may have ended
	}
	return result
}
