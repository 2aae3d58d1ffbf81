package cli

import (
	"math"
	"testing"
	"time"
)

func TestSizesHaveABinaryUnitAndOneDecimal(t *testing.T) {
	for bytes, want := range map[int64]string{
		0: "0 B", 1: "1 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB",
		1<<20 - 1: "1.0 MiB", 1 << 20: "1.0 MiB", 1<<30 - 1: "1.0 GiB", 5 << 30: "5.0 GiB",
		1023 << 10: "1023.0 KiB", 3 << 40: "3.0 TiB", math.MaxInt64: "8.0 EiB",
	} {
		if got := size(bytes); got != want {
			t.Errorf("size(%d) = %q, want %q", bytes, got, want)
		}
	}
}

func TestCountsHaveCommas(t *testing.T) {
	for n, want := range map[int]string{
		0: "0", 12: "12", 999: "999", 1000: "1,000", 91445: "91,445", 1234567: "1,234,567", -999: "-999", -123456: "-123,456",
	} {
		if got := count(n); got != want {
			t.Errorf("count(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestNounsAgreeWithTheirNumber(t *testing.T) {
	for _, test := range []struct {
		n        int
		singular string
		want     string
	}{
		{0, "blob", "0 blobs"}, {1, "blob", "1 blob"}, {2000, "blob", "2,000 blobs"},
		{1, "tag index entry", "1 tag index entry"}, {2, "tag index entry", "2 tag index entries"},
		{3, "empty repository", "3 empty repositories"},
	} {
		if got := plural(test.n, test.singular); got != test.want {
			t.Errorf("plural(%d, %q) = %q, want %q", test.n, test.singular, got, test.want)
		}
	}
}

func TestNothingPrintedSteersATerminal(t *testing.T) {
	for text, want := range map[string]string{
		"team/app": "team/app", "größe": "größe", `say "hi"`: `say "hi"`, `back\slash`: `back\slash`,
		"a\x1b[2Jb":         `a\x1b[2Jb`,
		"two\nlines":        `two\nlines`,
		"not \xff text":     `not \xff text`,
		"c1 \u009b31m":      `c1 \u009b31m`,
		"turned \u202e":     `turned \u202e`,
		"\x1b\"quoted\" \\": `\x1b"quoted" \\`,
	} {
		if got := printable(text); got != want {
			t.Errorf("printable(%q) = %s, want %s", text, got, want)
		}
	}
}

func TestAgesAreDurationsOrDays(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0": 0, "0s": 0, "90m": 90 * time.Minute, "36h": 36 * time.Hour, "7d": 168 * time.Hour, "0d": 0, "1h30m": 90 * time.Minute,
	} {
		var a age
		if err := a.Set(text); err != nil || a.Duration != want {
			t.Errorf("%q is %s, %v, want %s", text, a.Duration, err, want)
		}
	}
	for _, text := range []string{"", "d", "7", "-1h", "-1d", "1.5d", "7 d", "week", "99999999d", "1y", "+3d\n"} {
		a := age{time.Minute}
		if err := a.Set(text); err == nil {
			t.Errorf("%q is an age of %s", text, a.Duration)
		} else if a.Duration != time.Minute {
			t.Errorf("%q changes the age, although it is none", text)
		}
	}
}

func TestAnAgeReadsBackAsItIsWritten(t *testing.T) {
	for duration, want := range map[time.Duration]string{
		0: "0", 168 * time.Hour: "168h", 90 * time.Minute: "1h30m", 10 * time.Second: "10s",
		36*time.Hour + 10*time.Second: "36h0m10s", 10 * time.Hour: "10h", 10 * time.Minute: "10m",
	} {
		written := (&age{duration}).String()
		if written != want {
			t.Errorf("%s is written %q, want %q", duration, written, want)
		}
		var read age
		if err := read.Set(written); err != nil || read.Duration != duration {
			t.Errorf("%q reads as %s, %v, want %s", written, read.Duration, err, duration)
		}
	}
}

func TestATypoIsRecognized(t *testing.T) {
	names := []string{"dry-run", "delete-untagged", "json", "plan", "min-age", "upload-age", "registry", "registry-stopped"}
	for typed, want := range map[string]string{
		"dryrun": "dry-run", "dry_run": "dry-run", "jsno": "json", "plna": "plan", "registry-stoped": "registry-stopped",
		"delete-untaged": "delete-untagged", "minage": "min-age", "frobnicate": "", "x": "", "": "",
	} {
		if got := closest(typed, names); got != want {
			t.Errorf("%q is taken for %q, want %q", typed, got, want)
		}
	}
}
