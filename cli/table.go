package cli

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// table lays out rows of cells. Where they do not fit the width, the columns that may
// wrap do, between words.
type table struct {
	indent string
	right  []bool // by column: numbers
	wraps  []bool // by column: prose
	rows   [][]string
}

const gap = "  "

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

// write writes the table in at most width columns, or as wide as it gets for 0.
func (t *table) write(w *bytes.Buffer, width int) {
	widths := t.fit(width)
	for _, row := range t.rows {
		cells := make([][]string, len(row))
		height := 1
		for i, cell := range row {
			cells[i] = []string{cell}
			if at(t.wraps, i) {
				cells[i] = wrap(cell, widths[i])
			}
			height = max(height, len(cells[i]))
		}
		for line := range height {
			text := t.indent
			for i := range row {
				cell := ""
				if line < len(cells[i]) {
					cell = cells[i][line]
				}
				space := strings.Repeat(" ", max(0, widths[i]-utf8.RuneCountInString(cell)))
				if at(t.right, i) {
					cell, space = space+cell, ""
				}
				text += cell + space + gap
			}
			w.WriteString(strings.TrimRight(text, " ") + "\n")
		}
	}
}

// fit finds the columns' widths: as wide as their cells, the widest that wraps made
// smaller until the table fits. No column becomes too small for its longest word, so
// that a table may be wider than it should.
func (t *table) fit(width int) []int {
	var widths, least []int
	for _, row := range t.rows {
		for i, cell := range row {
			if i == len(widths) {
				widths, least = append(widths, 0), append(least, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
			for word := range strings.FieldsSeq(cell) {
				least[i] = max(least[i], utf8.RuneCountInString(word))
			}
		}
	}
	for width > 0 && t.total(widths) > width {
		widest := -1
		for i, w := range widths {
			if at(t.wraps, i) && w > least[i] && (widest < 0 || w > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			break
		}
		widths[widest]--
	}
	return widths
}

func (t *table) total(widths []int) int {
	total := len(t.indent) - len(gap)
	for _, w := range widths {
		total += w + len(gap)
	}
	return total
}

func at(flags []bool, i int) bool { return i < len(flags) && flags[i] }

// wrap breaks text between words into lines of at most width characters, but for words
// that are longer; width is 0 for no limit.
func wrap(text string, width int) []string {
	if width <= 0 {
		return []string{text}
	}
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) <= width {
			line += " " + word
			continue
		}
		if line != "" {
			lines = append(lines, line)
		}
		line = word
	}
	return append(lines, line)
}
