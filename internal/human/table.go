package human

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// Column says how the cells of a column are written.
type Column int

const (
	Left  Column = iota // aligned at the left
	Right               // aligned at the right, for numbers
	Prose               // aligned at the left, and wrapped where the table is too wide
)

// Table lays out rows of cells. If the rows do not fit the width, the columns of prose are wrapped. A first
// cell that is too wide even then has a line of its own.
// If prose in the last column would become too narrow to read, it is written below its row.
type Table struct {
	Indent  string
	Columns []Column
	// Omit has the columns that a table leaves out where it is too wide, in this order.
	Omit []int
	rows [][]string
}

const gap = "  "

// Readable is the least width of a column of prose.
const Readable = 24

// leastFirst is the least width of a first column from which too wide cells are moved to lines of their own.
const leastFirst = 12

// Row adds a row. It may have fewer cells than the table has columns.
func (t *Table) Row(cells ...string) { t.rows = append(t.rows, cells) }

// Fits reports whether the rows fit in width columns.
func (t *Table) Fits(width int) bool { return t.total(t.fit(width)) <= width }

// FitsStacked reports whether the columns before the last fit in width.
func (t *Table) FitsStacked(width int) bool {
	widths := t.widths()
	return t.total(widths[:len(widths)-1]) <= width
}

// Write writes the table in at most width columns. With a width of 0 it is as wide as its cells.
func (t *Table) Write(w *bytes.Buffer, width int) {
	t.omit(width)
	widths := t.fit(width)
	if t.isTooNarrow(widths, width) {
		t.stack(w, width)
		return
	}
	if available := width - t.total(widths) + widths[0]; available >= leastFirst && available < widths[0] {
		widths[0] = t.widestFirst(available)
	}
	for _, row := range t.rows {
		if len(row) > 1 && utf8.RuneCountInString(row[0]) > widths[0] && t.Columns[0] == Left {
			w.WriteString(t.Indent + row[0] + "\n") // on a line of its own
			row = append([]string{""}, row[1:]...)
		}
		cells := make([][]string, len(row))
		height := 1
		for i, cell := range row {
			cells[i] = []string{cell}
			if t.Columns[i] == Prose {
				cells[i] = Wrap(cell, widths[i])
				if strings.HasPrefix(cell, " ") {
					cells[i] = strings.Split(Fold(cell, widths[i]), "\n")
				}
			}
			height = max(height, len(cells[i]))
		}
		for line := range height {
			text := t.Indent
			for i := range row {
				cell := ""
				if line < len(cells[i]) {
					cell = cells[i][line]
				}
				text += t.pad(i, cell, widths[i])
			}
			w.WriteString(strings.TrimRight(text, " ") + "\n")
		}
	}
}

// omit leaves out columns until the rows fit.
func (t *Table) omit(width int) {
	widths, omitted := t.widths(), map[int]bool{}
	total := t.total(widths)
	for _, column := range t.Omit {
		if width == 0 || total <= width {
			break
		}
		omitted[column] = true
		total -= widths[column] + len(gap)
	}
	t.Columns = without(t.Columns, omitted)
	for i, row := range t.rows {
		t.rows[i] = without(row, omitted)
	}
}

// without returns the elements whose indices are not omitted.
func without[E any](list []E, omitted map[int]bool) (kept []E) {
	for i, element := range list {
		if !omitted[i] {
			kept = append(kept, element)
		}
	}
	return kept
}

// pad fills a cell up to the width of its column, and adds the gap to the next one.
func (t *Table) pad(column int, cell string, width int) string {
	space := strings.Repeat(" ", max(0, width-utf8.RuneCountInString(cell)))
	if t.Columns[column] == Right {
		return space + cell + gap
	}
	return cell + space + gap
}

// fit returns the widths of the columns. Each is as wide as its cells at first. Then the widest
// column of prose becomes narrower until the table fits. No column becomes narrower than its longest
// word, so the table may remain wider than width.
func (t *Table) fit(width int) []int {
	widths, minWidths := t.widths(), make([]int, len(t.Columns))
	for _, row := range t.rows {
		for i, cell := range row {
			lead := len(cell) - len(strings.TrimLeft(cell, " "))
			if lead > 0 {
				lead += 2 // Fold indents the lines that follow
			}
			for word := range strings.FieldsSeq(cell) {
				minWidths[i] = max(minWidths[i], lead+utf8.RuneCountInString(word))
			}
		}
	}
	for width > 0 && t.total(widths) > width {
		widest := -1
		for i, w := range widths {
			if t.Columns[i] == Prose && w > minWidths[i] && (widest < 0 || w > widths[widest]) {
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

// widths returns for each column the width of its widest cell. A row with one cell does not count: nothing is
// beside it.
func (t *Table) widths() []int {
	widths := make([]int, len(t.Columns))
	for _, row := range t.rows {
		if len(row) == 1 {
			continue
		}
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	return widths
}

// widestFirst returns the width of the widest first cell that is not wider than available.
func (t *Table) widestFirst(available int) (widest int) {
	for _, row := range t.rows {
		if len(row) == 0 {
			continue
		}
		if n := utf8.RuneCountInString(row[0]); n <= available {
			widest = max(widest, n)
		}
	}
	return widest
}

// total returns the width of a table whose columns have these widths.
func (t *Table) total(widths []int) int {
	total := len(t.Indent) - len(gap)
	for _, w := range widths {
		total += w + len(gap)
	}
	return total
}

// isTooNarrow reports whether the last column is the only one of prose, and does not fit.
func (t *Table) isTooNarrow(widths []int, width int) bool {
	last := len(t.Columns) - 1
	for i, column := range t.Columns {
		if (column == Prose) != (i == last) {
			return false
		}
	}
	return width > 0 && (t.total(widths) > width || widths[last] < min(t.widths()[last], Readable))
}

// stack writes the last column below the others. A first cell that is too wide for its column is
// written on a line of its own.
func (t *Table) stack(w *bytes.Buffer, width int) {
	const longest = 40 // columns of a first cell, if not all of them fit
	widths := t.widths()
	last := len(widths) - 1
	if t.total(widths[:last]) > width {
		widths[0] = t.widestFirst(min(longest, width-t.total(widths[:last])+widths[0]))
	}
	for _, row := range t.rows {
		lead := t.Indent + row[0][:len(row[0])-len(strings.TrimLeft(row[0], " "))]
		text := t.Indent
		for i, cell := range row[:min(len(row), last)] {
			if i == 0 && utf8.RuneCountInString(cell) > widths[0] {
				for j, line := range Wrap(cell, width-len(lead)-2) {
					w.WriteString(lead + strings.Repeat(" ", 2*min(j, 1)) + line + "\n")
				}
				cell = ""
			}
			text += t.pad(i, cell, widths[i])
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
		for _, line := range Wrap(prose, width-len(lead)-4) {
			w.WriteString(lead + "    " + line + "\n")
		}
	}
}
