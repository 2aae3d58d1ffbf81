// Package human writes numbers, sizes, tables and paragraphs for people at a terminal.
package human

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"
)

// Size writes bytes with a binary unit and one decimal, as in "1.5 KiB". Columns of sizes have the
// same number of decimals. Those of go-humanize do not.
func Size(bytes int64) string {
	if bytes < 1024 {
		return fmt.Sprintf("%d B", bytes)
	}
	value, unit := float64(bytes), -1
	for value >= 1023.95 && unit < 5 {
		value /= 1024
		unit++
	}
	return fmt.Sprintf("%.1f %ciB", value, "KMGTPE"[unit])
}

// Count writes a number with commas, as in "1,234".
func Count[N int | int64](n N) string { return humanize.Comma(int64(n)) }

// Plural writes a number and its noun, as in "1 blob" and "2 blobs".
func Plural[N int | int64](n N, singular string) string { return Count(n) + " " + Noun(n, singular) }

// Noun writes the form of a noun that goes with a number: "blobs", "tag index entries".
func Noun[N int | int64](n N, singular string) string {
	return english.PluralWord(int(n), singular, "")
}

// Printable escapes what could steer a terminal or break a line. Names in a storage may contain
// escape sequences, line ends, and bytes that are not text.
func Printable(text string) string {
	if !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }) {
		return text
	}
	quoted := strconv.Quote(text)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
}

// Sparkline draws values as bars. The highest bar is the largest value.
func Sparkline(values []int64) string {
	bars := []rune("▁▂▃▄▅▆▇█")
	largest := max(1, slices.Max(values))
	var line strings.Builder
	for _, value := range values {
		line.WriteRune(bars[int(math.Ceil(float64(value)/float64(largest)*float64(len(bars)-1)))])
	}
	return line.String()
}
