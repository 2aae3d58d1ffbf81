package cli

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"
)

// size writes bytes with a binary unit and one decimal. Columns of sizes have the same number of
// decimals, which those of go-humanize do not.
func size(bytes int64) string {
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

// count writes a number with commas.
func count[N int | int64](n N) string { return humanize.Comma(int64(n)) }

// plural writes "1 blob", "2 blobs".
func plural[N int | int64](n N, singular string) string { return count(n) + " " + noun(n, singular) }

// noun is the form of a noun that goes with a number: "blobs", "tag index entries".
func noun[N int | int64](n N, singular string) string {
	return english.PluralWord(int(n), singular, "")
}

// printable makes text from a storage safe for a terminal and a line: names there
// may hold escapes, newlines, and what is not text at all.
func printable(text string) string {
	if !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }) {
		return text
	}
	quoted := strconv.Quote(text)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
}
