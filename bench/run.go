package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"regsweep/internal/registrytest"
)

// bench is one run of the whole.
type bench struct {
	options
	programs programs
	dir      string // empty at first, and removed at the end
	out      io.Writer
	cases    []Case
}

// programs are the paths of what is compared.
type programs struct {
	regsweep, floor, meter string
	release3, release2     string // release2 is "" where this machine can't have it
}

// run measures the sections, prints the table, and returns what is in it.
func run(ctx context.Context, options options, out io.Writer) (cases []Case, err error) {
	dir, err := os.MkdirTemp(options.dir, "regsweep-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b := &bench{options: options, dir: dir, out: out}
	if err := b.build(ctx); err != nil {
		return nil, err
	}
	for _, section := range sections {
		if !options.wants(section.name) {
			continue
		}
		start := time.Now()
		if err := section.measure(b, ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", section.name, err)
		}
		b.say("%s took %s altogether", section.name, time.Since(start).Round(time.Second))
	}
	b.say("\n%s: %d processors, %s, Go %s\n\n%s", time.Now().UTC().Format(time.DateOnly),
		runtime.NumCPU(), runtime.GOOS, strings.TrimPrefix(runtime.Version(), "go"), table(b.cases))
	return b.cases, nil
}

func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(b.out, format+"\n", args...)
}

// build gets all programs before anything is measured.
func (b *bench) build(ctx context.Context) (err error) {
	b.say("building the programs; the first time this takes minutes")
	for _, program := range []struct {
		path *string
		name string
		pkg  string
	}{
		{&b.programs.regsweep, "regsweep", "regsweep"},
		{&b.programs.floor, "floor", "regsweep/bench/floor"},
		{&b.programs.meter, "meter", "regsweep/bench/meter"},
	} {
		*program.path = filepath.Join(b.dir, program.name)
		if err := goBuild(ctx, *program.path, program.pkg); err != nil {
			return err
		}
	}
	if b.programs.release3, err = registrytest.Binary(ctx, registrytest.Release3); err != nil {
		return err
	}
	b.programs.release2, err = registrytest.Binary(ctx, registrytest.Release2)
	if errors.Is(err, registrytest.ErrUnavailable) {
		b.say("registry 2.8 is left out: %s", err)
		return nil
	}
	return err
}

// goBuild builds a program of this module as make build does.
func goBuild(ctx context.Context, path, pkg string) error {
	command := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-o", path, pkg)
	command.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, output)
	}
	return nil
}
