package cli

import "runtime"

// callsForProcessor is how many calls for each processor may wait for a disk without Go's
// scheduler being held up. More were no faster on the disks that were tried.
const callsForProcessor = 4

// processors is how many the scheduler has at first: what the machine has, or the container
// may use.
var processors = runtime.GOMAXPROCS(0)

// letCallsWait prepares for as many calls to a filesystem at once.
//
// To Go's scheduler a goroutine whose call waits for a disk keeps its processor busy until
// the runtime's monitor comes round and sees that it waits (retake in runtime/proc.go), some
// 70 µs later. With two processors that is some 20,000 reads a second and no more, however many are
// under way, from a disk that has twice as many to give. So there are more processors to the
// scheduler than there are: those that wait cost nothing, and with a warm cache of the
// kernel none does.
//
// Who has set GOMAXPROCS knows better.
func letCallsWait(getenv func(string) string, calls int) {
	if getenv("GOMAXPROCS") != "" {
		return
	}
	if want := min(calls, callsForProcessor*processors); want > runtime.GOMAXPROCS(0) {
		runtime.GOMAXPROCS(want)
	}
}
