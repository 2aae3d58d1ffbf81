package e2e

import (
	"flag"
	"testing"
)

var everyFault = flag.Bool("every-fault", false, "try all faults of system calls and of requests to S3, for hours, and not a selection")

// stride is how far apart the operations are at which a test lets something happen. With -short it
// is every eleventh: the race detector, with which each try takes several times as long, finds no
// more in the hundredth case than in the tenth.
func stride() int {
	if testing.Short() {
		return 11
	}
	return 1
}

// apart is how far apart operations are that are like each other: with -short one in n strides.
func apart(n int) int {
	if testing.Short() {
		return n * stride()
	}
	return 1
}

// isTried reports whether the k-th of the cases is tried: with -short one in n.
func isTried(k, n int) bool { return !testing.Short() || k%n == 0 }

// some are all cases, or with -short the first n.
func some[C any](cases []C, n int) []C {
	if testing.Short() {
		return cases[:min(n, len(cases))]
	}
	return cases
}

// manyAlike skips a test with -short: its registries differ in their content, and the program
// does the same with each.
func manyAlike(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("many cases that are alike")
	}
}

// progress says how many faults were tried, since trying all of them takes hours.
func progress(t *testing.T, tried int) {
	t.Helper()
	if *everyFault && tried%1000 == 0 && tried > 0 {
		t.Logf("%d faults tried", tried)
	}
}
