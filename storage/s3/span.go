package s3

import (
	"math"
	"strings"
	"time"

	"regsweep/storage"
)

// s3Span is a stretch of keys that have a prefix in common and go on with characters
// of one alphabet. It gives each key a position from 0 to 1, and the other way round,
// so that where a number of keys ends can be told from how densely they lie.
type s3Span struct {
	prefix   string
	alphabet string // in the order of its characters
	// even is set where keys go on with a digest, whose digits are spread evenly.
	even bool
	// doubled is set for blobs, whose path repeats the first two digits:
	// ab/abcdef….
	doubled bool

	// keys lie in the stretches that were read, which are so wide together.
	keys, wide float64

	toll s3Toll
}

// s3Toll is what a server takes for a page that begins at some key, beside one with which a
// listing that it remembers goes on. To S3 they are the same. MinIO reads all names of the
// directory for the one, and sorts them, and has the other at hand; where 200,000 lie
// together the one takes 300 ms and the other 25 ms, and 64 ranges that begin at a key for each
// page take five times as long as one that goes on by tokens.
//
// So where very many keys lie together, and a page took long, a listing goes on by tokens
// until it is known that another range costs no more than its pages do.
type s3Toll struct {
	// The least that a page took which began at a key, and which did not; 0 if none was seen.
	// Any answer may come late by chance, and a toll is due every time.
	began, wentOn time.Duration
	steps         int  // pages that did not begin at a key
	pages         int  // all that were read
	retry         int  // how many it takes until a range is tried that may be dear
	none          bool // it is known that there is no toll
}

const (
	// dearKeys is how many keys in one directory are very many: with fewer the toll is less
	// than it costs to find out.
	dearKeys = 50 * pageLength
	// A page is dear that takes several times as long as another, and longer by more than
	// answers differ by chance.
	dearTimes, dearBy = 3, 100 * time.Millisecond
	// enoughSteps tell what going on takes. The first of them begin as well, and later ones
	// too may have to wait, in MinIO's case 250 ms for what it has yet to remember.
	enoughSteps = 5
	// retryPages is after how many pages a range is tried although the first was dear, which
	// may have been chance, and retryTimes after how many times as many the next.
	retryPages, retryTimes = 20, 20
)

// isOpen reports whether any number of ranges may be cut.
func (s *s3Span) isOpen() bool {
	return !s.even || s.doubled || s.density() < dearKeys || s.toll.none
}

// opens reports whether one more range may be cut, which it is then.
func (s *s3Span) opens() bool {
	if s.isOpen() {
		return true
	}
	t := &s.toll
	if t.steps < enoughSteps || t.pages < t.retry {
		return false
	}
	t.retry = retryTimes * t.pages
	return true
}

// note notes how long a page took, and whether a listing went on with it.
func (t *s3Toll) note(took time.Duration, wentOn bool) {
	t.pages++
	least := &t.began
	if wentOn {
		t.steps++
		least = &t.wentOn
	}
	if *least == 0 || took < *least {
		*least = took
	}
	switch {
	case t.began == 0:
	case t.began < dearBy:
		t.none = true
	case t.steps == 0:
	case t.began >= dearTimes*t.wentOn && t.began-t.wentOn >= dearBy:
		t.retry = max(t.retry, retryPages)
	case t.steps >= enoughSteps:
		t.none = true
	}
}

// behind is above all keys of the span: no character that names are made of comes after
// a tilde. Should there be one, it lies behind.
func (s *s3Span) behind() string { return s.prefix + "~" }

func (s *s3Span) note(keys, width float64) {
	if !s.even {
		s.keys, s.wide = 0, 0 // what holds for some names does not for the next
	}
	s.keys += keys
	s.wide += width
}

// density is the number of keys in the whole span, if they lie everywhere as they do
// where they were read.
func (s *s3Span) density() float64 {
	if s.wide == 0 {
		return 0
	}
	return s.keys / s.wide
}

// variance is that of a number of keys expected in some stretch: of how unevenly digests
// lie, and of how well their density is known. It is infinite where keys are no digests.
func (s *s3Span) variance(keys float64) float64 {
	if !s.even {
		return math.Inf(1)
	}
	return keys + keys*keys/s.keys
}

// ranges is how many ranges a span of digests is divided into, by what is known of how the keys
// lie: a density that is mistaken makes all of them too short or too long at once.
func (s *s3Span) ranges() float64 {
	pages := s.keys / pageLength
	if pages < firstRanges {
		return firstRanges
	}
	return 3 * pages
}

const (
	hexAlphabet    = "0123456789abcdef"
	digitAlphabet  = "0123456789"
	letterAlphabet = "abcdefghijklmnopqrstuvwxyz"
	nameAlphabet   = "-./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"
)

// spanDigits is how many characters a position takes into account.
const spanDigits = 10

// spanOf finds the span that two keys of one page lie in: the digests of one directory
// or names that differ from some character on.
// Names of repositories are known better (see s3Names), unless ungrouped is set.
func spanOf(stem, first, last string, ungrouped bool) *s3Span {
	if first == "" || first >= last {
		return nil
	}
	if prefix, doubled := digestDir(stem, last); prefix != "" && strings.HasPrefix(first, prefix) {
		return &s3Span{prefix: prefix, alphabet: hexAlphabet, even: true, doubled: doubled}
	}
	same := samePrefix(first, last)
	if same < len(stem) || same >= len(first) {
		return nil
	}
	if !ungrouped && !strings.Contains(last[len(stem):same], "/_manifests/tags/") {
		return nil
	}
	for same > len(stem) && isDigit(last[same-1]) && isDigit(last[same]) && isDigit(first[same]) {
		same-- // a number counts on from its first digit
	}
	alphabet := nameAlphabet
	for _, narrow := range []string{digitAlphabet, letterAlphabet} {
		if strings.IndexByte(narrow, first[same]) >= 0 && strings.IndexByte(narrow, last[same]) >= 0 {
			alphabet = narrow
		}
	}
	// Spans outlive the page that the key is part of.
	return &s3Span{prefix: strings.Clone(last[:same]), alphabet: alphabet}
}

// digestDir returns the directory of digests that a key lies in, if it does.
func digestDir(stem, key string) (prefix string, doubled bool) {
	below := key[len(stem):]
	if rest, found := strings.CutPrefix(below, "sha256/"); found && strings.HasSuffix(stem, storage.BlobsDir+"/") {
		return stem + below[:len(below)-len(rest)], true
	}
	at := strings.LastIndex(below, "/sha256/")
	if at < 0 {
		return "", false
	}
	return stem + below[:at+len("/sha256/")], false
}

// samePrefix is how many bytes two keys begin with in common.
func samePrefix(a, b string) int {
	same := 0
	for same < len(a) && same < len(b) && a[same] == b[same] {
		same++
	}
	return same
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func (s *s3Span) holds(key string) bool { return strings.HasPrefix(key, s.prefix) }

// position is where in the span a key lies.
func (s *s3Span) position(key string) float64 {
	rest := key[len(s.prefix):]
	if s.doubled && len(rest) >= 3 && rest[2] == '/' {
		rest = rest[3:]
	}
	position, unit := 0.0, 1.0
	for i := 0; i < spanDigits; i++ {
		unit /= float64(len(s.alphabet))
		if i >= len(rest) {
			break
		}
		position += unit * float64(rankIn(s.alphabet, rest[i]))
	}
	return position
}

// rankIn is the number of characters of the alphabet below c: all of them for the end of a span,
// which thus lies at 1.
func rankIn(alphabet string, c byte) int {
	rank := 0
	for rank < len(alphabet) && alphabet[rank] < c {
		rank++
	}
	return rank
}

// key is a key near a position; it need not exist.
func (s *s3Span) key(position float64) string {
	digits := make([]byte, 0, spanDigits)
	base := float64(len(s.alphabet))
	for range 6 {
		position *= base
		digit := math.Floor(position)
		position -= digit
		digits = append(digits, s.alphabet[int(min(max(digit, 0), base-1))])
	}
	if s.doubled {
		return s.prefix + string(digits[:2]) + "/" + string(digits)
	}
	return s.prefix + string(digits)
}
