// Command regsweep gives back the disk space that a container registry no longer
// needs, and nothing else. It reads the registry's storage directly: see README.md.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"regsweep/cli"
)

func main() { os.Exit(run(cli.Process())) }

// run is one run of the program, but for what it is told of the world outside.
func run(env cli.Env) (exitCode int) {
	boundGarbage()

	// Without this a reader of our output that goes away would end a sweep.
	signal.Ignore(syscall.SIGPIPE)

	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) { // as nohup has it
		signal.Notify(signals, syscall.SIGHUP)
	}
	go func() {
		<-signals
		signal.Stop(signals) // a second one ends the process at once
		cancel(cli.ErrInterrupted)
	}()
	return cli.Run(ctx, os.Args, env)
}
