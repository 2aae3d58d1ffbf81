package progress

import (
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/schollz/progressbar/v3"
)

const (
	// minBar and maxBar limit the width of a bar between its ends. All widths are in columns.
	minBar, maxBar = 8, 40
	// fixedWidth is the width of the percentage, of the ends of the bar, and of the spaces.
	fixedWidth = 10
	// margin stays free at the end of the line. A terminal prints ^C there if the user presses
	// Ctrl-C, and without this space it would begin a new line.
	margin = 4
)

// spinner has the frames of the spinner, which replaces the bar if there is no total. Each drawing shows
// the next frame.
var spinner = []string{"⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"}

// barLine returns the line that shows a phase on a terminal of this width. It has a bar if the total is
// known, and a spinner otherwise. It returns "" if not even the name of the phase fits. turn selects
// the frame of the spinner.
func barLine(ph *Phase, columns, turn int) string {
	done, total := ph.done()
	available := columns - margin - fixedWidth
	if total > 0 {
		available -= minBar
	}
	text := phaseText(ph, available)
	if text == "" {
		return ""
	}
	options := []progressbar.Option{
		progressbar.OptionSetWriter(io.Discard), // only String is used
		progressbar.OptionSetDescription(text),
		progressbar.OptionSetPredictTime(false),
		progressbar.OptionSetElapsedTime(false),
		progressbar.OptionSpinnerCustom([]string{spinner[turn%len(spinner)]}),
		progressbar.OptionSetSpinnerChangeInterval(0), // no goroutine that draws
		progressbar.OptionSetTheme(progressbar.Theme{Saucer: "=", SaucerHead: ">", SaucerPadding: " ", BarStart: "[", BarEnd: "]"}),
	}
	if total > 0 {
		options = append(options, progressbar.OptionSetWidth(min(maxBar, minBar+available-utf8.RuneCountInString(text))))
	} else {
		total = -1
	}
	bar := progressbar.NewOptions64(total, options...)
	// progressbar does not draw a full bar.
	if n := min(done, total-1); n > 0 && bar.Set64(n) != nil || bar.RenderBlank() != nil {
		return ""
	}
	return strings.TrimSpace(bar.String())
}

// phaseText returns the longest text about a phase that fits in this many columns, or "" if not even its
// name fits.
func phaseText(ph *Phase, columns int) string {
	elapsed := ph.p.Now().Sub(ph.start)
	elapsedText := ", " + elapsed.Truncate(time.Second).String()
	texts := []string{ph.name + elapsedText, ph.name}
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
