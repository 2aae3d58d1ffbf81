package audit

import (
	"bufio"
	"cmp"
	"crypto/sha256"
	_ "embed" // for the files of the page
	"encoding/base64"
	"encoding/json"
	"io"
	"slices"
	"strings"
	"time"

	"regsweep/inventory"
	"regsweep/storage"
)

// The page consists of these files. It loads nothing else.
var (
	//go:embed page/page.html
	pageHTML string
	//go:embed page/page.css
	pageCSS string
	//go:embed page/bill.js
	billJS string
	//go:embed page/map.js
	mapJS string
	//go:embed page/tables.js
	tablesJS string

	pageJS = billJS + mapJS + tablesJS
)

// PageStart returns the first line of each page that WritePage writes.
func PageStart() string {
	line, _, _ := strings.Cut(pageHTML, "\n")
	return line
}

// Page is what the page shows.
type Page struct {
	Time     time.Time           `json:"time"`
	Bytes    Bytes               `json:"bytes"`
	Growth   [Months]int64       `json:"growth"`
	Ladder   []Step              `json:"ladder"`
	Kinds    []KindBytes         `json:"kinds"`
	Blobs    []Blob              `json:"blobs"`
	WhatIf   []WhatIf            `json:"what_if"`
	Problems []inventory.Problem `json:"problems"`

	// WritePage sets these.
	Root         string              `json:"root"`
	Versioning   storage.Versioning  `json:"versioning"` // of Outside
	Hides        string              `json:"hides"`      // HidesWhat
	KindNames    map[Kind]string     `json:"kind_names"` // Kind.Many
	Common       []Common            `json:"common"`
	Notes        []inventory.Problem `json:"notes"`         // those of Problems that are notes
	ProblemCount int                 `json:"problem_count"` // Problems has the first of them
	NoteCount    int                 `json:"note_count"`

	// Repositories are in the order of the inventory. They follow the other values in the file.
	Repositories []Repository `json:"-"`
}

// mostProblems is the number of problems, and of notes, on the page.
const mostProblems = 1000

// pageRepository is a repository on the page.
type pageRepository struct {
	Repository
	Garbage        int64     `json:"garbage"`         // garbage that it links, see linkedGarbage
	UntaggedBytes  int64     `json:"untagged_bytes"`  // kept by untagged manifests and damage
	UntaggedUnique int64     `json:"untagged_unique"` // the part that no tag and no other repository keeps
	TagList        []pageTag `json:"tag_list"`
	// More has the sums of the tags that TagList leaves out.
	More moreTags `json:"more"`
}

// pageTag is a tag on the page: its name, push time in seconds, logical, bytes and unique. An array takes
// less room in the file than an object.
type pageTag [5]any

type moreTags struct {
	Count  int   `json:"count"`
	Bytes  int64 `json:"bytes"`
	Unique int64 `json:"unique"`
}

// mostTags returns the number of tags of each repository on the page. With many repositories it is
// smaller, so that a browser can open the page.
func mostTags(repositories int) int { return min(max(200_000/max(repositories, 1), 20), 2000) }

// WritePage writes the page: one HTML file, which a browser opens without a network. Names are data in
// it: they are never parsed as HTML.
func (k *Keepers) WritePage(w io.Writer, page Page) error {
	page.Root, page.Versioning = k.facts.Inventory.Identity.Root, k.facts.Outside.Versioning
	page.Hides, page.Common = HidesWhat(page.Versioning), k.Common()
	page.KindNames = map[Kind]string{}
	for _, kind := range Kinds {
		page.KindNames[kind] = kind.Many()
	}
	page.Notes, page.NoteCount = firstProblems(page.Problems, true)
	page.Problems, page.ProblemCount = firstProblems(page.Problems, false)
	head, tail, _ := strings.Cut(strings.NewReplacer(
		"{{css}}", pageCSS, "{{js}}", pageJS, "{{css hash}}", hash(pageCSS), "{{js hash}}", hash(pageJS),
	).Replace(pageHTML), "{{data}}")
	out := bufio.NewWriterSize(w, 1<<16) // it keeps the first error
	data := json.NewEncoder(out)         // it writes < as \u003c, so that no name ends the script element
	out.WriteString(head)
	out.WriteString(`{"audit":`)
	if err := data.Encode(page); err != nil {
		return err
	}
	out.WriteString(`,"repositories":[`)
	garbage := k.facts.linkedGarbage()
	for i, r := range page.Repositories {
		if i > 0 {
			out.WriteByte(',')
		}
		if err := data.Encode(k.pageRepository(i, r, int64(garbage[i]+0.5))); err != nil {
			return err
		}
	}
	out.WriteString("]}")
	out.WriteString(tail)
	return out.Flush()
}

// firstProblems returns the first problems that are notes, or are none, and the number of all of them.
func firstProblems(all []inventory.Problem, notes bool) (first []inventory.Problem, count int) {
	first = []inventory.Problem{}
	for _, p := range all {
		if (p.Effect == inventory.Note) != notes {
			continue
		}
		if count++; count <= mostProblems {
			first = append(first, p)
		}
	}
	return first, count
}

func (k *Keepers) pageRepository(i int, r Repository, garbage int64) pageRepository {
	keepers, listed := k.Of(i), k.facts.Inventory.Repositories[i]
	untagged := keepers[len(listed.Tags)]
	out := pageRepository{
		Repository: r, Garbage: garbage, UntaggedBytes: untagged.Bytes, UntaggedUnique: untagged.Unique, TagList: []pageTag{},
	}
	order := make([]int, len(listed.Tags))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(keepers[b].Unique, keepers[a].Unique), cmp.Compare(keepers[b].Bytes, keepers[a].Bytes))
	})
	for n, tag := range order {
		keeper := keepers[tag]
		if n < mostTags(len(k.begin)) {
			out.TagList = append(out.TagList, pageTag{listed.Tags[tag].Name, seconds(listed.TagPushed(tag)), keeper.Logical, keeper.Bytes, keeper.Unique})
			continue
		}
		out.More.Count++
		out.More.Bytes += keeper.Bytes
		out.More.Unique += keeper.Unique
	}
	return out
}

// hash returns the source expression for the content security policy that allows one inline element.
func hash(content string) string {
	sum := sha256.Sum256([]byte(content))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// linkedGarbage returns the garbage that each repository still links, in bytes. A blob that several
// repositories link counts in parts. So the sum is all garbage but that which nobody links.
func (f Facts) linkedGarbage() []float64 {
	count := make([]uint32, f.Inventory.Blobs())
	each := func(r *inventory.Repository, visit func(id inventory.ID)) {
		for _, links := range [][]inventory.Link{r.Revisions, r.Layers} {
			for _, link := range links {
				if id := link.ID(); f.Inventory.Stored(id) && !f.Live.Blob(id).Alive() {
					visit(id)
				}
			}
		}
	}
	for _, r := range f.Inventory.Repositories {
		each(r, func(id inventory.ID) { count[id]++ })
	}
	out := make([]float64, len(f.Inventory.Repositories))
	for i, r := range f.Inventory.Repositories {
		each(r, func(id inventory.ID) { out[i] += float64(f.size(id)) / float64(count[id]) })
	}
	return out
}
