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

// ThisProcess identifies the running process among all processes that this host has had.
// Another process can check it. It consists of the boot, the PID namespace, the time namespace,
// and the start time. A process number alone is not enough: numbers are used again, and each
// container has its own numbers. It returns "" if the host does not have this information.
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

// processSpace identifies a boot and its namespaces. Within it a process number means the same
// process. The number of a namespace may be used again, but not while a process is in it.
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
	// In a container /proc may be the one of the host, which has other numbers.
	if self, err := os.Readlink("/proc/self"); err != nil || self != strconv.Itoa(os.Getpid()) {
		return "", errors.New("/proc numbers processes in another way")
	}
	return space, nil
}

// hasEnded reports whether a process has ended. process is its ThisProcess(), and this is the one
// of this process. It returns false if they differ in the host, the boot or a namespace.
func hasEnded(pid int, process, this string) bool {
	if pid <= 0 || !sameSpace(process, this) {
		return false
	}
	// kill also finds the processes of other users that /proc may hide.
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return true
	}
	started, over, err := processStat(pid)
	return err == nil && (over || started != process[strings.LastIndexByte(process, ' ')+1:])
}

// Runs reports whether a process is known to run. process is its ThisProcess().
func Runs(pid int, process string) bool {
	this := ThisProcess()
	return pid > 0 && sameSpace(process, this) && !hasEnded(pid, process, this)
}

// sameSpace reports whether two processes have their numbers from the same boot and namespaces.
func sameSpace(a, b string) bool {
	i, j := strings.LastIndexByte(a, ' '), strings.LastIndexByte(b, ' ')
	return i >= 0 && j >= 0 && a[:i] == b[:j]
}

// processStat returns when a process started, in ticks since the boot. over is set if the process
// is a zombie and has no other thread: a thread could still be in a system call.
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
