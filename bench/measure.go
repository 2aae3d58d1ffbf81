package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"regsweep/bench/generate"
)

// comparison runs contenders in turn on the same data.
type comparison struct {
	title      string
	garbage    generate.Garbage // what there is to find
	contenders []contender
	// before is called before each run, and after after it; both may be nil.
	before, after func(context.Context, contender) error
	// through counts requests where there are any.
	through *proxy
}

// compare runs every contender in each round, but none again that has used up the patience. One
// run of a fraction of a second says little, and least of all the first one after another
// program's: it is repeated, unless something has to be made ready for each. Any failure ends
// it: a time without a result means nothing.
func (b *bench) compare(ctx context.Context, c comparison) error {
	b.say("\n%s", c.title)
	result := Case{Title: c.title, Garbage: c.garbage}
	for _, contender := range c.contenders {
		result.Programs = append(result.Programs, Program{Name: contender.name, Skipped: contender.skip})
	}
	spent := make([]time.Duration, len(c.contenders))
	for round := range b.rounds {
		for i, contender := range c.contenders {
			if contender.skip != "" || spent[i] >= b.patience {
				continue
			}
			for before := spent[i]; ; {
				if err := b.once(ctx, c, contender, &result.Programs[i], spent[i] == 0 && contender.warm); err != nil {
					return fmt.Errorf("%s: %s: %w", c.title, contender.name, err)
				}
				runs := result.Programs[i].Runs
				last := runs[len(runs)-1]
				spent[i] += time.Duration(last.Seconds * float64(time.Second))
				b.say("  %d  %-22s %10.3f s %8.1f MB", round+1, contender.name, last.Seconds, float64(last.PeakBytes)/1e6)
				if c.before != nil || spent[i]-before >= b.brief {
					break
				}
			}
		}
	}
	b.cases = append(b.cases, result)
	return nil
}

// once runs a contender once, or twice where the first run only prepares the second.
func (b *bench) once(ctx context.Context, c comparison, contender contender, result *Program, warm bool) error {
	if c.before != nil {
		if err := c.before(ctx, contender); err != nil {
			return err
		}
	}
	if warm {
		if _, _, err := b.execute(ctx, contender); err != nil {
			return err
		}
	}
	if c.through != nil {
		c.through.reset()
	}
	run, found, err := b.execute(ctx, contender)
	if err != nil {
		return err
	}
	if c.through != nil {
		run.Requests = c.through.counted()
	}
	result.Runs, result.Found = append(result.Runs, run), found
	if c.after != nil {
		return c.after(ctx, contender)
	}
	return nil
}

// execute runs a contender under the meter. What it prints goes to a file, as a pipe
// would make it wait for us.
func (b *bench) execute(ctx context.Context, c contender) (run Run, found Found, err error) {
	readings, printed := filepath.Join(b.dir, "reading.json"), filepath.Join(b.dir, "printed")
	output, err := os.Create(printed)
	if err != nil {
		return run, found, err
	}
	var failure tail
	command := exec.CommandContext(ctx, b.programs.meter, append([]string{readings}, c.argv...)...)
	command.Env = append(environment(), c.env...)
	command.Stdout, command.Stderr = output, &failure
	// The meter and what it runs end together.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
	err = command.Run()
	if closed := output.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return run, found, fmt.Errorf("%w: %s", err, failure.text())
	}
	text, err := os.ReadFile(readings)
	if err != nil {
		return run, found, err
	}
	if err := json.Unmarshal(text, &run); err != nil {
		return run, found, fmt.Errorf("the meter's reading: %w", err)
	}
	if text, err = os.ReadFile(printed); err != nil {
		return run, found, err
	}
	found, err = c.read(text)
	return run, found, err
}

// environment is ours without what would tell a registry or an SDK something.
func environment() []string {
	var kept []string
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "AWS_") && !strings.HasPrefix(variable, "REGISTRY_") {
			kept = append(kept, variable)
		}
	}
	return kept
}

// tail keeps the end of what a program says of its failure.
type tail struct{ bytes []byte }

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	const enough = 2000
	t.bytes = append(t.bytes, p...)
	if len(t.bytes) > 2*enough {
		t.bytes = append([]byte{}, t.bytes[len(t.bytes)-enough:]...)
	}
	return len(p), nil
}

func (t *tail) text() string { return string(bytes.TrimSpace(t.bytes)) }
