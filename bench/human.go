package main

import (
	"fmt"

	"github.com/dustin/go-humanize"
)

// number writes a count with a comma after each thousand.
func number(n int) string { return humanize.Comma(int64(n)) }

// duration writes seconds with three digits that count, or all whole ones.
func duration(seconds float64) string {
	switch {
	case seconds >= 100:
		return fmt.Sprintf("%.0f s", seconds)
	case seconds >= 10:
		return fmt.Sprintf("%.1f s", seconds)
	case seconds >= 1:
		return fmt.Sprintf("%.2f s", seconds)
	}
	return fmt.Sprintf("%.3f s", seconds)
}

// factor writes how many times as long something takes.
func factor(times float64) string {
	switch {
	case times >= 10:
		return fmt.Sprintf("%.0f ×", times)
	case times >= 1:
		return fmt.Sprintf("%.1f ×", times)
	}
	return fmt.Sprintf("%.2f ×", times)
}

func megabytes(bytes int64) string { return fmt.Sprintf("%.0f MB", float64(bytes)/1e6) }
