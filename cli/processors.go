package cli

import "runtime"

// callsPerProcessor is the number of scheduler processors for each real processor. Higher values were
// not faster on the disks that were tried.
const callsPerProcessor = 4

// processors is the number of processors of the machine, or the number that the container may use.
var processors = runtime.GOMAXPROCS(0)

// raiseProcessors raises GOMAXPROCS, so that so many calls to a filesystem can wait at the same time.
//
// A goroutine in a system call keeps its scheduler processor until the runtime's monitor takes the
// processor away (retake in runtime/proc.go). That happens after about 70 µs. So two processors make at
// most about 20,000 reads a second from a disk, and a disk can do twice as many. More scheduler
// processors than real ones cost nothing while their calls wait. If the kernel has the data in its
// cache, the calls do not wait.
//
// GOMAXPROCS in the environment has priority.
func raiseProcessors(getenv func(string) string, calls int) {
	if getenv("GOMAXPROCS") != "" {
		return
	}
	if want := min(calls, callsPerProcessor*processors); want > runtime.GOMAXPROCS(0) {
		runtime.GOMAXPROCS(want)
	}
}
