// Command meter runs another command and tells what it took: meter FILE COMMAND ARG…
// writes the JSON of a Reading to FILE. It passes the command's exit code on.
//
// It is a program of its own because of the peak memory. A process's peak begins as
// that of the process it was forked from, so a large parent would hide a small
// child; this one has a few megabytes.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// reading is what a command took. The benchmark reads it (run.go).
type reading struct {
	Seconds    float64 `json:"seconds"`
	CPUSeconds float64 `json:"cpu_seconds"` // of its own and of the kernel for it
	PeakBytes  int64   `json:"peak_bytes"`  // resident
}

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: meter FILE COMMAND [ARG…]")
		os.Exit(2)
	}
	code, err := measure(os.Args[1], os.Args[2:])
	if err != nil {
		fmt.Fprintf(os.Stderr, "meter: %s\n", err)
		os.Exit(1)
	}
	os.Exit(code)
}

func measure(file string, argv []string) (code int, err error) {
	command := exec.Command(argv[0], argv[1:]...)
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	start := time.Now()
	err = command.Run()
	seconds := time.Since(start).Seconds()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return 0, err
	}
	state := command.ProcessState
	usage, ok := state.SysUsage().(*syscall.Rusage)
	if !ok {
		return 0, errors.New("this system does not tell what a process took")
	}
	text, err := json.Marshal(reading{
		Seconds:    seconds,
		CPUSeconds: (state.UserTime() + state.SystemTime()).Seconds(),
		PeakBytes:  int64(usage.Maxrss) * 1024, // in KiB on Linux
	})
	if err != nil {
		return 0, err
	}
	return state.ExitCode(), os.WriteFile(file, text, 0o644)
}
