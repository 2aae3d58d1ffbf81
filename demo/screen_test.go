package main

import (
	"strings"
	"testing"
)

func TestALineGoesOnBelowItsLastColumn(t *testing.T) {
	prose := strings.Repeat("word ", 20)
	for lead, indent := range map[string]int{"    linked by no repository  3  7.0 MiB  ": 41, "no table: ": 4, strings.Repeat("x", 90) + "  ": 4} {
		_, rest := breakLine(lead + prose)
		if got := len(rest) - len(strings.TrimLeft(rest, " ")); got != indent {
			t.Errorf("%q goes on at %d, want %d: %q", lead, got, indent, rest)
		}
	}
}
