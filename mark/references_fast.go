package mark

import (
	"strings"

	"github.com/opencontainers/go-digest"
)

// readPlain reads a manifest of a known kind in one pass over its bytes, without
// reflection. It gives up, with ok false, on everything out of the ordinary: then the
// manifest is read again with encoding/json, which decides. What it does accept it
// must read exactly as that would; FuzzReferences holds the two against each other.
//
// Out of the ordinary are escapes, nulls and non-ASCII in what it has to understand,
// fields given twice or in other letters (encoding/json ignores case), and numbers
// that are no plain sizes.
func readPlain(content []byte) (m Manifest, ok bool) {
	s := scanner{text: string(content)}
	d := plainDocument{}
	if !s.object(func(key string) bool { return d.field(&s, key) }) || !s.end() {
		return Manifest{}, false
	}
	m.MediaType = d.mediaType
	m.Kind = kindOf(d.mediaType)
	if !d.seen(fieldMediaType) {
		switch {
		case d.schemaVersion == "1":
			m.Kind = Schema1
		case d.seen(fieldManifests):
			m.Kind = Index
		case d.seen(fieldConfig) || d.seen(fieldLayers):
			m.Kind = Image
		}
	}
	if m.Kind == Unknown {
		return Manifest{}, false
	}
	m.Subject = d.subject.Digest
	m.References = make([]Reference, 0, len(d.config)+len(d.layers)+len(d.fsLayers)+len(d.manifests))
	for _, part := range [][]Reference{d.config, d.layers, d.fsLayers, d.manifests} {
		m.References = append(m.References, part...)
	}
	return m, true
}

// The fields of a manifest that count, as bits.
const (
	fieldSchemaVersion = 1 << iota
	fieldMediaType
	fieldConfig
	fieldLayers
	fieldManifests
	fieldSubject
	fieldFSLayers
)

var documentFields = [...]struct {
	name  string
	field uint
}{
	{"schemaVersion", fieldSchemaVersion}, {"mediaType", fieldMediaType}, {"config", fieldConfig}, {"layers", fieldLayers},
	{"manifests", fieldManifests}, {"subject", fieldSubject}, {"fsLayers", fieldFSLayers},
}

// documentField finds a field by its name; known is set for a name in other letters too.
func documentField(key string) (field uint, known bool) {
	for _, f := range documentFields {
		if len(f.name) == len(key) && strings.EqualFold(f.name, key) {
			if f.name != key {
				return 0, true
			}
			return f.field, true
		}
	}
	return 0, false
}

type plainDocument struct {
	fields                              uint
	schemaVersion, mediaType            string
	config, layers, fsLayers, manifests []Reference
	subject                             Reference
}

func (d *plainDocument) seen(field uint) bool { return d.fields&field != 0 }

func (d *plainDocument) field(s *scanner, key string) (ok bool) {
	field, known := documentField(key)
	if !known {
		return s.skip()
	}
	if field == 0 {
		return false
	}
	if d.seen(field) {
		return false
	}
	d.fields |= field
	switch field {
	case fieldSchemaVersion:
		d.schemaVersion, ok = s.number()
	case fieldMediaType:
		d.mediaType, ok = s.plainString()
	case fieldConfig:
		var config Reference
		config, ok = s.descriptor("digest")
		d.config = []Reference{config}
	case fieldSubject:
		d.subject, ok = s.descriptor("digest")
	case fieldLayers:
		d.layers, ok = s.descriptors("digest")
	case fieldManifests:
		d.manifests, ok = s.descriptors("digest")
	case fieldFSLayers:
		d.fsLayers, ok = s.descriptors("blobSum")
	}
	return ok
}

// scanner reads JSON (RFC 8259) from the front. Its methods return false where the
// text is not JSON, or not plain.
type scanner struct {
	text string
	at   int
}

// maxDepth is how deep skip follows; encoding/json goes further.
const maxDepth = 100

func (s *scanner) space() {
	for s.at < len(s.text) {
		switch s.text[s.at] {
		case ' ', '\t', '\n', '\r':
			s.at++
		default:
			return
		}
	}
}

// next takes a character if it comes next, after white space.
func (s *scanner) next(c byte) bool {
	s.space()
	if s.at < len(s.text) && s.text[s.at] == c {
		s.at++
		return true
	}
	return false
}

func (s *scanner) end() bool {
	s.space()
	return s.at == len(s.text)
}

// object reads an object; member reads the value of each key.
func (s *scanner) object(member func(key string) bool) bool {
	if !s.next('{') {
		return false
	}
	if s.next('}') {
		return true
	}
	for {
		s.space()
		key, ok := s.plainString()
		if !ok || !s.next(':') {
			return false
		}
		if s.space(); !member(key) {
			return false
		}
		if s.next(',') {
			continue
		}
		return s.next('}')
	}
}

func (s *scanner) array(element func() bool) bool {
	if !s.next('[') {
		return false
	}
	if s.next(']') {
		return true
	}
	for {
		if s.space(); !element() {
			return false
		}
		if s.next(',') {
			continue
		}
		return s.next(']')
	}
}

func (s *scanner) descriptors(digestField string) (out []Reference, ok bool) {
	ok = s.array(func() bool {
		r, ok := s.descriptor(digestField)
		out = append(out, r)
		return ok
	})
	return out, ok
}

// descriptor reads one whose digest is in the field given, the only one that counts
// if it is not "digest".
func (s *scanner) descriptor(digestField string) (Reference, bool) {
	r := Reference{Size: -1}
	var hasType, hasSize bool
	ok := s.object(func(key string) (ok bool) {
		switch {
		case key == digestField:
			var text string
			if text, ok = s.plainString(); !ok || r.Digest != "" || !isDigest(text) {
				return false
			}
			r.Digest = digest.Digest(text)
		case digestField != "digest":
			return !strings.EqualFold(key, digestField) && s.skip()
		case key == "mediaType":
			if r.MediaType, ok = s.plainString(); !ok || hasType {
				return false
			}
			hasType = true
		case key == "size":
			if r.Size, ok = s.size(); !ok || hasSize {
				return false
			}
			hasSize = true
		default:
			if strings.EqualFold(key, "digest") || strings.EqualFold(key, "mediaType") || strings.EqualFold(key, "size") {
				return false
			}
			return s.skip()
		}
		return true
	})
	return r, ok && r.Digest != ""
}

// plainString reads a string of printable ASCII without escapes.
func (s *scanner) plainString() (string, bool) {
	if s.at >= len(s.text) || s.text[s.at] != '"' {
		return "", false
	}
	start := s.at + 1
	for at := start; at < len(s.text); at++ {
		switch c := s.text[at]; {
		case c == '"':
			s.at = at + 1
			return s.text[start:at], true
		case c < ' ' || c == '\\' || c > '~':
			return "", false
		}
	}
	return "", false
}

// number reads a number of digits alone.
func (s *scanner) number() (string, bool) {
	start := s.at
	for s.at < len(s.text) && s.text[s.at] >= '0' && s.text[s.at] <= '9' {
		s.at++
	}
	digits := s.text[start:s.at]
	if digits == "" || len(digits) > 1 && digits[0] == '0' || s.at < len(s.text) && strings.IndexByte(".eE", s.text[s.at]) >= 0 {
		return "", false
	}
	return digits, true
}

func (s *scanner) size() (int64, bool) {
	digits, ok := s.number()
	if !ok || len(digits) > 18 {
		return 0, false
	}
	size := int64(0)
	for _, digit := range []byte(digits) {
		size = size*10 + int64(digit-'0')
	}
	return size, true
}

// skip reads any value without looking at it.
func (s *scanner) skip() bool { return s.skipValue(0) }

func (s *scanner) skipValue(depth int) bool {
	if s.at >= len(s.text) || depth > maxDepth {
		return false
	}
	switch c := s.text[s.at]; c {
	case '{':
		return s.skipObject(depth)
	case '[':
		return s.array(func() bool { return s.skipValue(depth + 1) })
	case '"':
		return s.skipString()
	case 't':
		return s.literal("true")
	case 'f':
		return s.literal("false")
	case 'n':
		return s.literal("null")
	default:
		if c == '-' {
			s.at++
		}
		return s.skipNumber()
	}
}

func (s *scanner) skipObject(depth int) bool {
	s.at++
	if s.next('}') {
		return true
	}
	for {
		if s.space(); !s.skipString() || !s.next(':') {
			return false
		}
		if s.space(); !s.skipValue(depth + 1) {
			return false
		}
		if s.next(',') {
			continue
		}
		return s.next('}')
	}
}

// skipString accepts any string but those with escapes of code points, which have
// rules of their own.
func (s *scanner) skipString() bool {
	if s.at >= len(s.text) || s.text[s.at] != '"' {
		return false
	}
	for s.at++; s.at < len(s.text); s.at++ {
		switch c := s.text[s.at]; {
		case c == '"':
			s.at++
			return true
		case c < ' ':
			return false
		case c == '\\':
			s.at++
			if s.at >= len(s.text) || strings.IndexByte(`"\/bfnrt`, s.text[s.at]) < 0 {
				return false
			}
		}
	}
	return false
}

func (s *scanner) skipNumber() bool {
	_, ok := s.number()
	return ok // a fraction or an exponent is for encoding/json to read
}

func (s *scanner) literal(word string) bool {
	if !strings.HasPrefix(s.text[s.at:], word) {
		return false
	}
	s.at += len(word)
	return true
}
