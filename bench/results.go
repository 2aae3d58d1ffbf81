package main

import (
	"fmt"
	"slices"
	"strings"

	"regsweep/bench/generate"
	"regsweep/internal/human"
)

// Case is one comparison: the same work on the same data.
type Case struct {
	Title    string
	Garbage  generate.Garbage // what there is to find
	Programs []Program
}

// Program is how one contender did.
type Program struct {
	Name    string
	Skipped string // why it has no runs
	Found   Found
	Runs    []Run
}

// Run is what one run took. The first three are the meter's.
type Run struct {
	Seconds    float64 `json:"seconds"`
	CPUSeconds float64 `json:"cpu_seconds"`
	PeakBytes  int64   `json:"peak_bytes"`
	// Requests are what the proxy counted; none on a filesystem.
	Requests Requests `json:"-"`
}

// table is a Markdown table with a row for each program of each comparison. Times are medians, with
// the fastest and the slowest run. Memory and requests are the largest.
func table(cases []Case) string {
	var b strings.Builder
	b.WriteString("| | | Median | Fastest – slowest | Against regsweep | CPU | Peak memory | Requests: list, get, head, put, delete |\n|---|---|--:|--:|--:|--:|--:|---|\n")
	for _, c := range cases {
		for i, p := range c.Programs {
			title := c.Title
			if i > 0 {
				title = ""
			}
			if len(p.Runs) == 0 {
				fmt.Fprintf(&b, "| %s | %s | %s | | | | | |\n", title, p.Name, p.Skipped)
				continue
			}
			seconds := p.sorted(func(r Run) float64 { return r.Seconds })
			cpu := p.sorted(func(r Run) float64 { return r.CPUSeconds })
			peak := p.sorted(func(r Run) float64 { return float64(r.PeakBytes) })
			own := c.Programs[0].sorted(func(r Run) float64 { return r.Seconds }) // regsweep's
			fmt.Fprintf(&b, "| %s | %s | %.3f s | %.3f – %.3f s | %.2f × | %.3f s | %.0f MB | %s |\n", title, p.Name,
				median(seconds), seconds[0], seconds[len(seconds)-1], median(seconds)/median(own),
				median(cpu), peak[len(peak)-1]/1e6, p.requests())
		}
	}
	return b.String()
}

// sorted are a number of each run, the smallest first.
func (p Program) sorted(of func(Run) float64) []float64 {
	values := make([]float64, len(p.Runs))
	for i, run := range p.Runs {
		values[i] = of(run)
	}
	slices.Sort(values)
	return values
}

// requests are those of the run with the most; "" on a filesystem.
func (p Program) requests() string {
	var most Requests
	for _, run := range p.Runs {
		if run.Requests.Total() > most.Total() {
			most = run.Requests
		}
	}
	if most.Total() == 0 {
		return ""
	}
	var counts []string
	for _, n := range []int64{most.List, most.Get, most.Head, most.Put, most.Delete} {
		counts = append(counts, human.Count(n))
	}
	return strings.Join(counts, ", ")
}

// median is that of sorted numbers; of an even number, the mean of the middle two.
func median(sorted []float64) float64 {
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}
