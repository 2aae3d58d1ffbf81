package cli

import (
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/schollz/progressbar/v3"
)

const (
	// leastBar and mostBar are how wide a bar may be between its ends.
	leastBar, mostBar = 8, 40
	// around is what stands beside the text and the bar: a percentage, the bar's
	// ends, and spaces.
	around = 10
	// margin is left free at the end of the line. A terminal shows a Ctrl-C there
	// and, if it did not fit, would break the line.
	margin = 4
)

// spinner turns where there is no total, a step with every drawing.
var spinner = []string{"⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"}

// drawing is a phase as a line for a terminal of so many columns: a bar where its total
// is known, a spinner where not, and nothing where there is no room. It takes the most
// telling text that leaves room for the bar.
func drawing(ph *phase, columns, turn int) string {
	total := ph.total.Load()
	room := columns - margin - around
	if total > 0 {
		room -= leastBar
	}
	text := fitting(ph, room)
	if text == "" {
		return ""
	}
	options := []progressbar.Option{
		progressbar.OptionSetWriter(io.Discard), // it is asked for the line alone
		progressbar.OptionSetDescription(text),
		progressbar.OptionSetPredictTime(false),
		progressbar.OptionSetElapsedTime(false),
		progressbar.OptionSpinnerCustom([]string{spinner[turn%len(spinner)]}),
		progressbar.OptionSetSpinnerChangeInterval(0), // no goroutine that draws
		progressbar.OptionSetTheme(progressbar.Theme{Saucer: "=", SaucerHead: ">", SaucerPadding: " ", BarStart: "[", BarEnd: "]"}),
	}
	if total > 0 {
		options = append(options, progressbar.OptionSetWidth(min(mostBar, leastBar+room-utf8.RuneCountInString(text))))
	} else {
		total = -1
	}
	bar := progressbar.NewOptions64(total, options...)
	// A full bar would count as finished, and not be drawn any more.
	if n := min(ph.n.Load(), total-1); n > 0 && bar.Set64(n) != nil || bar.RenderBlank() != nil {
		return ""
	}
	return strings.TrimSpace(bar.String())
}

// fitting is the most telling text for a phase that takes no more columns than there
// are, or "" where not even its name fits.
func fitting(ph *phase, columns int) string {
	elapsed := ph.p.env.Now().Sub(ph.start)
	took := ", " + elapsed.Truncate(time.Second).String()
	texts := []string{ph.name + took, ph.name}
	if ph.counts() {
		rate := ph.rate(elapsed, ", %s/s")
		texts = []string{
			ph.name + " " + ph.amount() + rate + ph.left(elapsed),
			ph.name + " " + ph.amount() + rate,
			ph.name + " " + ph.count() + rate,
			ph.name + " " + ph.count(),
			ph.name,
		}
	}
	for _, text := range texts {
		if utf8.RuneCountInString(text) <= columns {
			return text
		}
	}
	return ""
}
