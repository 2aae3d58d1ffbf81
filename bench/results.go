package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"regsweep/bench/generate"
)

// Results are all that is known, by section. They are kept in results.json.
type Results struct {
	Sections map[string]Section `json:"sections"`
}

// Section is what was measured together, on one machine.
type Section struct {
	Title   string        `json:"title"`
	Date    string        `json:"date"`
	Flags   string        `json:"flags"` // of the bench, as they were given
	Machine Machine       `json:"machine"`
	Size    generate.Size `json:"size"`
	Notes   []string      `json:"notes,omitempty"`
	Cases   []Case        `json:"cases"`
}

// Case is one comparison: the same work on the same data.
type Case struct {
	Key      string           `json:"key"`
	Title    string           `json:"title"`
	Garbage  generate.Garbage `json:"garbage"` // what there is to find
	Programs []Program        `json:"programs"`
}

// Program is how one contender did.
type Program struct {
	Name    string `json:"name"`
	Line    string `json:"line"`
	Skipped string `json:"skipped,omitempty"` // why it has no runs
	Found   Found  `json:"found"`
	Runs    []Run  `json:"runs,omitempty"`
}

// Run is what one run took. The first three are the meter's.
type Run struct {
	Seconds    float64 `json:"seconds"`
	CPUSeconds float64 `json:"cpu_seconds"`
	PeakBytes  int64   `json:"peak_bytes"`
	// Requests are what the proxy counted; nil on a filesystem.
	Requests *Requests `json:"requests,omitempty"`
}

const (
	resultsFile  = "bench/results.json"
	markdownFile = "bench/RESULTS.md"
	chartFile    = "docs/bench.svg"
	readmeFile   = "README.md"
)

// readResults reads what is known below the module's directory; nothing is no error,
// and "" knows nothing.
func readResults(top string) (Results, error) {
	results := Results{Sections: map[string]Section{}}
	if top == "" {
		return results, nil
	}
	text, err := os.ReadFile(filepath.Join(top, resultsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return results, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &results)
	}
	if err != nil {
		return results, fmt.Errorf("earlier results: %w", err)
	}
	return results, nil
}

// write writes the results, and all that is made of them.
func (r Results) write(top string) error {
	if top == "" {
		return nil
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	readme, err := os.ReadFile(filepath.Join(top, readmeFile))
	if err != nil {
		return err
	}
	told, err := r.intoReadme(string(readme))
	if err != nil {
		return err
	}
	for path, content := range map[string]string{
		resultsFile:  string(text) + "\n",
		markdownFile: r.markdown(),
		chartFile:    r.chart(),
		readmeFile:   told,
	} {
		if err := os.WriteFile(filepath.Join(top, path), []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// find is a comparison by its key, with its section.
func (r Results) find(key string) (Section, Case, bool) {
	for _, section := range r.Sections {
		for _, c := range section.Cases {
			if c.Key == key {
				return section, c, true
			}
		}
	}
	return Section{}, Case{}, false
}

// program is a contender that has run.
func (c Case) program(name string) (Program, bool) {
	for _, p := range c.Programs {
		if p.Name == name && len(p.Runs) > 0 {
			return p, true
		}
	}
	return Program{}, false
}

// times is how many times as long as the other the one takes, by their medians.
func (c Case) times(one, other string) (float64, bool) {
	p, found := c.program(one)
	q, also := c.program(other)
	if !found || !also {
		return 0, false
	}
	return p.seconds() / q.seconds(), true
}

// seconds is the median.
func (p Program) seconds() float64 {
	return median(p.Runs, func(r Run) float64 { return r.Seconds })
}

func (p Program) cpuSeconds() float64 {
	return median(p.Runs, func(r Run) float64 { return r.CPUSeconds })
}

func (p Program) fastest() float64 {
	return slices.MinFunc(p.Runs, func(a, b Run) int { return cmp.Compare(a.Seconds, b.Seconds) }).Seconds
}

func (p Program) slowest() float64 {
	return slices.MaxFunc(p.Runs, func(a, b Run) int { return cmp.Compare(a.Seconds, b.Seconds) }).Seconds
}

// peak is the largest of all runs.
func (p Program) peak() int64 {
	var peak int64
	for _, run := range p.Runs {
		peak = max(peak, run.PeakBytes)
	}
	return peak
}

// requests are those of the run with the most; there are none on a filesystem.
func (p Program) requests() (most Requests, counted bool) {
	for _, run := range p.Runs {
		if run.Requests != nil && (!counted || run.Requests.Total() > most.Total()) {
			most, counted = *run.Requests, true
		}
	}
	return most, counted
}

// median is that of a number of each run; of an even number of runs, the mean of the
// middle two.
func median(runs []Run, of func(Run) float64) float64 {
	values := make([]float64, len(runs))
	for i, run := range runs {
		values[i] = of(run)
	}
	slices.Sort(values)
	middle := len(values) / 2
	if len(values)%2 == 1 {
		return values[middle]
	}
	return (values[middle-1] + values[middle]) / 2
}
