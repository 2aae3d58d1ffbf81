package audit

import (
	"bytes"
	"cmp"
	"encoding/csv"
	"strconv"
	"strings"
	"time"

	"regsweep/internal/human"
)

// Orders compare repositories by each column. The largest number comes first.
var Orders = map[string]func(a, b Repository) int{
	"name":      func(a, b Repository) int { return cmp.Compare(a.Name, b.Name) },
	"tags":      func(a, b Repository) int { return cmp.Compare(b.Tags, a.Tags) },
	"manifests": func(a, b Repository) int { return cmp.Compare(b.Manifests, a.Manifests) },
	"logical":   func(a, b Repository) int { return cmp.Compare(b.Logical, a.Logical) },
	"bytes":     func(a, b Repository) int { return cmp.Compare(b.Bytes, a.Bytes) },
	"unique":    func(a, b Repository) int { return cmp.Compare(b.Unique, a.Unique) },
	"shared":    func(a, b Repository) int { return cmp.Compare(b.Shared, a.Shared) },
	"fair":      func(a, b Repository) int { return cmp.Compare(b.Fair, a.Fair) },
	"untagged":  func(a, b Repository) int { return cmp.Compare(b.Untagged, a.Untagged) },
	"last_push": func(a, b Repository) int { return b.LastPush.Compare(a.LastPush) },
	"growth":    compareGrowth,
}

// compareGrowth orders by the current month, and then by the months before it.
func compareGrowth(a, b Repository) (order int) {
	for month := Months - 1; month >= 0 && order == 0; month-- {
		order = cmp.Compare(b.Growth[month], a.Growth[month])
	}
	return order
}

// Columns returns the names of the columns of the repositories, in the order of the table.
func Columns() []string {
	return []string{"name", "tags", "manifests", "logical", "bytes", "unique", "shared", "fair", "untagged", "last_push", "growth"}
}

// formulaStarts has the characters with which a cell begins that a spreadsheet takes for a formula.
const formulaStarts = "=+-@\t\r\n"

// WriteCSV writes all repositories. Sizes are in bytes, and times in RFC 3339. The growth has a column for
// each month. A name that a spreadsheet would take for a formula begins with ' (no registry serves such a
// name). Other names are exact, but for a terminal.
func WriteCSV(w *bytes.Buffer, now time.Time, repositories []Repository, isTerminal bool) {
	out := csv.NewWriter(w)
	head := Columns()[:10]
	for month := range Months {
		first := time.Date(now.UTC().Year(), now.UTC().Month()-time.Month(Months-1-month), 1, 0, 0, 0, 0, time.UTC)
		head = append(head, first.Format("2006-01"))
	}
	_ = out.Write(head) // a bytes.Buffer has no error
	number := func(n int64) string { return strconv.FormatInt(n, 10) }
	for _, r := range repositories {
		push := ""
		if !r.LastPush.IsZero() {
			push = r.LastPush.UTC().Format(time.RFC3339)
		}
		name := r.Name
		if name != "" && strings.Contains(formulaStarts, name[:1]) {
			name = "'" + name
		}
		if isTerminal {
			name = human.Printable(name)
		}
		row := []string{
			name, strconv.Itoa(r.Tags), strconv.Itoa(r.Manifests), number(r.Logical), number(r.Bytes), number(r.Unique), number(r.Shared),
			strconv.FormatFloat(r.Fair, 'f', 1, 64), number(r.Untagged), push,
		}
		for _, bytes := range r.Growth {
			row = append(row, number(bytes))
		}
		_ = out.Write(row)
	}
	out.Flush()
}
