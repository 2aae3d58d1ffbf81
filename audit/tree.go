package audit

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"

	"regsweep/internal/human"
	"regsweep/mark"

	"github.com/opencontainers/go-digest"
)

// Short returns a digest with its first twelve digits only.
func Short(of digest.Digest) string {
	algorithm, hex, _ := strings.Cut(string(of), ":")
	return algorithm + ":" + hex[:min(12, len(hex))]
}

// noPlatform is what BuildKit writes as the platform of an attestation.
const noPlatform = "unknown/unknown"

// words returns the words that describe a node: its platform, kind, digest, and size. The size of a manifest
// is that of its pull.
func (p *Picture) words(n *Node) (words []string) {
	if n.Platform != "" && n.Platform != noPlatform {
		words = append(words, n.Platform)
	}
	kind := string(n.Kind)
	if n.Purpose != "" {
		kind = n.Purpose.Word() + " " + kind
	}
	words = append(words, kind, Short(n.Digest))
	isAlias := slices.ContainsFunc(p.edgesOf(n), func(e PictureEdge) bool { return e.Kind == mark.AliasEdge })
	switch {
	case n.Stored:
		words = append(words, human.Size(cmp.Or(n.Pulled, n.Bytes)))
	case isAlias:
		words = append(words, "alias") // of the node below it
	default:
		words = append(words, "not stored")
	}
	if n.Damaged {
		words = append(words, "damaged")
	}
	if n.Untagged {
		words = append(words, "untagged")
	}
	return words
}

// tree writes a picture as a tree.
type tree struct {
	*Picture
	w       *bytes.Buffer
	written map[*Node]bool // their edges were written
}

// deepest is the number of levels that are written. Only referrers of referrers go so deep.
const deepest = 32

// shownTags is the number of tags that are written for a manifest.
const shownTags = 10

// WriteTree writes a tree with the tags, the untagged manifests, and what each of them reaches. Then it
// writes which image is based on which.
func (p *Picture) WriteTree(w *bytes.Buffer) {
	t := &tree{p, w, map[*Node]bool{}}
	bytes, blobs := int64(0), 0
	for _, n := range p.Nodes {
		if n.Stored {
			bytes, blobs = bytes+n.Bytes, blobs+1
		}
	}
	fmt.Fprintf(w, "%s: %s, %s in %s\n", human.Printable(p.Repository), human.Plural(len(p.Tags), "tag"), human.Size(bytes), human.Plural(blobs, "blob"))
	for i, n := range p.top {
		names := ""
		if len(n.Tags) > 0 {
			names = firstOf(n.Tags, shownTags) + " → "
		}
		t.node("", names, n, i == len(p.top)-1, 1)
	}
	for _, tag := range p.Tags {
		if tag.Digest == "" {
			fmt.Fprintf(w, "%s has no current link\n", human.Printable(tag.Name))
		}
	}
	t.writeBases()
}

// node writes a node and all below it. name is written before it.
func (t *tree) node(indent, name string, n *Node, isLast bool, depth int) {
	branch, below := "├─ ", "│  "
	if isLast {
		branch, below = "└─ ", "   "
	}
	edges, more := t.edgesOf(n), ""
	switch {
	case len(edges) > 0 && t.written[n]:
		edges, more = nil, "  (see above)"
	case len(edges) > 0 && depth == deepest:
		edges, more = nil, "  …"
	}
	if more == "" {
		t.written[n] = true
	}
	fmt.Fprintf(t.w, "%s%s%s%s%s\n", indent, branch, human.Printable(name), human.Printable(strings.Join(t.words(n), "  ")), more)
	for i, e := range edges {
		t.node(indent+below, "", e.To, i == len(edges)-1, depth+1)
	}
}

// shownBases is the number of lines about bases, if the shown images need no more. JSON has all.
const shownBases = 50

// writeBases writes a line for each image on which no other of the lines is based, with all that it is based on.
// It writes all lines that are needed to name each shown image. Others may be left out.
func (t *tree) writeBases() {
	base, isBase := map[digest.Digest]Base{}, map[digest.Digest]bool{}
	for _, b := range t.Bases {
		base[b.Image], isBase[b.Base] = b, true
	}
	var needed, more []string
	isNamed := map[digest.Digest]bool{}
	for _, b := range t.Bases {
		if isBase[b.Image] {
			continue
		}
		names, isNeeded := []string{t.imageName(b.Image, b.ImageNames)}, t.nodes[b.Image] != nil
		for at, found := b, true; found; at, found = base[at.Base] {
			names = append(names, t.imageName(at.Base, at.BaseNames))
			isNeeded = isNeeded || t.nodes[at.Base] != nil && !isNamed[at.Base]
			isNamed[at.Base] = true
		}
		slices.Reverse(names)
		if line := strings.Join(names, " <- "); isNeeded {
			needed = append(needed, line)
		} else {
			more = append(more, line)
		}
	}
	if len(needed) == 0 {
		return
	}
	slices.Sort(more)
	written := max(0, min(len(more), shownBases-len(needed)))
	lines := slices.Concat(needed, more[:written])
	slices.Sort(lines)
	fmt.Fprintf(t.w, "\nBased on, the base first\n")
	for _, line := range lines {
		fmt.Fprintf(t.w, "  %s\n", human.Printable(line))
	}
	if left := len(more) - written; left > 0 {
		fmt.Fprintf(t.w, "  and %s more: see --json\n", human.Count(left))
	}
}

// imageName returns the first names of an image, with its platform, or its digest. A name in the shown
// repository has the tag or the digest only.
func (t *tree) imageName(of digest.Digest, names []string) string {
	inTree := make([]string, len(names))
	for i, name := range names {
		name = strings.Replace(name, "@"+string(of), "@"+Short(of), 1)
		inTree[i] = strings.TrimPrefix(strings.TrimPrefix(name, t.Repository+":"), t.Repository+"@")
	}
	name := cmp.Or(firstOf(inTree, 3), Short(of))
	if n := t.nodes[of]; n != nil && n.Platform != "" {
		name += " " + n.Platform
	}
	return name
}

// firstOf returns the first of some names as a list.
func firstOf(names []string, most int) string {
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return strings.Join(names[:most], ", ") + ", …"
}
