package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"

	"regsweep/bench/generate"
)

// The names of the programs in the table.
const (
	nameRegsweep = "regsweep"
	nameSecond   = "regsweep, second run"
	nameAudit    = "regsweep audit"
	nameFloor    = "least work"
	nameRelease2 = "registry 2.8"
	nameRelease3 = "registry v3.1.2"
)

// contender is one program in one comparison.
type contender struct {
	name string
	argv []string
	env  []string
	// read parses the output. It is an error if that is not the truth. The releases of the registry
	// may find what they want.
	read func(output []byte) (Found, error)
	// warm makes an unmeasured run first, whose result does not count.
	warm bool
	// skip says why it is not run at all.
	skip string
}

// Found is what a program says that it has found.
type Found struct {
	Blobs     int // that can go, or for the least work those that are there
	Manifests int // the same: revisions that can go, or manifests read
}

// task is what contenders are asked to do.
type task struct {
	config         string // the path of config.yml
	remove         bool   // else a dry run
	deleteUntagged bool
	registry       *generate.Registry
	cache          string // a directory for the cache of manifests; "" is to have none
}

// regsweep is regsweep, on what the task says. Its figures must be the generator's.
func (b *bench) regsweep(t task) contender {
	c := contender{name: nameRegsweep, argv: []string{b.programs.regsweep, "gc", "--json"}}
	if t.remove {
		c.argv = append(c.argv, "--yes", "--registry-stopped")
	} else {
		c.argv = append(c.argv, "-d")
	}
	if t.deleteUntagged {
		c.argv = append(c.argv, "-m")
	}
	if t.cache == "" {
		c.argv = append(c.argv, "--no-cache")
	} else {
		c.argv = append(c.argv, "--cache", t.cache)
	}
	c.argv = append(c.argv, t.config)
	want := t.registry.Garbage(t.deleteUntagged)
	c.read = func(output []byte) (Found, error) { return readReport(output, want, t.remove) }
	return c
}

// audit is regsweep audit. It must find the generator's garbage.
func (b *bench) audit(t task) contender {
	want := t.registry.Garbage(false)
	return contender{
		name: nameAudit, argv: []string{b.programs.regsweep, "audit", "--json", "--no-cache", t.config},
		read: func(output []byte) (Found, error) { return readAudit(output, want) },
	}
}

// readAudit reads the JSON of an audit and compares it with the truth.
func readAudit(output []byte, want generate.Garbage) (Found, error) {
	var report struct{ Bytes struct{ Garbage int64 } }
	if err := json.Unmarshal(output, &report); err != nil {
		return Found{}, fmt.Errorf("the audit's report: %w", err)
	}
	if report.Bytes.Garbage != want.Bytes {
		return Found{}, fmt.Errorf("the audit finds %d bytes of garbage where there are %d", report.Bytes.Garbage, want.Bytes)
	}
	return Found{Blobs: want.Blobs, Manifests: want.Revisions}, nil
}

// readReport reads the JSON of regsweep and compares it with the truth.
func readReport(output []byte, want generate.Garbage, removed bool) (Found, error) {
	type count struct {
		Count int   `json:"count"`
		Bytes int64 `json:"bytes"`
	}
	type tallies struct {
		Blobs           count `json:"blobs"`
		Revisions       count `json:"revisions"`
		LayerLinks      count `json:"layer_links"`
		TagIndexEntries count `json:"tag_index_entries"`
	}
	var report struct {
		Garbage  tallies           `json:"garbage"`
		Removed  tallies           `json:"removed"`
		Problems []json.RawMessage `json:"problems"`
	}
	if err := json.Unmarshal(output, &report); err != nil {
		return Found{}, fmt.Errorf("regsweep's report: %w", err)
	}
	if len(report.Problems) > 0 {
		return Found{}, fmt.Errorf("regsweep reports problems of a sound registry: %s", report.Problems[0])
	}
	garbage := func(t tallies) generate.Garbage {
		return generate.Garbage{
			Blobs: t.Blobs.Count, Bytes: t.Blobs.Bytes, Revisions: t.Revisions.Count,
			LayerLinks: t.LayerLinks.Count, TagIndexEntries: t.TagIndexEntries.Count,
		}
	}
	if got := garbage(report.Garbage); got != want {
		return Found{}, fmt.Errorf("regsweep finds %+v where there is %+v", got, want)
	}
	if got := garbage(report.Removed); removed && got != want {
		return Found{}, fmt.Errorf("regsweep removed %+v of %+v", got, want)
	}
	return Found{Blobs: report.Garbage.Blobs.Count, Manifests: report.Garbage.Revisions.Count}, nil
}

// release is the collector of a release of the registry.
func (b *bench) release(name, path string, t task) contender {
	c := contender{name: name, argv: []string{path, "garbage-collect"}, read: readSummary}
	if !t.remove {
		c.argv = append(c.argv, "--dry-run")
	}
	if t.deleteUntagged {
		c.argv = append(c.argv, "-m")
	}
	c.argv = append(c.argv, t.config)
	c.env = []string{"OTEL_TRACES_EXPORTER=none"} // it would wait for a collector of traces
	if path == "" {
		c.skip = "not available on this machine"
	}
	return c
}

// releases are the collectors of both releases.
func (b *bench) releases(t task) []contender {
	return []contender{
		b.release(nameRelease2, b.programs.release2, t),
		b.release(nameRelease3, b.programs.release3, t),
	}
}

var summary = regexp.MustCompile(`(?m)^\d+ blobs marked, (\d+) blobs and (\d+) manifests eligible for deletion$`)

// readSummary reads what garbage-collect prints.
func readSummary(output []byte) (Found, error) {
	match := summary.FindSubmatch(output)
	if match == nil {
		return Found{}, errors.New("garbage-collect printed no summary")
	}
	blobs, err := strconv.Atoi(string(match[1]))
	if err != nil {
		return Found{}, err
	}
	manifests, err := strconv.Atoi(string(match[2]))
	return Found{Blobs: blobs, Manifests: manifests}, err
}

// floor is the least work.
func (b *bench) floor(registry *generate.Registry, env []string, args ...string) contender {
	return contender{
		name: nameFloor, argv: append([]string{b.programs.floor}, args...), env: env,
		read: func(output []byte) (Found, error) { return readFloor(output, registry.Size()) },
	}
}

// readFloor sees to it that the least work was not less than that.
func readFloor(output []byte, want generate.Size) (Found, error) {
	var got struct{ Blobs, Tags, Manifests int }
	if err := json.Unmarshal(output, &got); err != nil {
		return Found{}, fmt.Errorf("the least work: %w", err)
	}
	if got.Blobs != want.Blobs || got.Tags != want.Tags || got.Manifests != want.Manifests {
		return Found{}, fmt.Errorf("the least work saw %+v of %+v", got, want)
	}
	return Found{Blobs: got.Blobs, Manifests: got.Manifests}, nil
}
