package storage

import (
	"sort"
	"strings"
)

// s3Names are the names right below a directory, of repositories or of what they lie in,
// as far as they have been listed. Keys lie among them as they lie among those that were
// read.
type s3Names struct {
	prefix string
	names  []string // whole prefixes of keys, in order
	whole  bool     // there are no more
	asked  bool     // a listing of (more) names is under way

	keys, ranks float64 // so many keys were read, in so many names
	deeper      float64 // keys that are expected in names that were come to
	counted     bool    // see s3Division.estimate
}

func (n *s3Names) last() string {
	if len(n.names) == 0 {
		return ""
	}
	return n.names[len(n.names)-1]
}

// rank is the number of names up to a key's own.
func (n *s3Names) rank(key string) float64 {
	return float64(sort.Search(len(n.names), func(i int) bool { return n.names[i] > key }))
}

// left is how many names a range has yet to come to.
func (n *s3Names) left(r *s3Range) float64 {
	end := len(n.names)
	if r.upTo != "" {
		end = sort.SearchStrings(n.names, r.upTo)
	}
	return max(0, float64(end)-n.rank(r.after))
}

func (n *s3Names) note(keys, ranks float64) {
	n.keys += keys
	n.ranks += ranks
}

// each is how many keys may lie in one name.
func (n *s3Names) each() float64 { return (n.keys + n.deeper) / max(1, n.ranks) }

// dirOfNames is the directory whose names a page between two keys runs through, or "":
// that of repositories where it runs through several, and of what they lie in.
func dirOfNames(stem, first, last string) string {
	if first == "" || first >= last {
		return ""
	}
	same := len(stem)
	for same < len(first) && same < len(last) && first[same] == last[same] {
		same++
	}
	dir := last[:strings.LastIndexByte(last[:same], '/')+1]
	// Within one repository it is the one that this lies in.
	if at := strings.Index(last[len(stem)-1:], "/_"); at >= 0 && len(dir) >= len(stem)+at {
		dir = last[:max(len(stem), 1+strings.LastIndexByte(last[:len(stem)+at-1], '/'))]
	}
	return dir
}
