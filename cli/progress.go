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
	// plainInterval is the time between two lines where there is no terminal.
	plainInterval = 30 * time.Second
)

// progress shows on standard error how a run goes on: a bar on a terminal, a line now
// and then elsewhere, nothing where nothing is wanted.
type progress struct {
	env   Env
	quiet bool

	// mu makes one writer of all that write to standard error.
	mu      sync.Mutex
	running bool // a phase is
	drawn   bool // there is a bar on the screen, in the line of the cursor
	turn    int
}

func newProgress(env Env, quiet bool) *progress { return &progress{env: env, quiet: quiet} }

// newProgress makes what the command shows.
func (r *runner) newProgress(quiet bool) *progress {
	r.shown = newProgress(r.env, quiet)
	return r.shown
}

// phase is one part of a run. What counts in it may be called from any goroutine, and
// millions of times a second: one goroutine of the phase's own looks at the counters
// now and then.
type phase struct {
	p                 *progress
	name, unit        string
	start             time.Time
	n, total          atomic.Int64
	bytes, totalBytes atomic.Int64
	stop              chan struct{}
	shown             sync.WaitGroup
}

// begin begins a part of which total things are expected, 0 if that is not known yet.
func (p *progress) begin(name, unit string, total int) *phase {
	ph := &phase{p: p, name: name, unit: unit, start: p.env.Now(), stop: make(chan struct{})}
	ph.total.Store(int64(total))
	p.mu.Lock()
	p.running = true
	p.mu.Unlock()
	ph.shown.Go(ph.show)
	return ph
}

// expect says how many there will be.
func (ph *phase) expect(total int) { ph.total.Store(int64(total)) }

// expectBytes says how many bytes they will have.
func (ph *phase) expectBytes(total int64) { ph.totalBytes.Store(total) }

// add counts n more.
func (ph *phase) add(n int) { ph.n.Add(int64(n)) }

// addBytes counts n more, of so many bytes together.
func (ph *phase) addBytes(n int, bytes int64) {
	ph.n.Add(int64(n))
	ph.bytes.Add(bytes)
}

// end takes the bar away and leaves what was done in its place, unless that is "".
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

// endWith ends the phase with a word for what was done. A phase that did nothing says nothing, and
// one that failed says how far it came.
func (ph *phase) endWith(done string, err error) {
	switch {
	case ph.n.Load() == 0 && (err != nil || !ph.counts()):
		done = ""
	case err != nil:
		done = ph.name + " stopped after"
	}
	ph.end(done)
}

// show draws the phase until it ends.
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

// draw puts a phase's bar in the place of the last one.
func (p *progress) draw(ph *phase) {
	width := p.env.Width(p.env.Err)
	if width == 0 {
		width = 80 // a terminal that does not say
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.turn++
	p.clear()
	if line := drawing(ph, width, p.turn); line != "" {
		fmt.Fprint(p.env.Err, line)
		p.drawn = true
	}
}

// clear takes the bar off the screen.
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

func (p *progress) line(text string) {
	p.clear()
	fmt.Fprintln(p.env.Err, text)
}

// note is a print of something that is no progress, as all other messages are printed.
func (p *progress) note(text string) {
	p.print(human.Fold("regsweep: "+human.Printable(text), p.env.errWidth()))
}

// hint is a note that matters only while something is going on.
func (p *progress) hint(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running && !p.quiet {
		p.line("regsweep: " + text)
	}
}

// line says how far a phase has come, as in "1,234 of 5,000 names, 1.2 GiB in 3s (411/s)".
func (ph *phase) line() string {
	elapsed := ph.p.env.Now().Sub(ph.start)
	took := elapsed.Round(100 * time.Millisecond).String()
	if !ph.counts() {
		return "in " + took
	}
	return ph.amount() + " in " + took + ph.rate(elapsed, " (%s/s)")
}

// counts reports whether there is anything to count in the phase.
func (ph *phase) counts() bool { return ph.unit != "" || ph.total.Load() > 0 || ph.n.Load() > 0 }

// amount is as in "1,234 of 5,000 names, 1.2 of 4.5 GiB".
func (ph *phase) amount() string {
	text := ph.count()
	if bytes, total := ph.bytes.Load(), ph.totalBytes.Load(); bytes < total {
		text += ", " + human.Size(bytes) + " of " + human.Size(total)
	} else if bytes > 0 {
		text += ", " + human.Size(bytes)
	}
	return text
}

func (ph *phase) count() string {
	n, total := ph.n.Load(), ph.total.Load()
	text := human.Count(n)
	if n < total {
		text += " of " + human.Count(total)
	}
	if ph.unit == "" {
		return text
	}
	if n < total {
		n = total
	}
	return text + " " + human.Noun(n, ph.unit)
}

// rate is how many were done in a second, where that says something.
func (ph *phase) rate(elapsed time.Duration, format string) string {
	n := ph.n.Load()
	if elapsed < time.Second || n == 0 {
		return ""
	}
	return fmt.Sprintf(format, human.Count(int64(float64(n)/elapsed.Seconds())))
}

// left is how long the rest will take at this rate, where that can be told.
func (ph *phase) left(elapsed time.Duration) string {
	n, total := ph.n.Load(), ph.total.Load()
	if elapsed < time.Second || n == 0 || n >= total {
		return ""
	}
	rest := time.Duration(float64(elapsed) / float64(n) * float64(total-n))
	return ", " + rest.Round(time.Second).String() + " left"
}
