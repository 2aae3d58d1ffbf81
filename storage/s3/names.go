package s3

import (
	"math"
	"slices"
	"sort"
	"strings"

	"regsweep/storage"
)

// s3Names are the names right below a directory, of repositories or of what they lie in,
// as far as they have been listed. Keys lie among them as they lie among those that were
// read.
type s3Names struct {
	prefix string
	names  []string // whole prefixes of keys, in order
	whole  bool     // there are no more
	asked  bool     // a listing of (more) names is under way

	sizes       nameSizes // of names that were read from their first key to their last
	long        nameSizes // of what is told by the digests of those that ranges are in
	keys, ranks float64   // so many keys were read, and so many names come to
	deeper      float64   // keys that are expected in names that were come to
	counted     bool      // see s3Division.expect
	span        *s3Span   // see spanOf
}

// areDear reports whether so little lies in each name that no more of them are listed. Of
// repositories with a dozen keys a thousand names are twelve pages.
func (n *s3Names) areDear() bool {
	return !n.whole && n.sizes.names >= toldNames && n.sizes.each() < namesPay
}

// toldNames is how many names have to be read until it is held that they are dear.
const toldNames = 200

// spanOf is the span of dear names that a page runs through, or nil. They are guessed at like
// those of tags: all have in common what those have that were seen, and go on with their
// characters.
func (n *s3Names) spanOf(first, last string) *s3Span {
	if n.span != nil && n.span.holds(first) && n.span.holds(last) {
		return n.span
	}
	seen := append([]string{first, last}, n.names...)
	lowest, highest := slices.Min(seen), slices.Max(seen)
	same := samePrefix(lowest, highest)
	for same > len(n.prefix) && isDigit(lowest[same-1]) {
		same-- // a number counts on from its first digit
	}
	var alphabet []byte
	for _, name := range seen {
		rest, _, _ := strings.Cut(name[same:], "/")
		for i := range len(rest) {
			if !slices.Contains(alphabet, rest[i]) {
				alphabet = append(alphabet, rest[i])
			}
		}
	}
	if len(alphabet) < 2 {
		return nil
	}
	slices.Sort(alphabet)
	n.span = &s3Span{prefix: strings.Clone(lowest[:same]), alphabet: string(alphabet)}
	return n.span
}

func (n *s3Names) last() string {
	if len(n.names) == 0 {
		return ""
	}
	return n.names[len(n.names)-1]
}

// rank is the number of names up to a key's own.
func (n *s3Names) rank(key string) float64 { return float64(n.at(key) + 1) }

// at is the place of the last name that is not above a key, or -1.
func (n *s3Names) at(key string) int {
	return sort.Search(len(n.names), func(i int) bool { return n.names[i] > key }) - 1
}

// left is how many names a range has yet to come to.
func (n *s3Names) left(r *s3Range) float64 {
	end := len(n.names)
	if r.upTo != "" {
		end = sort.SearchStrings(n.names, r.upTo)
	}
	return max(0, float64(end)-n.rank(r.after))
}

// rest is how much may be left of the name that a range is in: all, where it begins with
// one. What is left of a long one is told by its span.
func (n *s3Names) rest(r *s3Range) float64 {
	switch at := n.at(r.after); {
	case r.levels[0] != n || r.span != nil || at < 0 || !strings.HasPrefix(r.after, n.names[at]):
		return 0
	case r.pages > 0 && r.tailIn == n:
		return max(0, 1-r.tail/n.each())
	case r.pages > 0:
		return 0.5
	case n.names[at] == r.after:
		return 1
	}
	return 0
}

// following is the name that comes after so many which a range has yet to come to, or the last.
func (n *s3Names) following(r *s3Range, names float64) string {
	next := n.at(r.after) + 1
	if names > 0 {
		next += int(min(names, n.left(r)-1))
	}
	return n.names[next]
}

func (n *s3Names) note(keys, ranks float64) {
	n.keys += keys
	n.ranks += ranks
}

// count notes how many keys lie in the names that a range has come to the end of. It came from
// before with a page of objects, whose paths are keys without so many bytes.
func (n *s3Names) count(r *s3Range, before string, objects []storage.Object, without int) {
	at, was := n.at(r.after), n.at(before)
	if at < 0 || !strings.HasPrefix(r.after, n.names[at]) {
		r.tailIn = nil // it was not listed yet
		return
	}
	// up is how many of the page's keys come before a name.
	up := func(name string) float64 {
		return float64(sort.Search(len(objects), func(i int) bool { return objects[i].Path >= name[without:] }))
	}
	if r.pages == 1 && was >= 0 && n.names[was] == before {
		r.tailIn, r.tail = n, 0
	}
	page, ended := float64(len(objects)), up(n.names[at])
	tail := page - ended
	switch first := n.at(r.first); {
	case r.tailIn == n && at == was:
		r.tail += page
		return
	case r.tailIn == n:
		n.sizes.note(r.tail+ended, float64(at-was))
	case ended == 0:
		r.tailIn = nil // nobody knows where the name began
		return
	case first >= 0 && first+1 < at && strings.HasPrefix(r.first, n.names[first]):
		n.sizes.note(ended-up(n.names[first+1]), float64(at-first-1))
	}
	r.tailIn, r.tail = n, tail
}

// look finds what the ranges that are in some of the names tell of these.
func (n *s3Names) look(active map[*s3Range]bool) {
	n.deeper, n.long = 0, nameSizes{}
	var found map[int]float64
	for r := range active {
		if !r.isIn(n) {
			continue
		}
		n.deeper += r.ahead
		at := n.at(r.after)
		if at < 0 || r.span == nil || !r.span.even {
			continue
		}
		// Of a repository's digests those of its layers are most.
		if rest, isIn := strings.CutPrefix(r.after, n.names[at]); isIn && strings.HasPrefix(rest, "_") {
			if found == nil {
				found = map[int]float64{}
			}
			found[at] = max(found[at], r.span.density())
		}
	}
	for _, keys := range found {
		n.long.note(keys, 1)
	}
}

// tell reports whether enough names were read to tell how much lies in one.
func (n *s3Names) tell() bool { return n.sizes.samples >= enoughPages && n.sizes.names >= enoughNames }

const enoughPages, enoughNames = 3, 7

// each is how many keys may lie in one name.
func (n *s3Names) each() float64 {
	if n.tell() {
		return n.sizes.each()
	}
	return (n.keys + n.deeper) / max(1, n.ranks, n.long.names)
}

// variance is that of the keys in a number of names: of how much they differ, and of how well it
// is known what lies in one.
func (n *s3Names) variance(names float64) float64 {
	sizes, scale := n.sizes, 1.0
	if !n.tell() {
		if n.long.names < max(2, n.ranks) {
			return math.Inf(1) // what lies in the others is not known
		}
		sizes, scale = n.long, n.each()/n.long.each()
	}
	return scale * scale * sizes.variance() * (names + names*names/sizes.names)
}

// costMost is what a cut may cost for each page while names follow that were not listed: of what the
// pages earn, the listing of a thousand names takes its part for each that lies in them.
func (n *s3Names) costMost() float64 { return max(0.01, costShare-1/n.each()) }

// nameSizes is how many keys lie in names. A sample is a run of whole names and the keys in them.
type nameSizes struct {
	samples, names, keys float64
	// Sums of squares and products over the samples.
	names2, keys2, both float64
}

func (s *nameSizes) note(keys, names float64) {
	s.samples++
	s.names += names
	s.keys += keys
	s.names2 += names * names
	s.keys2 += keys * keys
	s.both += keys * names
}

func (s *nameSizes) each() float64 { return s.keys / s.names }

// variance is that of the keys in one name, as two samples or more tell it.
func (s *nameSizes) variance() float64 {
	each := s.each()
	squares := s.keys2 - 2*each*s.both + each*each*s.names2
	return max(0, squares) / s.names * s.samples / (s.samples - 1)
}

// dirOfNames is the directory whose names a page between two keys runs through, or "":
// that of repositories where it runs through several, and of what they lie in.
func dirOfNames(stem, first, last string) string {
	if first == "" || first >= last {
		return ""
	}
	same := samePrefix(first, last)
	dir := last[:strings.LastIndexByte(last[:same], '/')+1]
	// Within one repository it is the one that this lies in.
	if at := strings.Index(last[len(stem)-1:], "/_"); at >= 0 && len(dir) >= len(stem)+at {
		dir = last[:max(len(stem), 1+strings.LastIndexByte(last[:len(stem)+at-1], '/'))]
	}
	return dir
}
