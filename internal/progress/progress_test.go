package progress

import (
	"bytes"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"
)

// output collects what is written. Any goroutine may write.
type output struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (s *output) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buffer.Write(p)
}

// take returns what was written since the last call.
func (s *output) take() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.buffer.Reset()
	return s.buffer.String()
}

func testProgress(terminal int, quiet bool) (*Progress, *output) {
	out := new(output)
	return New(Options{Out: out, Now: time.Now, Draw: terminal > 0, Width: func() int { return terminal }, Quiet: quiet}), out
}

func TestWithoutATerminalThereIsALineEvery30Seconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, out := testProgress(0, false)
		phase := p.Begin("listing", "name", 0)
		time.Sleep(29 * time.Second)
		phase.Add(12_000)
		if got := out.take(); got != "" {
			t.Errorf("after 29 s: %q", got)
		}
		time.Sleep(2 * time.Second)
		if got, want := out.take(), "listing 12,000 names in 30s (400/s) …\n"; got != want {
			t.Errorf("after 31 s: %q, want %q", got, want)
		}
		phase.Add(3_000)
		time.Sleep(30 * time.Second)
		if got, want := out.take(), "listing 15,000 names in 1m0s (250/s) …\n"; got != want {
			t.Errorf("after 61 s: %q, want %q", got, want)
		}
		phase.EndWith("listed", nil)
		if got, want := out.take(), "listed 15,000 names in 1m1s (245/s)\n"; got != want {
			t.Errorf("at the end: %q, want %q", got, want)
		}
		time.Sleep(time.Hour)
		if got := out.take(); got != "" {
			t.Errorf("after the end: %q", got)
		}
	})
}

func TestAPhaseThatFailsSaysHowFarItCame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, out := testProgress(0, false)
		phase := p.Begin("removing", "", 50_000)
		phase.ExpectBytes(5 << 20)
		phase.AddBytes(20_000, 2<<20)
		time.Sleep(10 * time.Second)
		phase.EndWith("removed", errors.New("interrupted"))
		if got, want := out.take(), "removing stopped after 20,000 of 50,000, 2.0 MiB of 5.0 MiB in 10s (2,000/s)\n"; got != want {
			t.Errorf("%q, want %q", got, want)
		}
	})
}

// A phase that counted nothing prints nothing, whether it failed or not. A phase without a total prints
// its count.
func TestAPhaseSaysOnlyWhatItDid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, out := testProgress(0, false)
		p.Begin("restoring", "", 0).EndWith("restored", errors.New("interrupted"))
		if got := out.take(); got != "" {
			t.Errorf("%q", got)
		}
		p.Begin("restoring", "", 0).EndWith("restored", nil)
		if got := out.take(); got != "" {
			t.Errorf("%q", got)
		}
		phase := p.Begin("restoring", "", 0)
		phase.AddBytes(3, 2048)
		phase.EndWith("restored", errors.New("interrupted"))
		if got, want := out.take(), "restoring stopped after 3, 2.0 KiB in 0s\n"; got != want {
			t.Errorf("%q, want %q", got, want)
		}
	})
}

func TestQuietShowsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, terminal := range []int{0, 80} {
			p, out := testProgress(terminal, true)
			phase := p.Begin("listing", "name", 0)
			phase.Add(1)
			time.Sleep(time.Minute)
			phase.EndWith("listed", nil)
			if got := out.take(); got != "" {
				t.Errorf("%q", got)
			}
		}
	})
}

// A bar takes one line. It is removed before another line is printed, and at the end.
func TestABarLeavesNothingBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, out := testProgress(100, false)
		phase := p.Begin("marking", "manifest", 0)
		phase.Expect(1000)
		time.Sleep(100 * time.Millisecond)
		if got := out.take(); got != "" {
			t.Errorf("at once: %q", got)
		}
		phase.Add(250)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		p.Note("a message")
		phase.Add(750)
		time.Sleep(250 * time.Millisecond)
		phase.EndWith("marked", nil)
		got := out.take()
		if screen, want := screen(got), "regsweep: a message\nmarked 1,000 manifests in 2.4s (425/s)\n"; screen != want {
			t.Errorf("on the screen is left %q, want %q\n%q", screen, want, got)
		}
		if want := "marking 250 of 1,000 manifests, 125/s, 6s left  25% [=========>"; !strings.Contains(got, want) {
			t.Errorf("%q is not in %q", want, got)
		}
		if strings.Contains(strings.ReplaceAll(got, "\r\x1b[K", ""), "\r") {
			t.Errorf("a line is written over without being cleared: %q", got)
		}
	})
}

// screen returns the text on a terminal after all this was written to it.
func screen(written string) string {
	lines := strings.Split(written, "\n")
	for i, line := range lines {
		if at := strings.LastIndex(line, "\r\x1b[K"); at >= 0 {
			lines[i] = line[at+len("\r\x1b[K"):]
		}
	}
	return strings.Join(lines, "\n")
}

// A bar that is wider than the terminal could not be removed.
func TestABarFitsEveryTerminal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := testProgress(80, false)
		for _, total := range []int{0, 1, 7, 1_234_567_890} {
			for _, unit := range []string{"", "manifest"} {
				phase := p.Begin("removing", unit, total)
				phase.ExpectBytes(int64(total) * 1000)
				for _, n := range []int{0, total / 2, total - total/2, 5} {
					phase.AddBytes(n, int64(n)*1000)
					time.Sleep(time.Second)
					for columns := range 200 {
						line := barLine(phase, columns, columns)
						if width := utf8.RuneCountInString(line); width > max(0, columns-margin) {
							t.Fatalf("in %d columns: %d in %q", columns, width, line)
						}
						if columns >= 40 && line == "" {
							t.Fatalf("in %d columns there is nothing", columns)
						}
						if strings.ContainsAny(line, "\r\n\x1b") {
							t.Fatalf("%q", line)
						}
					}
				}
				phase.End("")
			}
		}
	})
}

// Many goroutines count at the same time.
func TestCountingIsForAnyGoroutine(t *testing.T) {
	p, out := testProgress(80, false)
	phase := p.Begin("listing", "name", 0)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 100_000 {
				phase.Add(1)
			}
		})
	}
	all.Wait()
	phase.EndWith("listed", nil)
	if got := out.take(); !strings.Contains(got, "listed 800,000 names in ") {
		t.Errorf("%q", got)
	}
}
