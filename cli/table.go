package cli

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// table lays out rows of cells. Where they do not fit the width, the columns that may
// wrap do, between words. If prose in the last column would get too narrow to read, it goes
// below its row.
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
	if t.isTooNarrow(widths, width) {
		t.stack(w, width)
		return
	}
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

// readable is the least width of a column of prose.
const readable = 24

// isTooNarrow reports whether the only column of prose is the last, and does not fit.
func (t *table) isTooNarrow(widths []int, width int) bool {
	last := len(widths) - 1
	for i := range widths {
		if at(t.wraps, i) != (i == last) {
			return false
		}
	}
	prose := 0
	for _, row := range t.rows {
		if len(row) == len(widths) {
			prose = max(prose, utf8.RuneCountInString(row[last]))
		}
	}
	return width > 0 && (t.total(widths) > width || widths[last] < min(prose, readable))
}

// stack writes the last column below the others, and a first cell that is too wide for its
// column on a line of its own.
func (t *table) stack(w *bytes.Buffer, width int) {
	const longest = 40 // of a first cell, where not all fit
	var widths []int
	for _, row := range t.rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	last := len(widths) - 1
	if t.total(widths[:last]) > width {
		room := min(longest, width-t.total(widths[:last])+widths[0])
		widths[0] = 0
		for _, row := range t.rows {
			if n := utf8.RuneCountInString(row[0]); n <= room {
				widths[0] = max(widths[0], n)
			}
		}
	}
	for _, row := range t.rows {
		lead := t.indent + row[0][:len(row[0])-len(strings.TrimLeft(row[0], " "))]
		text := t.indent
		for i, cell := range row[:min(len(row), last)] {
			if i == 0 && utf8.RuneCountInString(cell) > widths[0] {
				for j, line := range wrap(cell, width-len(lead)-2) {
					w.WriteString(lead + strings.Repeat(" ", 2*min(j, 1)) + line + "\n")
				}
				cell = ""
			}
			space := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if at(t.right, i) {
				cell, space = space+cell, ""
			}
			text += cell + space + gap
		}
		prose := ""
		if len(row) > last {
			prose = row[last]
		}
		if prose != "" && utf8.RuneCountInString(text+prose) <= width {
			text, prose = text+prose, ""
		}
		if text = strings.TrimRight(text, " "); text != "" || len(row[0]) <= widths[0] {
			w.WriteString(text + "\n")
		}
		if prose == "" {
			continue
		}
		for _, line := range wrap(prose, width-len(lead)-4) {
			w.WriteString(lead + "    " + line + "\n")
		}
	}
}

// folded writes what text writes, with lines that are too long broken between words. What
// follows in a line is indented.
func folded(text func(w *bytes.Buffer, width int)) func(*bytes.Buffer, int) {
	return func(w *bytes.Buffer, width int) {
		var whole bytes.Buffer
		text(&whole, width)
		for line := range strings.Lines(whole.String()) {
			w.WriteString(fold(line, width))
		}
	}
}

// fold breaks one line.
func fold(line string, width int) string {
	content := strings.TrimRight(line, "\n")
	if width == 0 || utf8.RuneCountInString(content) <= width {
		return line
	}
	lead := content[:len(content)-len(strings.TrimLeft(content, " "))]
	first, rest := "", ""
	for i, part := range wrap(content, width-len(lead)) {
		if i == 0 {
			first = part
			continue
		}
		rest += " " + part
	}
	out := lead + first + line[len(content):]
	if rest == "" {
		return out
	}
	out = lead + first
	for _, part := range wrap(rest, width-len(lead)-2) {
		out += "\n" + lead + "  " + part
	}
	return out + line[len(content):]
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

// wrap breaks text between words into lines of at most width characters, and a longer word
// after a slash. A URL stays whole, and so does a word without a slash. width is 0 for no limit.
func wrap(text string, width int) []string {
	if width <= 0 {
		return []string{text}
	}
	var lines []string
	line := ""
	for _, word := range words(text, width) {
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

// words are the words of a text. One that is longer than width is divided after slashes, if
// all of its parts fit then and it is no URL, which would be copied.
func words(text string, width int) []string {
	var out []string
	for word := range strings.FieldsSeq(text) {
		parts := []string{word}
		for rest := word; utf8.RuneCountInString(rest) > width && !strings.Contains(word, "://"); {
			cut := strings.LastIndexByte(rest[:width], '/') + 1
			if cut < 2 {
				parts = []string{word}
				break
			}
			parts = append(parts[:len(parts)-1], rest[:cut], rest[cut:])
			rest = rest[cut:]
		}
		out = append(out, parts...)
	}
	return out
}
