package cli

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"regsweep/audit"
	"regsweep/internal/human"
	"regsweep/storage"
)

// writeAudit prints the bill: the totals, the kinds of blobs, the repositories, the largest blobs, and
// what each choice would free.
func writeAudit(w *bytes.Buffer, r *auditReport, width int) {
	w.WriteString(human.Fold(fmt.Sprintf("%s %s\n", r.Storage.Driver, human.Printable(r.Storage.Root)), width))
	writeConfig(w, r.Config, r.notRead, width)
	fmt.Fprintln(w)
	writeLadder(w, r.Bytes.Ladder(r.NotCounted), width)
	writeKinds(w, r.Kinds, width)
	writeRepositories(w, r, width)
	writeBlobs(w, r.Blobs, r.question.limit, width)
	writeWhatIf(w, r.WhatIf, r.Versioning, width)
	writeComparison(w, r.Compare, r.question.limit, width)
	human.Folded(func(w *bytes.Buffer, _ int) { writeProblems(w, r.Problems) })(w, width)
}

// writeLadder prints the bill. Each line says what would free it.
func writeLadder(w *bytes.Buffer, steps []audit.Step, width int) {
	t := &human.Table{Columns: []human.Column{human.Left, human.Right, human.Left, human.Prose}}
	t.Row("", "SIZE", "FREED BY", "")
	for _, step := range steps {
		size := human.Size(step.Bytes)
		if step.NotCounted {
			size = "not counted"
		}
		t.Row(strings.Repeat("  ", step.Depth)+step.Name, size, step.FreedBy, step.About)
	}
	t.Write(w, width)
}

// writeKinds prints the space by the use of the blobs. It leaves out kinds without blobs.
func writeKinds(w *bytes.Buffer, kinds []audit.KindBytes, width int) {
	t := &human.Table{Columns: []human.Column{human.Left, human.Right, human.Right, human.Right}, Omit: []int{1, 3}}
	t.Row("By kind", "BLOBS", "SIZE", "GARBAGE")
	for _, kind := range kinds {
		if kind.Blobs > 0 {
			t.Row("  "+kind.Kind.Many(), human.Count(kind.Blobs), human.Size(kind.Bytes), human.Size(kind.Garbage))
		}
	}
	fmt.Fprintln(w)
	t.Write(w, width)
}

// omitted has the columns of the repositories that a narrow terminal does not show, the first ones first.
var omitted = []string{"manifests", "shared", "fair", "logical", "growth", "tags", "untagged", "last_push", "unique"}

// writeRepositories prints the first repositories. The column by which they are sorted is always there.
func writeRepositories(w *bytes.Buffer, r *auditReport, width int) {
	if r.all == 0 {
		return
	}
	fmt.Fprintln(w)
	const right = human.Right
	t := &human.Table{Columns: []human.Column{human.Left, right, right, right, right, right, right, right, right, right, human.Left}}
	for _, name := range omitted {
		if name != r.question.sort {
			t.Omit = append(t.Omit, slices.Index(audit.Columns(), name))
		}
	}
	t.Row("Repositories", "TAGS", "MANIFESTS", "LOGICAL", "BYTES", "UNIQUE", "SHARED", "FAIR", "UNTAGGED", "LAST PUSH", "12 MONTHS")
	shown := r.Repositories[:min(r.question.limit, len(r.Repositories))]
	for _, r := range shown {
		push := ""
		if !r.LastPush.IsZero() {
			push = r.LastPush.UTC().Format(time.DateOnly)
		}
		t.Row("  "+human.Printable(r.Name), human.Count(r.Tags), human.Count(r.Manifests), human.Size(r.Logical), human.Size(r.Bytes),
			human.Size(r.Unique), human.Size(r.Shared), human.Size(int64(r.Fair)), human.Size(r.Untagged), push, human.Sparkline(r.Growth[:]))
	}
	if len(shown) > 0 {
		t.Write(w, width)
	}
	writeRest(w, len(r.Repositories)-len(shown), "repository")
	if r.Match != "" {
		w.WriteString(human.Fold(fmt.Sprintf("%s of %s match %s. The bill, the largest blobs and what a run would free are of the whole registry.\n",
			human.Count(len(r.Repositories)), human.Plural(r.all, "repository"), human.Printable(r.Match)), width))
	}
}

// writeRest prints how many rows a table has left out.
func writeRest(w *bytes.Buffer, n int, noun string) {
	if n > 0 {
		fmt.Fprintf(w, "  and %s more: --limit\n", human.Plural(n, noun))
	}
}

// writeBlobs prints the largest blobs and who holds them.
func writeBlobs(w *bytes.Buffer, all []audit.Blob, limit, width int) {
	if len(all) == 0 {
		return
	}
	t := &human.Table{Columns: []human.Column{human.Left, human.Right, human.Left, human.Prose}}
	t.Row("Largest blobs", "SIZE", "KIND", "HELD BY")
	for _, blob := range all[:min(limit, len(all))] {
		t.Row("  "+audit.Short(blob.Digest), human.Size(blob.Bytes), blob.Kind.Word(), holders(blob))
	}
	fmt.Fprintln(w)
	t.Write(w, width)
}

// holders names the first repositories that hold a blob.
func holders(blob audit.Blob) string {
	const shown = 3
	names := make([]string, 0, shown)
	for _, name := range blob.Holders[:min(shown, len(blob.Holders))] {
		names = append(names, human.Printable(name))
	}
	switch more := blob.Repositories - len(names); {
	case blob.Repositories == 0:
		return "nobody: garbage"
	case more > 0:
		return fmt.Sprintf("%s and %s more", strings.Join(names, ", "), human.Count(more))
	}
	return strings.Join(names, ", ")
}

// writeWhatIf prints what each choice would free.
func writeWhatIf(w *bytes.Buffer, choices []audit.WhatIf, bucket storage.Versioning, width int) {
	t := &human.Table{Columns: []human.Column{human.Prose, human.Right, human.Prose}}
	t.Row("What a run would free", "SIZE", "")
	for _, choice := range choices {
		t.Row("  "+human.Printable(choice.Choice), human.Size(choice.Bytes), audit.HidesWhat(bucket))
	}
	fmt.Fprintln(w)
	t.Write(w, width)
}
