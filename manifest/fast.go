package manifest

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"strings"
)

// parseFast parses a manifest of a known kind in one pass over its bytes, without reflection. It
// gives up, with ok false, on everything out of the ordinary: then the manifest is parsed again
// with encoding/json, which decides. It must parse exactly as encoding/json does whatever it
// accepts; FuzzParseFast compares the two.
//
// Out of the ordinary are escapes, nulls and non-ASCII in what it has to understand,
// fields given twice or in other letters (encoding/json ignores case), and numbers
// that are no plain sizes.
func (p *Parser) parseFast(content []byte) (ok bool) {
	s, f, m := scanner{text: content}, &p.fields, &p.manifest
	f.reset()
	if !s.object(func(key []byte) bool { return f.read(&s, key) }) || !s.end() {
		return false
	}
	m.MediaType, m.Subject = f.mediaType, f.subject.Digest
	m.Kind = kindOf(f.mediaType)
	if !f.seen(fieldMediaType) {
		switch {
		case string(f.schemaVersion) == "1":
			m.Kind = Schema1
		case f.seen(fieldManifests):
			m.Kind = Index
		case f.seen(fieldConfig) || f.seen(fieldLayers):
			m.Kind = Image
		}
	}
	if m.Kind == Unknown || m.Kind == Artifact {
		return false
	}
	m.References = m.References[:0]
	for _, part := range [][]Reference{f.config, f.layers, f.fsLayers, f.manifests} {
		m.References = append(m.References, part...)
	}
	return true
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
func documentField(key []byte) (field uint, known bool) {
	for i := range documentFields {
		f := &documentFields[i]
		if len(f.name) != len(key) {
			continue
		}
		if f.name == string(key) {
			return f.field, true
		}
		if strings.EqualFold(f.name, string(key)) {
			return 0, true
		}
	}
	return 0, false
}

// fields is what a manifest has in each of these fields.
type fields struct {
	given                               uint // bits
	schemaVersion                       []byte
	mediaType                           string
	config, layers, fsLayers, manifests []Reference
	subject                             Reference
}

// reset makes it empty, and keeps its memory.
func (f *fields) reset() {
	*f = fields{config: f.config[:0], layers: f.layers[:0], fsLayers: f.fsLayers[:0], manifests: f.manifests[:0]}
}

func (f *fields) seen(field uint) bool { return f.given&field != 0 }

func (f *fields) read(s *scanner, key []byte) (ok bool) {
	field, known := documentField(key)
	if !known {
		return s.skip()
	}
	if field == 0 {
		return false
	}
	if f.seen(field) {
		return false
	}
	f.given |= field
	switch field {
	case fieldSchemaVersion:
		f.schemaVersion, ok = s.number()
	case fieldMediaType:
		f.mediaType, ok = s.mediaType()
	case fieldConfig:
		var config Reference
		config, ok = s.descriptor("digest")
		f.config = append(f.config, config)
	case fieldSubject:
		f.subject, ok = s.descriptor("digest")
	case fieldLayers:
		f.layers, ok = s.descriptors(f.layers, "digest")
	case fieldManifests:
		f.manifests, ok = s.descriptors(f.manifests, "digest")
	case fieldFSLayers:
		f.fsLayers, ok = s.descriptors(f.fsLayers, "blobSum")
	}
	return ok
}

// scanner reads JSON (RFC 8259) from the front. Its methods return false where the
// text is not JSON, or not plain.
type scanner struct {
	text []byte
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
func (s *scanner) object(member func(key []byte) bool) bool {
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

// descriptors appends a list of them to those there are.
func (s *scanner) descriptors(to []Reference, digestField string) ([]Reference, bool) {
	ok := s.array(func() bool {
		r, ok := s.descriptor(digestField)
		to = append(to, r)
		return ok
	})
	return to, ok
}

// descriptor reads one whose digest is in the field given, the only one that counts
// if it is not "digest".
func (s *scanner) descriptor(digestField string) (Reference, bool) {
	r := Reference{Size: -1}
	var hasDigest, hasType, hasSize bool
	ok := s.object(func(key []byte) (ok bool) {
		switch {
		case string(key) == digestField:
			if r.Digest, ok = s.digest(); !ok || hasDigest {
				return false
			}
			hasDigest = true
		case digestField != "digest":
			return !strings.EqualFold(string(key), digestField) && s.skip()
		case string(key) == "mediaType":
			if r.MediaType, ok = s.mediaType(); !ok || hasType {
				return false
			}
			hasType = true
		case string(key) == "size":
			if r.Size, ok = s.size(); !ok || hasSize {
				return false
			}
			hasSize = true
		default:
			if isLike(key, "digest") || isLike(key, "mediaType") || isLike(key, "size") {
				return false
			}
			return s.skip()
		}
		return true
	})
	return r, ok && hasDigest
}

// isLike reports whether a key is the name in other letters.
func isLike(key []byte, name string) bool {
	return len(key) == len(name) && strings.EqualFold(string(key), name)
}

// digest reads a digest.
func (s *scanner) digest() ([]byte, bool) {
	const usual = len(`"sha256:`) + 64
	start := s.at + 1
	if end := s.at + usual; end < len(s.text) && s.text[s.at] == '"' && s.text[end] == '"' && isDigest(s.text[start:end]) {
		s.at = end + 1
		return s.text[start:end], true
	}
	text, ok := s.plainString()
	return text, ok && isDigest(text)
}

// mediaType reads a media type.
func (s *scanner) mediaType() (string, bool) {
	text, ok := s.plainString()
	if usual, isUsual := usualTypes[string(text)]; isUsual {
		return usual, ok
	}
	return string(text), ok
}

// usualTypes are media types that need no memory of their own.
var usualTypes = func() map[string]string {
	usual := map[string]string{}
	for _, mediaType := range []string{
		"application/vnd.docker.distribution.manifest.v2+json", "application/vnd.docker.distribution.manifest.list.v2+json",
		"application/vnd.docker.container.image.v1+json",
		"application/vnd.docker.image.rootfs.diff.tar.gzip", "application/vnd.docker.image.rootfs.diff.tar",
		"application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.index.v1+json",
		"application/vnd.oci.image.config.v1+json", "application/vnd.oci.empty.v1+json",
		"application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.oci.image.layer.v1.tar+zstd", "application/vnd.oci.image.layer.v1.tar",
	} {
		usual[mediaType] = mediaType
	}
	return usual
}()

// plainString reads a string of printable ASCII without escapes.
func (s *scanner) plainString() ([]byte, bool) {
	if s.at >= len(s.text) || s.text[s.at] != '"' {
		return nil, false
	}
	start := s.at + 1
	end := start + plainLength(s.text[start:])
	if end == len(s.text) || s.text[end] != '"' {
		return nil, false
	}
	s.at = end + 1
	return s.text[start:end], true
}

// plainLength is how many bytes there are, from the front, before one that ends a string, begins
// an escape, or is not printable ASCII. It tests eight bytes at a time.
func plainLength(text []byte) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	at := 0
	for ; at+8 <= len(text); at += 8 {
		eight := binary.LittleEndian.Uint64(text[at:])
		quote, backslash := eight^ones*'"', eight^ones*'\\'
		// The high bit of the first such byte is set, and of no byte before it: borrows and
		// carries go upwards, to bytes that come later.
		found := ((eight-ones*' ')&^eight | (quote-ones)&^quote | (backslash-ones)&^backslash | eight | (eight + ones)) & highs
		if found != 0 {
			return at + bits.TrailingZeros64(found)/8
		}
	}
	for ; at < len(text); at++ {
		if c := text[at]; c == '"' || c == '\\' || c < ' ' || c > '~' {
			break
		}
	}
	return at
}

// number reads a number of digits alone.
func (s *scanner) number() ([]byte, bool) {
	start := s.at
	for s.at < len(s.text) && s.text[s.at] >= '0' && s.text[s.at] <= '9' {
		s.at++
	}
	digits := s.text[start:s.at]
	if len(digits) == 0 || len(digits) > 1 && digits[0] == '0' || s.at < len(s.text) && strings.IndexByte(".eE", s.text[s.at]) >= 0 {
		return nil, false
	}
	return digits, true
}

func (s *scanner) size() (int64, bool) {
	digits, ok := s.number()
	if !ok || len(digits) > 18 {
		return 0, false
	}
	size := int64(0)
	for _, digit := range digits {
		size = size*10 + int64(digit-'0')
	}
	return size, true
}

// skip reads any value and ignores it.
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
		s.at += plainLength(s.text[s.at:])
		if s.at >= len(s.text) {
			return false
		}
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
	if !bytes.HasPrefix(s.text[s.at:], []byte(word)) {
		return false
	}
	s.at += len(word)
	return true
}
