package cli

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"regsweep/internal/human"
)

const (
	// drawInterval is the time between two drawings of a bar.
	drawInterval = 200 * time.Millisecond
	// plainInterval is the time between two lines if there is no terminal.
	plainInterval = 30 * time.Second
)

// progress prints the progress of a run to standard error: a bar on a terminal, and a line every
// plainInterval elsewhere. If quiet is true it prints neither.
type progress struct {
	env   Env
	quiet bool

	mu      sync.Mutex // held for each write to standard error
	running bool       // a phase has begun and has not ended
	drawn   bool       // the line of the cursor shows a bar
	turn    int        // counts the drawings, for the spinner
	step    string     // what the run does, such as "listing"
}

func newProgress(env Env, quiet bool) *progress { return &progress{env: env, quiet: quiet} }

// startProgress replaces the progress by one that knows whether the command is quiet.
func (r *runner) startProgress(quiet bool) { r.progress = newProgress(r.env, quiet) }

// phase is one part of a run. Any goroutine may call add, addBytes, expect and expectBytes, millions of
// times per second: they only change counters. The phase has one goroutine that draws.
type phase struct {
	p                 *progress
	name, unit        string
	start             time.Time
	n, total          atomic.Int64
	bytes, totalBytes atomic.Int64
	stop              chan struct{}
	shown             sync.WaitGroup
}

// begin begins a phase. total is the expected number of things, or 0 if it is not known yet. unit is
// the noun of one thing, or "".
func (p *progress) begin(name, unit string, total int) *phase {
	ph := &phase{p: p, name: name, unit: unit, start: p.env.Now(), stop: make(chan struct{})}
	ph.total.Store(int64(total))
	p.enter(name, true)
	ph.shown.Go(ph.show)
	return ph
}

// enter notes what the run does now.
func (p *progress) enter(step string, running bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.step, p.running = step, running
}

// expect sets the expected number of things.
func (ph *phase) expect(total int) { ph.total.Store(int64(total)) }

// expectBytes sets the expected number of bytes.
func (ph *phase) expectBytes(total int64) { ph.totalBytes.Store(total) }

// add counts n things.
func (ph *phase) add(n int) { ph.n.Add(int64(n)) }

// addBytes counts n things and their bytes.
func (ph *phase) addBytes(n int, bytes int64) {
	ph.n.Add(int64(n))
	ph.bytes.Add(bytes)
}

// end removes the bar. If done is not "", it prints done and the amounts in its place.
func (ph *phase) end(done string) {
	close(ph.stop)
	ph.shown.Wait()
	ph.p.mu.Lock()
	defer ph.p.mu.Unlock()
	ph.p.running = false
	ph.p.clear()
	if done != "" && !ph.p.quiet {
		ph.p.line(done + " " + ph.line())
	}
}

// endWith ends the phase and prints done and the amounts. If err is not nil, it prints how far the phase
// came. It prints nothing if the phase counted nothing.
func (ph *phase) endWith(done string, err error) {
	switch {
	case ph.n.Load() == 0 && (err != nil || !ph.counts()):
		done = ""
	case err != nil:
		done = ph.name + " stopped after"
	}
	ph.end(done)
}

// show draws the phase at each interval until it ends.
func (ph *phase) show() {
	if ph.p.quiet {
		return
	}
	interval, draw := plainInterval, func() { ph.p.print(ph.name + " " + ph.line() + " …") }
	if ph.p.env.ErrTerminal && ph.p.env.Getenv("TERM") != "dumb" {
		interval, draw = drawInterval, func() { ph.p.draw(ph) }
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ph.stop:
			return
		case <-ticker.C:
			draw()
		}
	}
}

// draw replaces the last bar by the current one of the phase.
func (p *progress) draw(ph *phase) {
	width := p.env.Width(p.env.Err)
	if width == 0 {
		width = 80 // the terminal does not know its width
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.turn++
	p.clear()
	if line := barLine(ph, width, p.turn); line != "" {
		fmt.Fprint(p.env.Err, line)
		p.drawn = true
	}
}

// clear removes the bar from the screen. The caller holds mu.
func (p *progress) clear() {
	if p.drawn {
		fmt.Fprint(p.env.Err, "\r\x1b[K")
		p.drawn = false
	}
}

// print prints a line above the bar.
func (p *progress) print(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.line(line)
}

// line is print for a caller that holds mu.
func (p *progress) line(text string) {
	p.clear()
	fmt.Fprintln(p.env.Err, text)
}

// note prints a message above the bar, even if quiet is true. The text may contain names from a storage or
// a registry, so it is escaped.
func (p *progress) note(text string) {
	p.print(human.Fold("regsweep: "+human.Printable(text), p.env.Width(p.env.Err)))
}

// hint prints a note if a phase is running and quiet is false.
func (p *progress) hint(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running && !p.quiet {
		p.line("regsweep: " + text)
	}
}

// line returns the amounts and the time of a phase, such as
// "1,234 of 5,000 names, 1.2 GiB in 3s (411/s)".
func (ph *phase) line() string {
	elapsed := ph.p.env.Now().Sub(ph.start)
	took := elapsed.Round(100 * time.Millisecond).String()
	if !ph.counts() {
		return "in " + took
	}
	return ph.amount() + " in " + took + ph.rate(elapsed, " (%s/s)")
}

// counts reports whether the phase counts things.
func (ph *phase) counts() bool { return ph.unit != "" || ph.total.Load() > 0 || ph.n.Load() > 0 }

// amount returns the counts of a phase, such as "1,234 of 5,000 names, 1.2 GiB of 4.5 GiB".
func (ph *phase) amount() string {
	text := ph.count()
	if bytes, total := ph.bytes.Load(), ph.totalBytes.Load(); bytes < total {
		text += ", " + human.Size(bytes) + " of " + human.Size(total)
	} else if bytes > 0 {
		text += ", " + human.Size(bytes)
	}
	return text
}

// count returns the number of things, such as "1,234 of 5,000 names".
func (ph *phase) count() string {
	n, total := ph.n.Load(), ph.total.Load()
	text := human.Count(n)
	if n < total {
		text += " of " + human.Count(total)
	}
	if ph.unit == "" {
		return text
	}
	return text + " " + human.Noun(max(n, total), ph.unit)
}

// rate returns the number of things per second in this format, or "" in the first second.
func (ph *phase) rate(elapsed time.Duration, format string) string {
	n := ph.n.Load()
	if elapsed < time.Second || n == 0 {
		return ""
	}
	return fmt.Sprintf(format, human.Count(int64(float64(n)/elapsed.Seconds())))
}

// left returns the remaining time at the rate so far, or "" if it is not known.
func (ph *phase) left(elapsed time.Duration) string {
	n, total := ph.n.Load(), ph.total.Load()
	if elapsed < time.Second || n == 0 || n >= total {
		return ""
	}
	rest := time.Duration(float64(elapsed) / float64(n) * float64(total-n))
	return ", " + rest.Round(time.Second).String() + " left"
}
