package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"regsweep/bench/generate"
)

// measured are the comparisons of tiny registries, which take seconds, and the output.
func measured(t *testing.T) (map[string]Case, string) {
	t.Helper()
	var out bytes.Buffer
	dir, err := inMemory() // no disk is measured here
	if err != nil {
		dir = t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	o := options{dir: dir, rounds: 1, patience: time.Minute, repositories: 4, tags: 12, untagged: 4, s3Repositories: 1,
		contentBytes: 5e6, smallBlobs: 20,
		latencies: []time.Duration{0}}
	cases, err := run(t.Context(), o, &out)
	if err != nil {
		t.Fatalf("%s\n%s", err, &out)
	}
	byTitle := map[string]Case{}
	for _, c := range cases {
		byTitle[c.Title] = c
	}
	return byTitle, out.String()
}

// The benchmark itself checks that regsweep's figures are the generator's, and what a removal has left:
// a run with other figures is an error.
func TestAllCollectorsAreComparedOnTheSameData(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a registry's releases and MinIO the first time")
	}
	cases, out := measured(t)
	dry := []string{nameRegsweep, nameFloor, nameRelease3}
	compared := map[string][]string{
		"filesystem, warm cache": append(dry, nameAudit), "filesystem, warm cache, -m": dry, "one repository": dry, "one repository, -m": dry,
		"removal": {nameRegsweep, nameRelease3}, "S3, answers after 0 ms": append(dry, nameAudit),
	}
	if dir, err := inMemory(); err == nil {
		compared["removal in memory"] = compared["removal"]
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	}
	for title, wants := range compared {
		c := cases[title]
		if c.Garbage.Blobs == 0 {
			t.Errorf("%s: there is no garbage to find, or it was not measured", title)
		}
		for _, name := range wants {
			if p := c.program(name); len(p.Runs) == 0 || p.Runs[0].Seconds <= 0 || p.Runs[0].CPUSeconds <= 0 || p.Runs[0].PeakBytes < 1e6 {
				t.Errorf("%s: %s took %+v", title, name, p.Runs)
			}
		}
		for _, p := range c.Programs {
			if len(p.Runs) == 0 || p.Name == nameFloor {
				continue
			}
			// With -m the releases also find blobs that are alive, if there are referrers or indexes.
			mayFindMore := strings.HasPrefix(title, "filesystem") && strings.HasSuffix(title, "-m") && p.Name != nameRegsweep
			if n := c.Garbage.Blobs; p.Found.Blobs < n || p.Found.Blobs > n && !mayFindMore {
				t.Errorf("%s: %s finds %d blobs of %d", title, p.Name, p.Found.Blobs, n)
			}
		}
		if !strings.Contains(out, "| "+title+" | "+nameRegsweep+" | ") {
			t.Errorf("%s is not in the table:\n%s", title, out)
		}
	}
	for title, blobs := range map[string]int{"content, large blobs, warm cache": 25, "content, small blobs, warm cache": 20} {
		for _, name := range []string{nameVerify, nameSum} {
			if p := cases[title].program(name); len(p.Runs) == 0 || p.Runs[0].Seconds <= 0 || p.Found.Blobs != blobs {
				t.Errorf("%s: %s has found %+v and took %+v", title, name, p.Found, p.Runs)
			}
		}
	}
	c := cases["S3, answers after 0 ms"]
	if first := c.program(nameRegsweep).Runs[0].Requests; first.List == 0 || first.Get == 0 || first.Links != 0 {
		t.Errorf("a first run takes %+v", first)
	}
	if second := c.program(nameSecond).Runs[0].Requests; second.List == 0 || second.Total() != second.List {
		t.Errorf("a second run, with the cache, takes %+v", second)
	}
}

func (c Case) program(name string) Program {
	for _, p := range c.Programs {
		if p.Name == name {
			return p
		}
	}
	return Program{}
}

func tinyRegistry() *generate.Registry { return generate.NewRepository(1, 3, 1) }

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

func TestContentThatWasNotReadEndsTheComparison(t *testing.T) {
	sum := func(d, of string) string {
		return strings.Repeat(d, 64) + "  blobs/sha256/aa/" + strings.Repeat(of, 64) + "/data\n"
	}
	for output, isRight := range map[string]bool{sum("a", "a") + sum("b", "b"): true, sum("a", "a"): false, sum("a", "a") + sum("b", "a"): false, sum("a", "a") + "sha256sum: no\n": false} {
		if _, err := readSums([]byte(output), 2); (err == nil) != isRight {
			t.Errorf("%q: %v", output, err)
		}
	}
	for output, isRight := range map[string]bool{
		`{"data": {"read": {"blobs": 2, "bytes": 20}}, "findings": []}`:   true,
		`{"data": {"read": {"blobs": 1, "bytes": 20}}, "findings": []}`:   false,
		`{"data": {"read": {"blobs": 2, "bytes": 19}}, "findings": []}`:   false,
		`{"data": {"read": {"blobs": 2, "bytes": 20}}, "findings": [{}]}`: false,
		`{"findings": []}`: false, ``: false,
	} {
		if _, err := readVerify([]byte(output), 2, 20); (err == nil) != isRight {
			t.Errorf("%q: %v", output, err)
		}
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

func TestTable(t *testing.T) {
	run := func(seconds float64, peak int64, requests int64) Run {
		return Run{Seconds: seconds, CPUSeconds: 2 * seconds, PeakBytes: peak, Requests: Requests{List: requests}}
	}
	got := table([]Case{{Title: "one", Programs: []Program{
		{Name: "regsweep", Runs: []Run{run(4, 3e6, 1000), run(1, 5e6, 9), run(2, 4e6, 9), run(8, 4e6, 9)}},
		{Name: "slow", Runs: []Run{run(30, 1e6, 0)}},
		{Name: "slower", Skipped: "for a reason"},
	}}})
	_, rows, _ := strings.Cut(got, "---|\n")
	if want := `| one | regsweep | 3.000 s | 1.000 – 8.000 s | 1.00 × | 6.000 s | 5 MB | 1,000, 0, 0, 0, 0 |
|  | slow | 30.000 s | 30.000 – 30.000 s | 10.00 × | 60.000 s | 1 MB |  |
|  | slower | for a reason | | | | | |
`; rows != want {
		t.Errorf("the rows are\n%s", rows)
	}
}

func TestFlags(t *testing.T) {
	for line, want := range map[string]string{
		"-only fs,nfs": `-only: "nfs" is no section`,
		"-rounds 0":    "-rounds is at least 1",
		"everything":   "everything is no flag",
	} {
		if _, err := parseOptions(strings.Fields(line), new(bytes.Buffer)); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", line, err, want)
		}
	}
	o, err := parseOptions([]string{"-quick", "-only", "s3"}, new(bytes.Buffer))
	if err != nil || o.rounds != 1 || o.repositories >= 200 || o.wants("fs") || !o.wants("s3") {
		t.Errorf("%+v, %v", o, err)
	}
	if o, err = parseOptions(nil, new(bytes.Buffer)); err != nil || o.rounds != 5 || !o.wants("fs") {
		t.Errorf("%+v, %v", o, err)
	}
}
