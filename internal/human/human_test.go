package human

import (
	"math"
	"testing"
)

func TestSizesHaveABinaryUnitAndOneDecimal(t *testing.T) {
	for bytes, want := range map[int64]string{
		0: "0 B", 1: "1 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB",
		1<<20 - 1: "1.0 MiB", 1 << 20: "1.0 MiB", 1<<30 - 1: "1.0 GiB", 5 << 30: "5.0 GiB",
		1023 << 10: "1023.0 KiB", 3 << 40: "3.0 TiB", math.MaxInt64: "8.0 EiB",
	} {
		if got := Size(bytes); got != want {
			t.Errorf("Size(%d) = %q, want %q", bytes, got, want)
		}
	}
}

func TestCountsHaveCommas(t *testing.T) {
	for n, want := range map[int]string{
		0: "0", 12: "12", 999: "999", 1000: "1,000", 91445: "91,445", 1234567: "1,234,567", -999: "-999", -123456: "-123,456",
	} {
		if got := Count(n); got != want {
			t.Errorf("Count(%d) = %q, want %q", n, got, want)
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
		if got := Plural(test.n, test.singular); got != test.want {
			t.Errorf("Plural(%d, %q) = %q, want %q", test.n, test.singular, got, test.want)
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
		if got := Printable(text); got != want {
			t.Errorf("Printable(%q) = %s, want %s", text, got, want)
		}
	}
}
