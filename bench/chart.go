package main

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// charted are the comparisons that the chart and the README show.
var charted = []struct {
	key   string
	title func(Section, Case) string
}{
	{"fs warm", func(s Section, _ Case) string {
		return fmt.Sprintf("Dry run, filesystem: %s blobs in %d repositories", number(s.Size.Blobs), s.Size.Repositories)
	}},
	{"fs cold", func(Section, Case) string { return "The same with nothing in the kernel's cache" }},
	{"fs warm -m", func(Section, Case) string { return "With untagged manifests (-m), in the kernel's cache" }},
	{"repo -m", func(s Section, _ Case) string {
		return fmt.Sprintf("Dry run, one repository: %s tags, %s untagged (-m)", number(s.Size.Tags), number(s.Size.Manifests-s.Size.Tags))
	}},
	{"removal", func(_ Section, c Case) string {
		return fmt.Sprintf("Removal of %s blobs, filesystem", number(c.Garbage.Blobs))
	}},
	{"removal memory", func(Section, Case) string { return "The same in memory, with no disk to wait for" }},
	{"s3 0ms", func(s Section, _ Case) string {
		return fmt.Sprintf("Dry run, S3: %s objects, no latency", number(s.Size.Files))
	}},
	{"s3 15ms", func(Section, Case) string { return "The same with 15 ms for each answer" }},
}

// The chart's measures. It stands on light and on dark pages: it has no background, its
// grey is as far from white as from black, and each bar's colour is seen on both.
const (
	chartWidth  = 860
	chartLeft   = 150 // where the bars begin
	chartRight  = 690 // where the scale ends; figures follow
	barHeight   = 17
	barStep     = 22
	titleHeight = 26
	groupGap    = 14
	chartTop    = 16
	ink         = "#7b7b7b"
)

var barColours = map[string]string{
	nameRegsweep: "#2f9e5b",
	nameFloor:    "#8f979f",
	nameRelease2: "#c98a1b",
	nameRelease3: "#d1583f",
}

// chart is the bars of the medians as SVG, on one logarithmic scale.
func (r Results) chart() string {
	var body strings.Builder
	low, high := r.bounds()
	at := func(seconds float64) float64 {
		return chartLeft + (chartRight-chartLeft)*(math.Log10(seconds)-low)/(high-low)
	}
	y := chartTop
	for _, group := range charted {
		section, c, found := r.find(group.key)
		if !found {
			continue
		}
		fmt.Fprintf(&body, `<text x="0" y="%d" class="title">%s</text>`+"\n", y+14, html.EscapeString(group.title(section, c)))
		y += titleHeight
		var bars strings.Builder // over the scale's lines
		first := y
		for _, p := range c.Programs {
			colour, shown := barColours[p.Name]
			if !shown || len(p.Runs) == 0 {
				continue
			}
			label := duration(p.seconds())
			if times, known := c.times(p.Name, nameRegsweep); known && p.Name != nameRegsweep && p.Name != nameFloor {
				label += ", " + factor(times)
			}
			width := max(2, at(p.seconds())-chartLeft)
			fmt.Fprintf(&bars, `<text x="%d" y="%d" class="name">%s</text>`, chartLeft-10, y+13, p.Name)
			fmt.Fprintf(&bars, `<rect x="%d" y="%d" width="%.1f" height="%d" rx="2" fill="%s"/>`, chartLeft, y, width, barHeight, colour)
			fmt.Fprintf(&bars, `<text x="%.1f" y="%d">%s</text>`+"\n", chartLeft+width+8, y+13, label)
			y += barStep
		}
		for power := int(low); power <= int(high); power++ {
			x := at(math.Pow10(power))
			fmt.Fprintf(&body, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="%s" stroke-opacity="0.3"/>`+"\n", x, first-3, x, y, ink)
		}
		body.WriteString(bars.String())
		y += groupGap
	}
	var out strings.Builder
	height := y + 44
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="Seconds that regsweep and registry garbage-collect take, on a logarithmic scale">`+"\n", chartWidth, height, chartWidth, height)
	fmt.Fprintf(&out, "<style>text{font:13px system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif;fill:%s}.title{font-weight:600;font-size:14px}.name,.tick{text-anchor:end}.tick{text-anchor:middle;font-size:12px}</style>\n", ink)
	for power := int(low); power <= int(high); power++ {
		fmt.Fprintf(&out, `<text x="%.1f" y="%d" class="tick">%g s</text>`+"\n", at(math.Pow10(power)), y+2, math.Pow10(power))
	}
	fmt.Fprintf(&out, `<text x="%d" y="%d" class="tick">median time, each step ten times the one before; × is how many times as long as regsweep</text>`+"\n", (chartLeft+chartRight)/2, y+26)
	out.WriteString(body.String() + "</svg>\n")
	return out.String()
}

// bounds are the powers of ten, in seconds, that hold all bars.
func (r Results) bounds() (low, high float64) {
	low, high = math.Inf(1), math.Inf(-1)
	for _, group := range charted {
		_, c, _ := r.find(group.key)
		for _, p := range c.Programs {
			if barColours[p.Name] != "" && len(p.Runs) > 0 {
				low = min(low, math.Floor(math.Log10(p.seconds())))
				high = max(high, math.Ceil(math.Log10(p.seconds())))
			}
		}
	}
	if low >= high { // nothing, or a bar that is a power of ten
		return -1, 1
	}
	return low, high
}
