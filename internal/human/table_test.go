package human

import (
	"bytes"
	"testing"
)

func TestATableLeavesOutColumnsUntilItFits(t *testing.T) {
	for width, want := range map[int]string{
		0:  "Name        TAGS   SIZE  PUSH\n  team/app     1  5 MiB  today\n",
		30: "Name        TAGS   SIZE  PUSH\n  team/app     1  5 MiB  today\n",
		29: "Name         SIZE  PUSH\n  team/app  5 MiB  today\n",
		23: "Name         SIZE\n  team/app  5 MiB\n",
		8:  "Name         SIZE\n  team/app  5 MiB\n", // wider than it should be, and aligned
	} {
		table := Table{Columns: []Column{Left, Right, Right, Left}, Omit: []int{1, 3}}
		table.Row("Name", "TAGS", "SIZE", "PUSH")
		table.Row("  team/app", "1", "5 MiB", "today")
		var got bytes.Buffer
		if table.Write(&got, width); got.String() != want {
			t.Errorf("in %d columns it is\n%swant\n%s", width, &got, want)
		}
	}
}

// The lines that follow the first one of a cell are indented, and belong to the same row.
func TestIndentedProseIsWrappedBelowItself(t *testing.T) {
	table := Table{Columns: []Column{Prose, Right, Prose}}
	table.Row("Choice", "SIZE", "")
	table.Row("  without: team/web:pr-* team/app:pr-*", "5 MiB", "hides some")
	var got bytes.Buffer
	table.Write(&got, 34)
	want := `Choice              SIZE
  without:         5 MiB  hides
    team/web:pr-*         some
    team/app:pr-*
`
	if got.String() != want {
		t.Errorf("it is\n%swant\n%s", &got, want)
	}
}

func TestATooWideFirstCellHasALineOfItsOwn(t *testing.T) {
	table := &Table{Columns: []Column{Left, Right}}
	table.Row("Name", "SIZE")
	table.Row("  app", "5 MiB")
	table.Row("  a/name/that/is/too/long", "1 MiB")
	var w bytes.Buffer
	table.Write(&w, 22)
	want := "Name    SIZE\n  app  5 MiB\n  a/name/that/is/too/long\n       1 MiB\n"
	if w.String() != want {
		t.Errorf("got\n%s\nwant\n%s", w.String(), want)
	}
}
