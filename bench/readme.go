package main

import (
	"fmt"
	"strings"
)

// The part of the README that is ours lies between these lines.
const (
	readmeBegin = "<!-- what follows is written by make bench -->\n"
	readmeEnd   = "<!-- until here -->\n"
)

// intoReadme puts the chart and the main ratios between the README's marks.
func (r Results) intoReadme(readme string) (string, error) {
	before, rest, found := strings.Cut(readme, readmeBegin)
	_, after, ends := strings.Cut(rest, readmeEnd)
	if !found || !ends {
		return "", fmt.Errorf("%s has no place for the results: it lies between %q and %q", readmeFile, readmeBegin, readmeEnd)
	}
	var b strings.Builder
	b.WriteString("\n![Seconds that regsweep and registry garbage-collect take](" + chartFile + ")\n\n")
	b.WriteString("| | regsweep | times 2.8 | times v3.1.2 | peak memory |\n|---|--:|--:|--:|--:|\n")
	for _, group := range charted {
		section, c, found := r.find(group.key)
		own, ran := c.program(nameRegsweep)
		if !found || !ran {
			continue
		}
		cell := func(name string) string {
			if times, known := c.times(name, nameRegsweep); known {
				return factor(times)
			}
			return ""
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", group.title(section, c), duration(own.seconds()),
			cell(nameRelease2), cell(nameRelease3), megabytes(own.peak()))
	}
	b.WriteString("\n")
	return before + readmeBegin + b.String() + readmeEnd + after, nil
}
