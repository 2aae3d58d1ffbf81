package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// tiny are options that take seconds, with results in a directory that looks like the
// module's.
func tiny(t *testing.T) options {
	t.Helper()
	top := t.TempDir()
	for _, dir := range []string{"bench", "docs"} {
		if err := os.Mkdir(filepath.Join(top, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	readme := "before\n" + readmeBegin + "old\n" + readmeEnd + "after\n"
	if err := os.WriteFile(filepath.Join(top, readmeFile), []byte(readme), 0o644); err != nil {
		t.Fatal(err)
	}
	return options{
		top: top, dir: t.TempDir(), seed: 7, rounds: 1, patience: time.Minute, latency: []time.Duration{0},
		repositories: 4, tags: 12, untagged: 4, s3Repositories: 1, line: "-tiny",
	}
}

func measured(t *testing.T, o options) Results {
	t.Helper()
	var out bytes.Buffer
	if err := run(t.Context(), o, &out); err != nil {
		t.Fatalf("%s\n%s", err, &out)
	}
	results, err := readResults(o.top)
	if err != nil {
		t.Fatal(err)
	}
	return results
}

// That regsweep's figures are the generator's, and that what a removal left is what it
// should be, the harness sees to itself: a run with other figures is an error.
func TestAllCollectorsAreComparedOnTheSameData(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a registry's releases and MinIO the first time")
	}
	o := tiny(t)
	results := measured(t, o)
	if got := slices.Sorted(maps.Keys(results.Sections)); !slices.Equal(got, []string{"fs", "removal", "repo", "s3"}) {
		t.Fatalf("sections are %q", got)
	}
	compared := map[string][]string{
		"fs warm":    {nameRegsweep, nameFloor, nameRelease3},
		"fs warm -m": {nameRegsweep, nameFloor, nameRelease3},
		"repo":       {nameRegsweep, nameFloor, nameRelease3},
		"repo -m":    {nameRegsweep, nameFloor, nameRelease3},
		"removal":    {nameRegsweep, nameRelease3},
		"s3 0ms":     {nameRegsweep, nameFloor, nameRelease3},
		"s3 removal": {nameRegsweep},
	}
	if dir, err := inMemory(); err == nil {
		compared["removal memory"] = compared["removal"]
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	}
	for key, wants := range compared {
		_, c, found := results.find(key)
		if !found {
			t.Errorf("%s was not measured", key)
			continue
		}
		if c.Garbage.Blobs == 0 {
			t.Errorf("%s: there is no garbage to find", key)
		}
		for _, name := range wants {
			p, ran := c.program(name)
			if !ran || p.seconds() <= 0 || p.cpuSeconds() <= 0 || p.peak() < 1e6 {
				t.Errorf("%s: %s took %+v", key, name, p.Runs)
			}
		}
		for _, p := range c.Programs {
			if len(p.Runs) == 0 || p.Name == nameFloor {
				continue
			}
			// Without -m the releases are right, and with it wrong where there are
			// referrers or indexes.
			right := !strings.HasSuffix(key, "-m") || p.Name == nameRegsweep || key == "repo -m"
			if right && p.Found.Blobs != c.Garbage.Blobs {
				t.Errorf("%s: %s finds %d blobs of %d", key, p.Name, p.Found.Blobs, c.Garbage.Blobs)
			}
			if !right && p.Found.Blobs < c.Garbage.Blobs {
				t.Errorf("%s: %s finds only %d blobs of %d", key, p.Name, p.Found.Blobs, c.Garbage.Blobs)
			}
		}
	}
	requestsAreCounted(t, results)
	everythingIsWritten(t, o.top)

	// One section measured alone replaces that one.
	o.only, o.seed = []string{"repo"}, 8
	again := measured(t, o)
	if reflect.DeepEqual(again.Sections["repo"], results.Sections["repo"]) {
		t.Error("the section that was measured again is the old one")
	}
	for _, name := range []string{"fs", "removal", "s3"} {
		if !reflect.DeepEqual(again.Sections[name], results.Sections[name]) {
			t.Errorf("section %s is another now, and was not measured", name)
		}
	}
}

func requestsAreCounted(t *testing.T, results Results) {
	t.Helper()
	section, c, _ := results.find("s3 0ms")
	p, _ := c.program(nameRegsweep)
	counted, _ := p.requests()
	if counted.Get != int64(section.Size.Manifests) || counted.List == 0 || counted.AtOnce == 0 {
		t.Fatalf("%d manifests took %+v", section.Size.Manifests, counted)
	}
	second, _ := c.program(nameSecond)
	if cached, _ := second.requests(); cached.List == 0 || cached.Total() != cached.List {
		t.Errorf("a second run, with the cache, takes %+v", cached)
	}
	own := *p.Found.Requests
	own.Links, own.AtOnce = counted.Links, counted.AtOnce // it does not tell
	if own != counted {
		t.Errorf("regsweep counted %+v, the proxy %+v", own, counted)
	}
	_, removal, _ := results.find("s3 removal")
	p, _ = removal.program(nameRegsweep)
	if counted, _ := p.requests(); counted.Delete == 0 {
		t.Error("keys were removed without a request")
	}
}

func everythingIsWritten(t *testing.T, top string) {
	t.Helper()
	for path, wants := range map[string][]string{
		markdownFile: {"## Targets", "### One repository, with -m", "| least work |", "BENCHFLAGS=\"-tiny -only s3\""},
		chartFile:    {"<svg", "registry v3.1.2"},
		readmeFile:   {"before\n", chartFile, "after\n"},
	} {
		text, err := os.ReadFile(filepath.Join(top, path))
		if err != nil {
			t.Error(err)
			continue
		}
		for _, want := range wants {
			if !strings.Contains(string(text), want) {
				t.Errorf("%s does not have %q", path, want)
			}
		}
	}
}

func TestAWrongFigureEndsTheComparison(t *testing.T) {
	registry := tinyRegistry()
	want := registry.Garbage(false)
	report := func(planned, removed int, problems string) []byte {
		tally := func(blobs int) string { return fmt.Sprintf(`{"blobs": {"count": %d, "bytes": %d}}`, blobs, want.Bytes) }
		return fmt.Appendf(nil, `{"garbage": %s, "removed": %s, "problems": [%s]}`, tally(planned), tally(removed), problems)
	}
	n := want.Blobs
	for _, c := range []struct {
		what              string
		planned, gone     int
		problems          string
		removal, mayStand bool
	}{
		{"the truth", n, 0, "", false, true},
		{"a blob too many", n + 1, 0, "", false, false},
		{"a problem", n, 0, `{"kind": "stray"}`, false, false},
		{"all removed", n, n, "", true, true},
		{"one left", n, n - 1, "", true, false},
	} {
		if _, err := readReport(report(c.planned, c.gone, c.problems), want, c.removal); (err == nil) != c.mayStand {
			t.Errorf("%s: %v", c.what, err)
		}
	}
	if _, err := readSummary([]byte("no summary\n")); err == nil {
		t.Error("a collector without a summary is all right")
	}
	found, err := readSummary([]byte("team/app\n\n5 blobs marked, 23 blobs and 4 manifests eligible for deletion\nblob …\n"))
	if err != nil || found.Blobs != 23 || found.Manifests != 4 {
		t.Errorf("the summary is read as %+v, %v", found, err)
	}
	if _, err := readFloor([]byte(`{"blobs": 1, "tags": 1, "manifests": 1}`), registry.Size()); err == nil {
		t.Error("less than the least work is all right")
	}
}

func TestARemovalIsCheckedOnDisk(t *testing.T) {
	registry, root := tinyRegistry(), t.TempDir()
	if err := registry.WriteTree(t.Context(), root); err != nil {
		t.Fatal(err)
	}
	n := registry.Size().Blobs
	if err := wantBlobs(root, n); err != nil {
		t.Error(err)
	}
	if err := wantBlobs(root, n-1); err == nil {
		t.Error("a blob that should be gone may stay")
	}
}

func TestFlags(t *testing.T) {
	for line, want := range map[string]string{
		"-only fs,nfs":   `-only: "nfs" is no section, they are fs, repo, removal, s3`,
		"-latency 0,x":   `-latency: "x" is no number of milliseconds`,
		"-latency -5":    `-latency: "-5" is no number of milliseconds`,
		"-rounds 0":      "rounds and sizes are at least 1",
		"everything":     "everything is no flag",
		"-quick -tags 0": "rounds and sizes are at least 1",
	} {
		if _, err := parseOptions(strings.Fields(line), new(bytes.Buffer)); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", line, err, want)
		}
	}
	o, err := parseOptions([]string{"-quick", "-tags", "50", "-only", "s3"}, new(bytes.Buffer))
	if err != nil || o.tags != 50 || o.repositories >= 200 || o.top != "" || o.wants("fs") || !o.wants("s3") {
		t.Errorf("%+v, %v", o, err)
	}
	if o, err = parseOptions(nil, new(bytes.Buffer)); err != nil || o.top != "." || !o.wants("fs") {
		t.Errorf("%+v, %v", o, err)
	}
}
