package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// shell is a contender that is a line of shell.
func shell(name, line string) contender {
	return contender{name: name, argv: []string{"sh", "-c", line}, read: func(output []byte) (Found, error) {
		if strings.TrimSpace(string(output)) != "ok" {
			return Found{}, errors.New("it printed " + string(output))
		}
		return Found{Blobs: 1}, nil
	}}
}

// The meter reads what a contender says that it took: a fake of the time.
func TestContendersRunInTurnUntilPatienceEnds(t *testing.T) {
	b := &bench{dir: t.TempDir(), out: new(bytes.Buffer)}
	b.programs.meter = b.dir + "/meter"
	if err := os.WriteFile(b.programs.meter, []byte("#!/bin/sh\necho \"{\\\"seconds\\\": $TAKES}\" >$1; shift; exec \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	b.rounds, b.patience = 3, time.Second
	var order []string
	quick, slow, skipped := shell("quick", "echo ok"), shell("slow", "echo ok"), shell("skipped", "exit 1")
	quick.env, slow.env, skipped.skip = []string{"TAKES=0.3"}, []string{"TAKES=1.1"}, "for a reason"
	err := b.compare(t.Context(), comparison{
		contenders: []contender{quick, slow, skipped},
		before: func(_ context.Context, c contender) error {
			order = append(order, c.name)
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"quick", "slow", "quick", "quick"}; !slices.Equal(order, want) {
		t.Errorf("they ran as %q, want %q", order, want)
	}
	result := b.cases[0]
	if p := result.program("slow"); len(p.Runs) != 1 || p.Runs[0].Seconds != 1.1 {
		t.Errorf("a reading of 1.1 s becomes %+v", p.Runs)
	}
	if p := result.program("skipped"); len(p.Runs) != 0 || p.Skipped != "for a reason" {
		t.Errorf("a program that was skipped: %+v", p)
	}
}

func TestAFailureEndsTheComparison(t *testing.T) {
	b := measuring(t)
	b.rounds, b.patience = 1, time.Minute
	for line, want := range map[string]string{
		"echo no such registry >&2; exit 1": "no such registry",
		"echo nothing":                      "it printed nothing",
	} {
		err := b.compare(t.Context(), comparison{title: "a comparison", contenders: []contender{shell("one", line)}})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "a comparison: one") {
			t.Errorf("%s: %v", line, err)
		}
	}
}

func TestWhatIsMeasuredEndsWithUs(t *testing.T) {
	b := measuring(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	started := b.dir + "/started"
	if err := syscall.Mkfifo(started, 0o600); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer cancel()
		if _, err := os.ReadFile(started); err != nil {
			t.Error(err)
		}
	}()
	// The sleep holds our standard error open: were it left alone, we would wait for as long.
	if _, _, err := b.execute(ctx, shell("endless", "echo >"+started+"; sleep 100000; echo ok")); err == nil {
		t.Error("an interrupted run is one")
	}
}

// measuring is a bench with a meter and nothing else.
func measuring(t *testing.T) *bench {
	t.Helper()
	b := &bench{dir: t.TempDir(), out: new(bytes.Buffer)}
	b.programs.meter = b.dir + "/meter"
	if err := goBuild(t.Context(), b.programs.meter, "regsweep/bench/meter"); err != nil {
		t.Fatal(err)
	}
	return b
}
