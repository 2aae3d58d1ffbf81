package guard

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// child starts a process, and returns it with its ThisProcess().
func child(t *testing.T) (process *exec.Cmd, name string) {
	t.Helper()
	process = exec.Command("sleep", "1000")
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = process.Process.Kill() // the test has ended it already, unless it failed
		_ = process.Wait()
	})
	space, err := processSpace()
	if err != nil {
		t.Fatal(err)
	}
	started, _, err := processStat(process.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	return process, space + " " + started
}

func TestAProcessIsSeenToHaveEnded(t *testing.T) {
	this := ThisProcess()
	if this == "" {
		t.Fatal("this process has no name")
	}
	if hasEnded(os.Getpid(), this, this) {
		t.Error("this process has ended, it says")
	}
	process, name := child(t)
	pid := process.Process.Pid
	if hasEnded(pid, name, this) {
		t.Error("it lives, and has ended, it says")
	}
	if err := process.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if hasEnded(pid, name, this) {
		t.Error("it is suspended, and has ended, it says")
	}
	at := strings.LastIndexByte(name, ' ')
	started, err := strconv.Atoi(name[at+1:])
	if err != nil {
		t.Fatal(err)
	}
	if earlier := name[:at+1] + strconv.Itoa(started-1); !hasEnded(pid, earlier, this) {
		t.Error("another process has its number, and it has not ended, it says")
	}
	if err := process.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for tries := 0; !hasEnded(pid, name, this); tries++ { // nobody has waited for it: its number is still taken
		if time.Sleep(time.Millisecond); tries == 60_000 {
			t.Fatal("it was killed, and has not ended, it says")
		}
	}
	if err := process.Wait(); err == nil {
		t.Fatal("it was not killed")
	}
	if !hasEnded(pid, name, this) {
		t.Error("it is gone, and has not ended, it says")
	}
	// A process number that is not used here says nothing about another boot or container.
	for _, elsewhere := range []string{
		"", "unknown", strings.Replace(name, "-", "", 1), strings.Replace(name, "pid:[", "pid:[1", 1), strings.Replace(name, "time:[", "time:[1", 1),
	} {
		if hasEnded(pid, elsewhere, this) || hasEnded(pid, name, elsewhere) {
			t.Errorf("a process of %q has ended, it says", elsewhere)
		}
	}
	for _, pid := range []int{0, -1} {
		if hasEnded(pid, name, this) {
			t.Errorf("process %d has ended, it says", pid)
		}
	}
}

// A run can find out that a run of the same host was killed. It can't find that out for a run on
// another host or in another container, even if the process number is the same.
func TestTheLockOfAnEndedProcessIsTakenOverAtOnce(t *testing.T) {
	process, name := child(t)
	if err := process.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if exit := (*exec.ExitError)(nil); !errors.As(process.Wait(), &exit) {
		t.Fatal("it was not killed")
	}
	lives, itsName := child(t)
	for about, test := range map[string]struct {
		host, process string
		pid           int
		waits         bool
	}{
		"killed here":           {"here", name, process.Process.Pid, false},
		"killed on a host":      {"there", name, process.Process.Pid, true},
		"killed in a container": {"here", strings.Replace(name, "pid:[", "pid:[1", 1), process.Process.Pid, true},
		"an earlier version":    {"here", "", process.Process.Pid, true},
		"lives":                 {"here", itsName, lives.Process.Pid, true},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			store := &memory{}
			o := run(test.host)
			o.Process, o.PID = test.process, test.pid
			held := &Held{options: o, holder: Holder{Token: "x", Host: o.Host, PID: o.PID, Process: o.Process}}
			content, err := held.content()
			if err != nil {
				t.Fatal(err)
			}
			store.set(content)
			next := run("here")
			next.Process, next.Stale = ThisProcess(), time.Second
			waits := false
			next.OnWait = func(Holder, time.Duration) { waits = true }
			_, taker := mustLock(t, store, next)
			if waits != test.waits {
				t.Errorf("waits: %t, want %t", waits, test.waits)
			}
			mustRelease(t, taker)
		})
	}
}
