package main

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
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

func TestContendersRunInTurnUntilPatienceEnds(t *testing.T) {
	b := measuring(t)
	b.rounds, b.patience = 3, time.Second // a busy machine may need a part of it for an echo
	var order []string
	skipped := shell("skipped", "exit 1")
	skipped.skip = "for a reason"
	err := b.compare(t.Context(), comparison{
		contenders: []contender{shell("quick", "echo ok"), shell("slow", "sleep 1.1; echo ok"), skipped},
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
	if p := result.program("slow"); len(p.Runs) != 1 || p.Runs[0].Seconds < 1.1 {
		t.Errorf("a sleep of 1.1 s is measured as %+v", p.Runs)
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
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	start := time.Now()
	// The sleep holds our standard error open: were it left alone, we would wait.
	if _, _, err := b.execute(ctx, shell("endless", "sleep 30; echo ok")); err == nil {
		t.Error("an interrupted run is one")
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("an interrupted run ended after %s", took)
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
