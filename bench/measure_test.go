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
	result, err := b.compare(t.Context(), comparison{
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
	if p, ran := result.program("slow"); !ran || p.seconds() < 1.1 || p.seconds() > 10 {
		t.Errorf("a sleep of 1.1 s is measured as %+v", p.Runs)
	}
	if p, ran := result.program("skipped"); ran || result.Programs[2].Skipped != "for a reason" {
		t.Errorf("what was skipped is %+v", p)
	}
}

func TestABriefRunIsRepeatedInItsTurn(t *testing.T) {
	b := measuring(t)
	b.rounds, b.patience, b.brief = 2, time.Minute, 500*time.Millisecond
	brief := shell("brief", "sleep 0.2; echo ok")
	compared := comparison{contenders: []contender{brief, shell("long", "sleep 0.75; echo ok")}}
	runs := func() (n []int) {
		t.Helper()
		result, err := b.compare(t.Context(), compared)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range result.Programs {
			n = append(n, len(p.Runs))
		}
		return n
	}
	// On a machine with much to do a run may take longer.
	if n := runs(); n[0] <= 2 || n[0] > 6 || n[1] != 2 {
		t.Errorf("in two rounds they ran %d times, want up to 6 and 2", n)
	}
	compared.before = func(context.Context, contender) error { return nil }
	if n := runs(); n[0] != 2 || n[1] != 2 {
		t.Errorf("with something to make ready they ran %d times, want 2 and 2", n)
	}
}

func TestAFailureEndsTheComparison(t *testing.T) {
	b := measuring(t)
	b.rounds, b.patience = 1, time.Minute
	for line, want := range map[string]string{
		"echo no such registry >&2; exit 1": "no such registry",
		"echo nothing":                      "it printed nothing",
	} {
		_, err := b.compare(t.Context(), comparison{title: "a comparison", contenders: []contender{shell("one", line)}})
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
