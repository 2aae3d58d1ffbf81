// Package progress shows the progress of a run on standard error, and prints messages between.
package progress

import (
	"fmt"
	"io"
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

// Options say where and how progress is shown.
type Options struct {
	Out   io.Writer
	Draw  bool       // a terminal that can draw a bar
	Width func() int // of the terminal in columns, 0 if Out is none
	Now   func() time.Time
	Quiet bool // show neither bars nor lines
}

// Progress shows the progress of a run: a bar on a terminal, and a line every plainInterval elsewhere. Its
// methods may be called concurrently.
type Progress struct {
	Options

	mu      sync.Mutex // held for each write to Out
	running bool       // a phase has begun and has not ended
	drawn   bool       // the line of the cursor shows a bar
	turn    int        // counts the drawings, for the spinner
	step    string     // what the run does, such as "listing"
}

// New returns a Progress without a phase.
func New(o Options) *Progress { return &Progress{Options: o} }

// Phase is one part of a run. Any goroutine may call Add, AddBytes, Expect and ExpectBytes, millions of
// times per second: they only change counters. The phase has one goroutine that draws.
type Phase struct {
	p                 *Progress
	name, unit        string
	start             time.Time
	n, total          atomic.Int64
	bytes, totalBytes atomic.Int64
	byBytes           atomic.Bool // see ExpectContent
	stop              chan struct{}
	shown             sync.WaitGroup
}

// Begin begins a phase. total is the expected number of things, or 0 if it is not known yet. unit is
// the noun of one thing, or "".
func (p *Progress) Begin(name, unit string, total int) *Phase {
	ph := &Phase{p: p, name: name, unit: unit, start: p.Now(), stop: make(chan struct{})}
	ph.total.Store(int64(total))
	p.enter(name, true)
	ph.shown.Go(ph.show)
	return ph
}

// Enter notes what the run does now, outside of a phase.
func (p *Progress) Enter(step string) { p.enter(step, false) }

func (p *Progress) enter(step string, running bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.step, p.running = step, running
}

// Step returns what the run does or did last, such as "listing".
func (p *Progress) Step() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.step
}

// Expect sets the expected number of things.
func (ph *Phase) Expect(total int) { ph.total.Store(int64(total)) }

// ExpectBytes sets the expected number of bytes.
func (ph *Phase) ExpectBytes(total int64) { ph.totalBytes.Store(total) }

// ExpectContent sets the expected number of things and of their bytes. The phase then shows bytes per second,
// and the remaining time by the bytes: a thing takes as long as it is large.
func (ph *Phase) ExpectContent(total int, bytes int64) {
	ph.Expect(total)
	ph.ExpectBytes(bytes)
	ph.byBytes.Store(true)
}

// done returns how much is done, and how much is expected.
func (ph *Phase) done() (done, total int64) {
	if ph.byBytes.Load() {
		return ph.bytes.Load(), ph.totalBytes.Load()
	}
	return ph.n.Load(), ph.total.Load()
}

// Add counts n things.
func (ph *Phase) Add(n int) { ph.n.Add(int64(n)) }

// AddBytes counts n things and their bytes.
func (ph *Phase) AddBytes(n int, bytes int64) {
	ph.n.Add(int64(n))
	ph.bytes.Add(bytes)
}

// End removes the bar. If done is not "", it prints done and the amounts in its place.
func (ph *Phase) End(done string) {
	close(ph.stop)
	ph.shown.Wait()
	ph.p.mu.Lock()
	defer ph.p.mu.Unlock()
	ph.p.running = false
	ph.p.clear()
	if done != "" && !ph.p.Quiet {
		ph.p.line(done + " " + ph.line())
	}
}

// EndWith ends the phase and prints done and the amounts. If err is not nil, it prints how far the phase
// came. It prints nothing if the phase counted nothing.
func (ph *Phase) EndWith(done string, err error) {
	switch {
	case ph.n.Load() == 0 && (err != nil || !ph.counts()):
		done = ""
	case err != nil:
		done = ph.name + " stopped after"
	}
	ph.End(done)
}

// show draws the phase at each interval until it ends.
func (ph *Phase) show() {
	if ph.p.Quiet {
		return
	}
	interval, draw := plainInterval, func() { ph.p.print(ph.name + " " + ph.line() + " …") }
	if ph.p.Draw {
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
func (p *Progress) draw(ph *Phase) {
	width := p.Width()
	if width == 0 {
		width = 80 // the terminal does not know its width
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.turn++
	p.clear()
	if line := barLine(ph, width, p.turn); line != "" {
		fmt.Fprint(p.Out, line)
		p.drawn = true
	}
}

// clear removes the bar from the screen. The caller holds mu.
func (p *Progress) clear() {
	if p.drawn {
		fmt.Fprint(p.Out, "\r\x1b[K")
		p.drawn = false
	}
}

// print prints a line above the bar.
func (p *Progress) print(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.line(line)
}

// line is print for a caller that holds mu.
func (p *Progress) line(text string) {
	p.clear()
	fmt.Fprintln(p.Out, text)
}

// Note prints a message above the bar, even with Quiet. The text may contain names from a storage or
// a registry, so it is escaped.
func (p *Progress) Note(text string) {
	p.print(human.Fold("regsweep: "+human.Printable(text), p.Width()))
}

// Hint prints a note if a phase is running and Quiet is false.
func (p *Progress) Hint(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running && !p.Quiet {
		p.line("regsweep: " + text)
	}
}

// line returns the amounts and the time of a phase, such as
// "1,234 of 5,000 names, 1.2 GiB in 3s (411/s)".
func (ph *Phase) line() string {
	elapsed := ph.p.Now().Sub(ph.start)
	took := elapsed.Round(100 * time.Millisecond).String()
	if !ph.counts() {
		return "in " + took
	}
	return ph.amount() + " in " + took + ph.rate(elapsed, " (%s/s)")
}

// counts reports whether the phase counts things.
func (ph *Phase) counts() bool { return ph.unit != "" || ph.total.Load() > 0 || ph.n.Load() > 0 }

// amount returns the counts of a phase, such as "1,234 of 5,000 names, 1.2 GiB of 4.5 GiB".
func (ph *Phase) amount() string {
	text := ph.count()
	if bytes, total := ph.bytes.Load(), ph.totalBytes.Load(); bytes < total {
		text += ", " + human.Size(bytes) + " of " + human.Size(total)
	} else if bytes > 0 {
		text += ", " + human.Size(bytes)
	}
	return text
}

// count returns the number of things, such as "1,234 of 5,000 names".
func (ph *Phase) count() string {
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

// rate returns the number of things, or of bytes, per second in this format, or "" in the first second.
func (ph *Phase) rate(elapsed time.Duration, format string) string {
	n, _ := ph.done()
	if elapsed < time.Second || n == 0 {
		return ""
	}
	rate := int64(float64(n) / elapsed.Seconds())
	if ph.byBytes.Load() {
		return fmt.Sprintf(format, human.Size(rate))
	}
	return fmt.Sprintf(format, human.Count(rate))
}

// left returns the remaining time at the rate so far, or "" if it is not known.
func (ph *Phase) left(elapsed time.Duration) string {
	n, total := ph.done()
	if elapsed < time.Second || n == 0 || n >= total {
		return ""
	}
	rest := time.Duration(float64(elapsed) / float64(n) * float64(total-n))
	return ", " + rest.Round(time.Second).String() + " left"
}
