package storage

import (
	"math"
	"strings"
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
	keys, width float64
}

// density is the number of keys in the whole span, if they lie everywhere as they do
// where they were read.
func (s *s3Span) density() float64 { return s.keys / s.width }

const (
	hexAlphabet    = "0123456789abcdef"
	digitAlphabet  = "0123456789"
	letterAlphabet = "abcdefghijklmnopqrstuvwxyz"
	nameAlphabet   = "-./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"
)

// spanDigits is how many characters a position takes into account.
const spanDigits = 10

// spanOf finds the span that two keys of one page lie in: the digests of one directory
// or, where the page runs through several, names that differ from some character on.
func spanOf(stem, first, last string) *s3Span {
	if first >= last {
		return nil
	}
	if prefix, doubled := digestDir(stem, last); prefix != "" && strings.HasPrefix(first, prefix) {
		return &s3Span{prefix: prefix, alphabet: hexAlphabet, even: true, doubled: doubled}
	}
	same := 0
	for same < len(first) && first[same] == last[same] {
		same++
	}
	if same < len(stem) || same >= len(first) {
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
	if rest, found := strings.CutPrefix(below, "sha256/"); found && strings.HasSuffix(stem, BlobsDir+"/") {
		return stem + below[:len(below)-len(rest)], true
	}
	at := strings.LastIndex(below, "/sha256/")
	if at < 0 {
		return "", false
	}
	return stem + below[:at+len("/sha256/")], false
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

// rankIn is the number of characters of the alphabet below c.
func rankIn(alphabet string, c byte) int {
	rank := 0
	for rank < len(alphabet) && alphabet[rank] < c {
		rank++
	}
	return min(rank, len(alphabet)-1)
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
