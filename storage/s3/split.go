package s3

import (
	"encoding/base64"
	"math"
	"sort"
	"strings"

	"regsweep/storage"
)

// split is a key where a range may be split.
type split struct {
	bound string
	pages float64 // that the range may have left; 0 if it must not be split
	// behind is set if the page that was read tells little of the keys at the bound.
	behind bool
	// dir, if set, is a directory whose names have to be listed first.
	dir string
}

// half guesses where the middle of a range lies, by the last page that was read. If the directories
// ahead have names, it is the middle name. Otherwise the ruler of the page finds the middle key.
func (l *division) half(r *keyRange) split {
	if r.first == "" {
		return split{}
	}
	// From the outermost directory to the innermost one that has all of the page, or to a repository.
	for at := len(l.stem); l.names != nil && at < len(r.after) && r.after[at] != '_'; {
		prefix := r.after[:at]
		if !strings.HasPrefix(r.first, prefix) {
			break
		}
		d := l.dirs[prefix]
		if d == nil {
			return split{dir: prefix, pages: math.Inf(1)}
		}
		next, end := d.above(r.after), len(d.names)
		if r.upTo != "" {
			end = sort.SearchStrings(d.names, r.upTo)
		}
		if next < end {
			passed := next - d.above(r.first) // so many names did the page come to
			s := split{bound: d.names[(next+end)/2], pages: float64(end-next) / float64(max(1, passed)), behind: passed == 0}
			if d.more && end == len(d.names) {
				// Most names may be those that were not listed.
				s = split{bound: d.names[end-1], pages: math.Inf(1), behind: true}
			}
			if s = l.allowed(r, s); s.pages > 0 || passed > 0 {
				return s
			}
			break
		}
		name := strings.IndexByte(r.after[at:], '/')
		if name < 0 {
			break
		}
		at += name + 1
	}
	return l.allowed(r, r.ruler.half(r))
}

// allowed returns the split if the range is worth it, and was not split in this way since its last
// page. So a reader can make no more than two bad splits for each page.
func (l *division) allowed(r *keyRange, s split) split {
	// In a long listing small pieces would use up the budget.
	least := max(2, float64(l.pages)/128)
	if s.pages >= least && (s.behind && !r.splitBehind || !s.behind && !r.splitWithin) {
		return s
	}
	return split{}
}

// directory has the first names directly below a prefix.
type directory struct {
	names []string // whole prefixes of keys, in order
	more  bool     // there are names that were not listed
}

// above is the number of the first name above a key.
func (d *directory) above(key string) int {
	return sort.Search(len(d.names), func(i int) bool { return d.names[i] > key })
}

// ruler measures keys that begin with the same prefix. The rest of a key is read as a fraction
// between 0 and 1. Its digits are the characters that the keys of a page have. Digests lie evenly
// between 0 and 1. Other names do not, and their splits are uneven.
type ruler struct {
	prefix   string
	alphabet string // the digits, in order
	doubled  bool   // the keys are those of blobs, ab/abcd…
}

// newRuler returns the ruler for a page of keys, which are paths below root. Its prefix is the common
// prefix of the keys without up to four letters or digits at its end. The keys v100 to v199 have v1 in
// common, and the next key may be v2. So their ruler has the prefix v.
func newRuler(root, stem, first, last string, page []storage.Object) ruler {
	at := samePrefix(first, last)
	for back := 0; back < 4 && at > len(stem) && isAlphanumeric(first[at-1]); back++ {
		at--
	}
	u := ruler{prefix: first[:at]}
	if rest := first[at:]; len(rest) > 5 && rest[2] == '/' && rest[:2] == rest[3:5] {
		u.doubled = true
	} else if at >= len(stem)+3 && first[at-1] == '/' && strings.HasPrefix(rest, first[at-3:at-1]) {
		u.prefix, u.doubled = first[:at-3], true
	}
	var seen [256]bool
	for i := 0; i < len(page); i += 16 { // these are enough to see all digits of digests
		name, _, _ := strings.Cut(u.digits(root+page[i].Path), "/")
		for j := range len(name) {
			seen[name[j]] = true
		}
	}
	for i := range len(plainCharacters) {
		if seen[plainCharacters[i]] {
			u.alphabet += plainCharacters[i : i+1]
		}
	}
	return u
}

func isAlphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// samePrefix is how many bytes two keys begin with in common.
func samePrefix(a, b string) int {
	same := 0
	for same < len(a) && same < len(b) && a[same] == b[same] {
		same++
	}
	return same
}

// digits are what follows the prefix in a key.
func (u *ruler) digits(key string) string {
	rest := key[len(u.prefix):]
	if u.doubled && len(rest) > 2 && rest[2] == '/' {
		return rest[3:]
	}
	return rest
}

// position is the fraction that digits stand for.
func (u *ruler) position(digits string) float64 {
	position, unit := 0.0, 1.0
	for i := 0; i < len(digits) && unit > 1e-16; i++ {
		unit /= float64(len(u.alphabet))
		rank := 0
		for rank < len(u.alphabet) && u.alphabet[rank] < digits[i] {
			rank++
		}
		position += unit * float64(rank)
	}
	return position
}

// key is the key at a position, after some digits. It need not exist.
func (u *ruler) key(digits string, position float64) string {
	for range 8 {
		position *= float64(len(u.alphabet))
		digit := min(int(position), len(u.alphabet)-1)
		position -= float64(digit)
		digits += u.alphabet[digit : digit+1]
	}
	if u.doubled {
		digits = digits[:2] + "/" + digits
	}
	return u.prefix + digits
}

// half is the middle of what a range has left below the prefix. If the range goes on behind the
// prefix, it is first split there.
func (u *ruler) half(r *keyRange) split {
	if len(u.alphabet) < 2 {
		return split{}
	}
	after, common, end := u.digits(r.after), 0, 1.0
	goesOn := r.upTo == "" || !strings.HasPrefix(r.upTo, u.prefix)
	if !goesOn {
		upTo := u.digits(r.upTo)
		common = samePrefix(after, upTo)
		end = u.position(upTo[common:])
	}
	at, first := u.position(after[common:]), 0.0
	if digits, found := strings.CutPrefix(u.digits(r.first), after[:common]); found {
		first = u.position(digits)
	}
	s := split{pages: (end - at) / (at - first)} // infinite, if the page is too narrow to measure
	switch {
	case goesOn && !r.splitBehind:
		// No plain character is above a tilde.
		s.bound, s.behind = u.prefix+"~", true
	case r.byToken:
		return split{}
	default:
		s.bound = u.key(after[:common], (at+end)/2)
	}
	return s
}

// hugeDirectory is how many pages a directory has that MinIO is slow to begin a page in.
const hugeDirectory = 50

// isHuge reports whether a range has come to a huge directory of digests.
func (u *ruler) isHuge(r *keyRange) bool {
	const hexDigits = "0123456789abcdef"
	width := u.position(u.digits(r.after)) - u.position(u.digits(r.first))
	return u.alphabet == hexDigits && strings.HasSuffix(u.prefix, "/") && !u.doubled && width*hugeDirectory < 1
}

// isMinIOToken reports whether a token is MinIO's. Such a token names a listing that the server
// remembers, and contains [minio_cache:v2,…].
func isMinIOToken(token string) bool {
	decoded, err := base64.StdEncoding.DecodeString(token)
	return err == nil && strings.Contains(string(decoded), "[minio_cache:")
}
