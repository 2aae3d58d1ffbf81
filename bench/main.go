// Command bench compares regsweep with `registry garbage-collect` of the registry's
// own releases, and with a program that does the least work possible (bench/floor).
// It makes the registries (bench/generate), runs the programs in turn on the same
// data, and writes what they took: make bench.
//
// Results are kept by section in results.json, from which RESULTS.md, the chart and the
// README's figures are made anew each time, so that a section can be measured alone.
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
	"strconv"
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
		err = run(ctx, options, os.Stdout)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: %s\n", err)
		os.Exit(1)
	}
}

// options are what the flags say.
type options struct {
	only     []string // sections; none are all
	quick    bool
	slow     bool
	cold     bool // measure with cold caches too, where the system lets us
	seed     uint64
	rounds   int
	patience time.Duration
	brief    time.Duration // a program is run again in its turn until it has run this long
	latency  []time.Duration
	dir      string // for registries; "" is a temporary one
	top      string // the module's directory, where results go; "" keeps none

	repositories, tags, untagged, s3Repositories int
	line                                         string // the flags as they were given
}

// sectionNames are all sections, in the order of the report.
var sectionNames = []string{"fs", "repo", "removal", "s3"}

func parseOptions(args []string, usage io.Writer) (options, error) {
	o := options{line: strings.Join(args, " ")}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(usage)
	flags.BoolVar(&o.quick, "quick", false, "small registries, one round: that it works, not how fast; keeps no results")
	only := flags.String("only", "", "`sections` to measure, of fs,repo,removal,s3; the results of others stay")
	flags.BoolVar(&o.slow, "slow", false, "the registry's releases on S3 where that takes them up to an hour, too")
	flags.BoolVar(&o.cold, "cold", true, "measure with a cold cache of the kernel too, which only root can have")
	flags.Uint64Var(&o.seed, "seed", 1, "of the registries' content")
	flags.IntVar(&o.rounds, "rounds", 5, "how often each program runs")
	flags.DurationVar(&o.patience, "patience", time.Minute, "a program that has run this long in one comparison is not run again there")
	latency := flags.String("latency", "0,15,50", "`milliseconds` added to each answer of S3")
	flags.StringVar(&o.dir, "dir", "", "an empty `directory` for registries, on the filesystem to measure (default: a temporary one)")
	flags.IntVar(&o.repositories, "repositories", 200, "of the registry with many repositories")
	flags.IntVar(&o.tags, "tags", 3000, "of the registry with one repository")
	flags.IntVar(&o.untagged, "untagged", 1000, "revisions of the registry with one repository")
	flags.IntVar(&o.s3Repositories, "s3-repositories", 25, "of the registry on S3")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("%s is no flag", flags.Arg(0))
	}
	given := map[string]bool{}
	flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
	if o.quick {
		small := func(name string, value *int, to int) {
			if !given[name] {
				*value = to
			}
		}
		small("rounds", &o.rounds, 1)
		small("repositories", &o.repositories, 8)
		small("tags", &o.tags, 120)
		small("untagged", &o.untagged, 40)
		small("s3-repositories", &o.s3Repositories, 1)
		if !given["latency"] {
			*latency = "0,15"
		}
	} else {
		o.top, o.brief = ".", 2*time.Second
	}
	for _, n := range []int{o.rounds, o.repositories, o.tags, o.s3Repositories} {
		if n < 1 {
			return o, errors.New("rounds and sizes are at least 1")
		}
	}
	for text := range strings.SplitSeq(*latency, ",") {
		milliseconds, err := strconv.Atoi(text)
		if err != nil || milliseconds < 0 {
			return o, fmt.Errorf("-latency: %q is no number of milliseconds", text)
		}
		o.latency = append(o.latency, time.Duration(milliseconds)*time.Millisecond)
	}
	if *only != "" {
		o.only = strings.Split(*only, ",")
	}
	for _, name := range o.only {
		if !slices.Contains(sectionNames, name) {
			return o, fmt.Errorf("-only: %q is no section, they are %s", name, strings.Join(sectionNames, ", "))
		}
	}
	return o, nil
}

func (o options) wants(section string) bool {
	return len(o.only) == 0 || slices.Contains(o.only, section)
}
