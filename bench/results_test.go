package main

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"

	"regsweep/bench/generate"
)

func tinyRegistry() *generate.Registry { return generate.NewRepository(1, 3, 1) }

func ran(name string, seconds ...float64) Program {
	p := Program{Name: name}
	for _, s := range seconds {
		p.Runs = append(p.Runs, Run{Seconds: s, Requests: &Requests{List: 10, Get: 100, Delete: 3}})
	}
	return p
}

// told are results with these programs in every comparison.
func told(programs ...Program) Results {
	var cases []Case
	for _, key := range []string{"fs warm", "fs warm -m", "fs cold", "fs cold -m", "repo -m", "removal", "removal memory", "s3 0ms", "s3 15ms", "s3 removal"} {
		cases = append(cases, Case{Key: key, Title: key, Programs: programs, Garbage: generate.Garbage{Blobs: 2000}})
	}
	return Results{Sections: map[string]Section{"fs": {Size: generate.Size{Files: 1000, Manifests: 100, Blobs: 1234567}, Cases: cases}}}
}

func TestTargetsAreJudgedByMedians(t *testing.T) {
	second := Program{Name: nameSecond, Runs: []Run{{Seconds: 1, Requests: &Requests{List: 10}}}}
	good := told(second, ran(nameRegsweep, 1, 1, 100), ran(nameFloor, 0.9), ran(nameRelease2, 20), ran(nameRelease3, 500, 1, 500))
	bad := told(ran(nameSecond, 1), ran(nameRegsweep, 100, 1, 100), ran(nameFloor, 0.9), ran(nameRelease2, 20), ran(nameRelease3, 500, 500))
	for _, v := range good.verdicts() {
		want := !strings.Contains(v.Target, "requests for deletion") // of no key at all
		if v.Met != want {
			t.Errorf("%s: %s, met: %v", v.Target, v.Measured, v.Met)
		}
	}
	for _, v := range bad.verdicts() {
		want := strings.Contains(v.Target, "first dry run") || strings.Contains(v.Target, "at least 5 times")
		if v.Met && !want {
			t.Errorf("%s: %s passes for met", v.Target, v.Measured)
		}
	}
	for _, v := range (Results{}).verdicts() {
		if v.Met || v.Measured != "" {
			t.Errorf("%s: %s without a measurement", v.Target, v.Measured)
		}
	}
	text := told(ran(nameRegsweep, 1)).markdown()
	if !strings.Contains(text, "| not measured |") || strings.Contains(text, "| yes |\n| S3, 15") {
		t.Errorf("what was not measured is not told:\n%s", text)
	}
}

func TestMedian(t *testing.T) {
	p := ran("", 5, 1, 3)
	if p.seconds() != 3 || p.fastest() != 1 || p.slowest() != 5 {
		t.Errorf("%v: %v, %v – %v", p.Runs, p.seconds(), p.fastest(), p.slowest())
	}
	if p = ran("", 4, 1, 2, 8); p.seconds() != 3 {
		t.Errorf("of four: %v", p.seconds())
	}
}

func TestFiguresAreWrittenForPeople(t *testing.T) {
	for got, want := range map[string]string{
		number(0): "0", number(999): "999", number(1000): "1,000", number(1234567): "1,234,567", number(-1000): "-1,000",
		duration(0.0123): "0.012 s", duration(1.239): "1.24 s", duration(12.34): "12.3 s", duration(842.4): "842 s",
		factor(0.5): "0.50 ×", factor(3.14): "3.1 ×", factor(412.3): "412 ×", megabytes(12_600_000): "13 MB",
		again("", "fs"):                         `make bench BENCHFLAGS="-only fs"`,
		again("-slow -only fs -rounds 3", "s3"): `make bench BENCHFLAGS="-slow -rounds 3 -only s3"`,
		again("-only=fs -slow", "s3"):           `make bench BENCHFLAGS="-slow -only s3"`,
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestTheReadmeKeepsWhatIsNotOurs(t *testing.T) {
	results := told(ran(nameRegsweep, 2), ran(nameRelease3, 100))
	once, err := results.intoReadme("a\n" + readmeBegin + readmeEnd + "z\n")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(once, "a\n"+readmeBegin) || !strings.HasSuffix(once, readmeEnd+"z\n") || !strings.Contains(once, "| 50 × |") {
		t.Errorf("written:\n%s", once)
	}
	if twice, err := results.intoReadme(once); err != nil || twice != once {
		t.Errorf("written twice: %v\n%s", err, twice)
	}
	if _, err := results.intoReadme("a README without a place"); err == nil {
		t.Error("a README without a place for the results is overwritten")
	}
}

func TestTheChartIsWellFormedAndToScale(t *testing.T) {
	chart := told(ran(nameRegsweep, 0.01), ran(nameFloor, 0.1), ran(nameRelease3, 100)).chart()
	widths := map[string]bool{}
	for decoder := xml.NewDecoder(strings.NewReader(chart)); ; {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%s\n%s", err, chart)
		}
		if element, ok := token.(xml.StartElement); ok && element.Name.Local == "rect" {
			for _, attribute := range element.Attr {
				if attribute.Name.Local == "width" {
					widths[attribute.Value] = true
				}
			}
		}
	}
	// Four powers of ten on 540 pixels: a tenth of a second is a quarter of them.
	for _, want := range []string{"2.0", "135.0", "540.0"} {
		if !widths[want] {
			t.Errorf("no bar is %s wide: %v", want, widths)
		}
	}
	if empty := (Results{}).chart(); !strings.HasPrefix(empty, "<svg") {
		t.Error("without results there is no chart")
	}
}
