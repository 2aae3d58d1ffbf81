package audit

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"regsweep/internal/human"
	"regsweep/mark"

	"github.com/opencontainers/go-digest"
)

// shape is the form in which a drawing shows a node.
type shape int

const (
	tagShape shape = iota
	manifestShape
	blobShape
	baseShape // an image that is not in the picture, as the base of another or on top of one
)

// style has the formats of a drawing's lines.
type style struct {
	escape *strings.Replacer // of a label, whose lines are divided by "\n"
	nodes  map[shape]string  // of the number of a node and its label
	edge   string            // of the numbers of two nodes
	named  string            // of the numbers of two nodes, and the name of the edge
	base   string            // of the numbers of an image and its base
}

// WriteDot writes the picture for Graphviz.
func (p *Picture) WriteDot(w *bytes.Buffer) {
	s := style{
		escape: strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`),
		nodes:  map[shape]string{},
		edge:   "  n%d -> n%d;\n",
		named:  "  n%d -> n%d [label=\"%s\"];\n",
		base:   "  n%d -> n%d [label=\"based on\", style=dashed, constraint=false];\n",
	}
	for shape, name := range map[shape]string{tagShape: "cds", manifestShape: "box", blobShape: "ellipse", baseShape: "box3d"} {
		s.nodes[shape] = "  n%d [shape=" + name + ", label=\"%s\"];\n"
	}
	fmt.Fprintf(w, "digraph \"%s\" {\n  rankdir=LR;\n", s.escape.Replace(human.Printable(p.Repository)))
	p.draw(w, s)
	w.WriteString("}\n")
}

// WriteMermaid writes the picture for Mermaid, as pages in Markdown show it.
func (p *Picture) WriteMermaid(w *bytes.Buffer) {
	w.WriteString("graph LR\n")
	p.draw(w, style{
		// Mermaid takes HTML entities, with # in the place of &.
		escape: strings.NewReplacer("#", "#35;", `"`, "#quot;", "&", "#amp;", "<", "#lt;", ">", "#gt;", "`", "#96;", `\`, "#92;", "\n", "<br/>"),
		nodes: map[shape]string{
			tagShape: "  n%d>\"%s\"]\n", manifestShape: "  n%d[\"%s\"]\n", blobShape: "  n%d(\"%s\")\n", baseShape: "  n%d[[\"%s\"]]\n",
		},
		edge:  "  n%d --> n%d\n",
		named: "  n%[1]d -->|%[3]s| n%[2]d\n",
		base:  "  n%d -.->|based on| n%d\n",
	})
}

// draw writes the nodes and edges of a picture.
func (p *Picture) draw(w *bytes.Buffer, s style) {
	count, numbers := 0, map[digest.Digest]int{}
	node := func(shape shape, lines ...string) int {
		for i, line := range lines {
			lines[i] = human.Printable(line)
		}
		fmt.Fprintf(w, s.nodes[shape], count, s.escape.Replace(strings.Join(lines, "\n")))
		count++
		return count - 1
	}
	for _, n := range p.Nodes {
		shape := blobShape
		if n.isManifest {
			shape = manifestShape
		}
		numbers[n.Digest] = node(shape, p.words(n)...)
	}
	tags := map[string]int{}
	for _, tag := range p.Tags {
		tags[tag.Name] = node(tagShape, p.Repository+":"+tag.Name)
	}
	for _, n := range p.Nodes {
		for _, tag := range n.Tags {
			fmt.Fprintf(w, s.edge, tags[tag], numbers[n.Digest])
		}
	}
	for _, e := range p.Edges {
		if e.Kind == mark.ReferrerEdge {
			fmt.Fprintf(w, s.named, numbers[e.From.Digest], numbers[e.To.Digest], e.Kind)
		} else {
			fmt.Fprintf(w, s.edge, numbers[e.From.Digest], numbers[e.To.Digest])
		}
	}
	image := func(of digest.Digest, names []string) int {
		if _, isDrawn := numbers[of]; !isDrawn {
			lines := slices.Concat(names, []string{Short(of)})
			lines[0] = strings.TrimSuffix(lines[0], "@"+string(of))
			numbers[of] = node(baseShape, lines...)
		}
		return numbers[of]
	}
	for _, b := range p.Bases {
		base := image(b.Base, b.BaseNames)
		fmt.Fprintf(w, s.base, image(b.Image, b.ImageNames), base)
	}
}
