// Command simulate measures regsweep on registries of a size that nobody would make for
// a test: a dry run on 10 million blobs and 50 million links, and on smaller ones, to see
// whether memory stays bounded and the time for a key stays what it is.
//
// The bucket is a fake, and simulates a size and nothing else: a local HTTP server that
// computes the n-th key of a registry and does not store it (space.go, render.go,
// server.go). It has no latency, never fails and never throttles. Layers have no content;
// manifests do. What a run must find is known beforehand and compared.
//
// The server is a process of its own, so that it counts for none of what is measured:
// CPU time and peak resident memory are those of the regsweep process, as the kernel
// has them.
//
//	go run ./bench/simulate -blobs 100000,1000000,10000000
//	go run ./bench/simulate -blobs 10000000 -links 50000000 -garbage 0.5
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "simulate:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	shape
	blobs, links string
	binary       string
	limitMiB     int
	rounds       int
	serve        bool
}

func run(ctx context.Context, args []string) error {
	var o options
	flags := flag.NewFlagSet("simulate", flag.ContinueOnError)
	flags.StringVar(&o.blobs, "blobs", "100000,1000000,10000000", "numbers of blobs, one run for each")
	flags.StringVar(&o.links, "links", "", "numbers of links, about, as many as of blobs (default five times the blobs)")
	flags.IntVar(&o.Repositories, "repositories", 0, "number of repositories, about (default one for 5,000 links)")
	flags.IntVar(&o.Layers, "layers", 50, "layers of an image, its config among them")
	flags.Float64Var(&o.Garbage, "garbage", 0.1, "share of images that were deleted and not collected")
	flags.StringVar(&o.binary, "regsweep", "", "the program to measure (default: built from this module)")
	flags.IntVar(&o.rounds, "rounds", 1, "how often each size is run, all of them in turn; the median counts")
	flags.IntVar(&o.limitMiB, "limit", 0, "fail if a run takes more memory than this many MiB")
	flags.BoolVar(&o.serve, "serve", false, "only serve the first size, until standard input ends")
	if err := flags.Parse(args); err != nil {
		return err
	}
	shapes, err := o.shapes()
	if err != nil {
		return err
	}
	if o.rounds < 1 {
		return fmt.Errorf("-rounds is %d, and must be 1 at least", o.rounds)
	}
	if o.serve {
		return serve(shapes[0], os.Stdin, os.Stdout)
	}
	if o.binary == "" {
		dir, err := os.MkdirTemp("", "simulate")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		o.binary = filepath.Join(dir, "regsweep")
		build := exec.CommandContext(ctx, "go", "build", "-o", o.binary, "regsweep")
		build.Stdout, build.Stderr = os.Stderr, os.Stderr
		if err := build.Run(); err != nil {
			return fmt.Errorf("build regsweep: %w", err)
		}
	}
	return measureAll(ctx, o.binary, shapes, o.rounds, o.limitMiB)
}

// shapes are the registries that the flags ask for.
func (o options) shapes() ([]shape, error) {
	blobs, err := numbers(o.blobs)
	if err != nil {
		return nil, err
	}
	links, err := numbers(o.links)
	if err != nil {
		return nil, err
	}
	if len(links) != 0 && len(links) != len(blobs) {
		return nil, fmt.Errorf("-blobs has %d numbers and -links %d", len(blobs), len(links))
	}
	var shapes []shape
	for i, n := range blobs {
		next := o.shape
		next.Blobs, next.Links = n, 5*n
		if len(links) != 0 {
			next.Links = links[i]
		}
		if next.Repositories == 0 {
			next.Repositories = max(5, next.Links/5000)
		}
		shapes = append(shapes, next)
	}
	return shapes, nil
}

// numbers reads "1,2,3".
func numbers(list string) ([]int, error) {
	var found []int
	for word := range strings.SplitSeq(list, ",") {
		if word == "" {
			continue
		}
		n, err := strconv.Atoi(word)
		if err != nil {
			return nil, fmt.Errorf("%q is no number", word)
		}
		found = append(found, n)
	}
	return found, nil
}
