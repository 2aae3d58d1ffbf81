package guard

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// ThisProcess identifies the running process among all that this host has had, as far as
// another process can check that: the boot, the namespaces by which processes are numbered
// and timed, and the start time. A process number alone is used again, and each container
// has its own numbers. It returns "" if the host does not tell.
func ThisProcess() string {
	space, err := processSpace()
	if err != nil {
		return ""
	}
	started, _, err := processStat(os.Getpid())
	if err != nil {
		return ""
	}
	return space + " " + started
}

// processSpace is where a process number means the same process: a boot and a namespace.
// The number of a namespace may be used again, but not while a process is in it.
func processSpace() (string, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", err
	}
	space := strings.TrimSpace(string(boot))
	for _, name := range []string{"pid", "time"} {
		namespace, err := os.Readlink("/proc/self/ns/" + name)
		if err != nil && !(name == "time" && errors.Is(err, os.ErrNotExist)) { // before Linux 5.6
			return "", err
		}
		space += " " + namespace
	}
	// In a container, /proc may be that of the host, which has other numbers.
	if self, err := os.Readlink("/proc/self"); err != nil || self != strconv.Itoa(os.Getpid()) {
		return "", errors.New("/proc numbers processes in another way")
	}
	return space, nil
}

// hasEnded reports whether a process that named itself so has ended, if this process can
// know that: if both are of one host, boot and namespace.
func hasEnded(pid int, process, this string) bool {
	at, here := strings.LastIndexByte(process, ' '), strings.LastIndexByte(this, ' ')
	if pid <= 0 || at < 0 || here < 0 || process[:at] != this[:here] {
		return false
	}
	// A /proc that hides the processes of others does not hide them from kill.
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return true
	}
	started, over, err := processStat(pid)
	return err == nil && (over || started != process[at+1:])
}

// processStat is when a process started, in ticks since the boot, and whether it is over and
// only waits for its parent to notice. A thread of it may still be in a call that it made.
// Source: proc_pid_stat(5), fields 3, 20 and 22.
func processStat(pid int) (started string, over bool, err error) {
	content, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return "", false, err
	}
	_, after, _ := bytes.Cut(content[bytes.LastIndexByte(content, ')')+1:], []byte(" ")) // a name may have spaces and brackets
	fields := strings.Fields(string(after))
	if len(fields) < 20 {
		return "", false, fmt.Errorf("/proc/%d/stat: %q", pid, content)
	}
	over = (fields[0] == "Z" || fields[0] == "X") && (fields[17] == "0" || fields[17] == "1")
	return fields[19], over, nil
}
