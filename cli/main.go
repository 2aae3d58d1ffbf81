package cli

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// Main is the program: it runs the command in os.Args until it has ended or a signal stops it,
// and returns the exit code.
func Main(env Env) (exitCode int) {
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
		cancel(ErrInterrupted)
	}()
	return Run(ctx, os.Args, env)
}
