package audit

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"regsweep/internal/human"

	"github.com/opencontainers/go-digest"
)

// drawing numbers the nodes of a picture. Bases in other repositories are nodes too.
type drawing struct {
	labels []string // by number; lines are divided by "\n"
	shapes []string // by number: "tag", "manifest", "blob" or "base"
	edges  []drawnEdge
}

type drawnEdge struct {
	from, to int
	label    string // "" for the usual edges
}

// newDrawing returns the drawing of a picture. Its labels are not escaped yet.
func newDrawing(p *Picture) *drawing {
	d, numbers := &drawing{}, map[digest.Digest]int{}
	add := func(shape string, lines ...string) int {
		for i, line := range lines {
			lines[i] = human.Printable(line)
		}
		d.labels, d.shapes = append(d.labels, strings.Join(lines, "\n")), append(d.shapes, shape)
		return len(d.labels) - 1
	}
	addImage := func(of digest.Digest, names []string) {
		if _, found := numbers[of]; !found {
			numbers[of] = add("base", slices.Concat(names, []string{Short(of)})...)
		}
	}
	for _, n := range p.Nodes {
		shape := "blob"
		if n.Pulled > 0 {
			shape = "manifest"
		}
		numbers[n.Digest] = add(shape, n.words()...)
	}
	for _, tag := range p.Tags {
		if to, found := numbers[tag.Digest]; found {
			d.edges = append(d.edges, drawnEdge{add("tag", p.Repository+":"+tag.Name), to, ""})
		}
	}
	for _, e := range p.Edges {
		label := ""
		if e.Kind == ReferrerEdge {
			label = e.Kind
		}
		d.edges = append(d.edges, drawnEdge{numbers[e.From], numbers[e.To], label})
	}
	for _, b := range p.Bases {
		addImage(b.Base, b.BaseNames)
		addImage(b.Image, b.ImageNames)
		d.edges = append(d.edges, drawnEdge{numbers[b.Image], numbers[b.Base], basedOn})
	}
	return d
}

const basedOn = "based on"

// WriteDot writes the picture for Graphviz.
func (p *Picture) WriteDot(w *bytes.Buffer) {
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)
	shapes := map[string]string{"tag": "cds", "manifest": "box", "blob": "ellipse", "base": "box3d"}
	fmt.Fprintf(w, "digraph \"%s\" {\n  rankdir=LR;\n", escape.Replace(human.Printable(p.Repository)))
	d := newDrawing(p)
	for i, label := range d.labels {
		fmt.Fprintf(w, "  n%d [shape=%s, label=\"%s\"];\n", i, shapes[d.shapes[i]], escape.Replace(label))
	}
	for _, e := range d.edges {
		switch e.label {
		case "":
			fmt.Fprintf(w, "  n%d -> n%d;\n", e.from, e.to)
		case basedOn:
			fmt.Fprintf(w, "  n%d -> n%d [label=\"%s\", style=dashed, constraint=false];\n", e.from, e.to, e.label)
		default:
			fmt.Fprintf(w, "  n%d -> n%d [label=\"%s\"];\n", e.from, e.to, e.label)
		}
	}
	w.WriteString("}\n")
}

// WriteMermaid writes the picture for Mermaid, as pages in Markdown show it.
func (p *Picture) WriteMermaid(w *bytes.Buffer) {
	// Mermaid takes HTML entities, with # in the place of &.
	escape := strings.NewReplacer("#", "#35;", `"`, "#quot;", "&", "#amp;", "<", "#lt;", ">", "#gt;", "`", "#96;", `\`, "#92;", "\n", "<br/>")
	shapes := map[string][2]string{"tag": {`>"`, `"]`}, "manifest": {`["`, `"]`}, "blob": {`("`, `")`}, "base": {`[["`, `"]]`}}
	w.WriteString("graph LR\n")
	d := newDrawing(p)
	for i, label := range d.labels {
		shape := shapes[d.shapes[i]]
		fmt.Fprintf(w, "  n%d%s%s%s\n", i, shape[0], escape.Replace(label), shape[1])
	}
	for _, e := range d.edges {
		switch e.label {
		case "":
			fmt.Fprintf(w, "  n%d --> n%d\n", e.from, e.to)
		case basedOn:
			fmt.Fprintf(w, "  n%d -.->|%s| n%d\n", e.from, e.label, e.to)
		default:
			fmt.Fprintf(w, "  n%d -->|%s| n%d\n", e.from, e.label, e.to)
		}
	}
}
