// Command bench compares regsweep with `registry garbage-collect` of the registry's
// own releases, and with a program that does the least work possible (bench/floor).
// It makes the registries (bench/generate), runs the programs in turn on the same
// data, and prints a Markdown table for docs/measurements.md: make bench. It also
// compares the check of content with sha256sum.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	options, err := parseOptions(os.Args[1:], os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		_, err = run(ctx, options, os.Stdout)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: %s\n", err)
		os.Exit(1)
	}
}

// options are the flags, and the sizes of the registries.
type options struct {
	only     []string // sections; none are all
	slow     bool
	rounds   int
	patience time.Duration
	brief    time.Duration // a program is run again in its turn until it has run this long
	dir      string        // for registries; "" is a temporary one

	repositories, tags, untagged, s3Repositories int
	contentBytes                                 int64 // of large blobs
	smallBlobs                                   int

	cold      bool            // as root, also with a cold cache of the kernel: all of the machine waits for that
	latencies []time.Duration // of the answers of S3
}

// section is a part of the benchmark that can be measured alone.
type section struct {
	name    string
	measure func(*bench, context.Context) error
}

// sections are in the order in which they are measured.
var sections = []section{{"fs", (*bench).filesystem}, {"repo", (*bench).repository}, {"removal", (*bench).removal}, {"s3", (*bench).bucket}, {"verify", (*bench).verify}}

func parseOptions(args []string, usage io.Writer) (options, error) {
	o := options{brief: 2 * time.Second, repositories: 200, tags: 3000, untagged: 1000, s3Repositories: 25, contentBytes: 4e9, smallBlobs: 30_000, cold: true,
		latencies: []time.Duration{0, 15 * time.Millisecond, 50 * time.Millisecond}}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(usage)
	quick := flags.Bool("quick", false, "small registries, one round: that it works, not how fast")
	only := flags.String("only", "", "`sections` to measure, of fs,repo,removal,s3,verify")
	flags.BoolVar(&o.slow, "slow", false, "the registry's releases on S3 where that takes them up to an hour, too")
	flags.IntVar(&o.rounds, "rounds", 5, "how often each program runs")
	flags.DurationVar(&o.patience, "patience", time.Minute, "a program that has run this long in one comparison is not run again there")
	flags.StringVar(&o.dir, "dir", "", "an empty `directory` for registries, on the filesystem to measure (default: a temporary one)")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("%s is no flag", flags.Arg(0))
	}
	if *quick {
		o.rounds, o.brief, o.repositories, o.tags, o.untagged, o.s3Repositories = 1, 0, 8, 120, 40, 1
		o.contentBytes, o.smallBlobs = 20e6, 200
	}
	if o.rounds < 1 {
		return o, errors.New("-rounds is at least 1")
	}
	if *only != "" {
		o.only = strings.Split(*only, ",")
	}
	for _, name := range o.only {
		if !slices.ContainsFunc(sections, func(s section) bool { return s.name == name }) {
			return o, fmt.Errorf("-only: %q is no section", name)
		}
	}
	return o, nil
}

func (o options) wants(section string) bool {
	return len(o.only) == 0 || slices.Contains(o.only, section)
}
