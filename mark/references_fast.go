package mark

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/bits"
	"strings"

	"github.com/opencontainers/go-digest"
)

// plainManifest is a Manifest whose digests are parts of a text, so that one can be made of
// thousands of manifests, one after the other, and nothing need be copied. Its zero value is
// ready to read.
type plainManifest struct {
	text       []byte
	mediaType  string
	kind       Kind
	references []plainReference
	subject    span // empty if there is none

	document plainDocument
}

type plainReference struct {
	digest    span
	mediaType string
	size      int64
}

// span is a part of a text.
type span struct{ from, to int32 }

func (s span) of(text []byte) []byte { return text[s.from:s.to] }

// read reads a manifest of a known kind in one pass over its bytes, without reflection, and
// holds on to them. It gives up, with ok false, on everything out of the ordinary: then the
// manifest is read again with encoding/json, which decides. What it does accept it
// must read exactly as that would; FuzzReadPlain holds the two against each other.
//
// Out of the ordinary are escapes, nulls and non-ASCII in what it has to understand,
// fields given twice or in other letters (encoding/json ignores case), and numbers
// that are no plain sizes.
func (p *plainManifest) read(content []byte) (ok bool) {
	if len(content) > math.MaxInt32 {
		return false
	}
	s, d := scanner{text: content}, &p.document
	d.reset()
	if !s.object(func(key []byte) bool { return d.field(&s, key) }) || !s.end() {
		return false
	}
	p.text, p.mediaType, p.subject = content, d.mediaType, d.subject.digest
	p.kind = kindOf(d.mediaType)
	if !d.seen(fieldMediaType) {
		switch {
		case string(d.schemaVersion) == "1":
			p.kind = Schema1
		case d.seen(fieldManifests):
			p.kind = Index
		case d.seen(fieldConfig) || d.seen(fieldLayers):
			p.kind = Image
		}
	}
	if p.kind == Unknown || p.kind == Artifact {
		return false
	}
	p.references = p.references[:0]
	for _, part := range [][]plainReference{d.config, d.layers, d.fsLayers, d.manifests} {
		p.references = append(p.references, part...)
	}
	return true
}

// set makes it what m is.
func (p *plainManifest) set(m Manifest) {
	p.text, p.mediaType, p.kind, p.references = nil, m.MediaType, m.Kind, p.references[:0]
	add := func(d digest.Digest) span {
		from := len(p.text)
		p.text = append(p.text, d...)
		return span{int32(from), int32(len(p.text))}
	}
	p.subject = add(m.Subject)
	for _, r := range m.References {
		p.references = append(p.references, plainReference{add(r.Digest), r.MediaType, r.Size})
	}
}

// manifest is the same by itself.
func (p *plainManifest) manifest() Manifest {
	text := string(p.text)
	in := func(s span) digest.Digest { return digest.Digest(text[s.from:s.to]) }
	m := Manifest{MediaType: p.mediaType, Kind: p.kind, Subject: in(p.subject)}
	if len(p.references) > 0 {
		m.References = make([]Reference, len(p.references))
	}
	for i, r := range p.references {
		m.References[i] = Reference{Digest: in(r.digest), MediaType: r.mediaType, Size: r.size}
	}
	return m
}

// forget lets go of what was read.
func (p *plainManifest) forget() { p.text = nil }

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

// plainDocument is what a manifest has in each of these fields.
type plainDocument struct {
	fields                              uint
	schemaVersion                       []byte
	mediaType                           string
	config, layers, fsLayers, manifests []plainReference
	subject                             plainReference
}

// reset makes it empty, with the room that it has.
func (d *plainDocument) reset() {
	*d = plainDocument{config: d.config[:0], layers: d.layers[:0], fsLayers: d.fsLayers[:0], manifests: d.manifests[:0]}
}

func (d *plainDocument) seen(field uint) bool { return d.fields&field != 0 }

func (d *plainDocument) field(s *scanner, key []byte) (ok bool) {
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
		d.mediaType, ok = s.mediaType()
	case fieldConfig:
		var config plainReference
		config, ok = s.descriptor("digest")
		d.config = append(d.config, config)
	case fieldSubject:
		d.subject, ok = s.descriptor("digest")
	case fieldLayers:
		d.layers, ok = s.descriptors(d.layers, "digest")
	case fieldManifests:
		d.manifests, ok = s.descriptors(d.manifests, "digest")
	case fieldFSLayers:
		d.fsLayers, ok = s.descriptors(d.fsLayers, "blobSum")
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
func (s *scanner) descriptors(to []plainReference, digestField string) ([]plainReference, bool) {
	ok := s.array(func() bool {
		r, ok := s.descriptor(digestField)
		to = append(to, r)
		return ok
	})
	return to, ok
}

// descriptor reads one whose digest is in the field given, the only one that counts
// if it is not "digest".
func (s *scanner) descriptor(digestField string) (plainReference, bool) {
	r := plainReference{size: -1}
	var hasDigest, hasType, hasSize bool
	ok := s.object(func(key []byte) (ok bool) {
		switch {
		case string(key) == digestField:
			if r.digest, ok = s.digest(); !ok || hasDigest {
				return false
			}
			hasDigest = true
		case digestField != "digest":
			return !strings.EqualFold(string(key), digestField) && s.skip()
		case string(key) == "mediaType":
			if r.mediaType, ok = s.mediaType(); !ok || hasType {
				return false
			}
			hasType = true
		case string(key) == "size":
			if r.size, ok = s.size(); !ok || hasSize {
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
func (s *scanner) digest() (span, bool) {
	const usual = len(`"sha256:`) + 64
	start := s.at + 1
	if end := s.at + usual; end < len(s.text) && s.text[s.at] == '"' && s.text[end] == '"' && isDigest(s.text[start:end]) {
		s.at = end + 1
		return span{int32(start), int32(end)}, true
	}
	text, ok := s.plainString()
	return span{int32(start), int32(start + len(text))}, ok && isDigest(text)
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
// an escape, or is not printable ASCII. It looks at eight of them at a time.
func plainLength(text []byte) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	at := 0
	for ; at+8 <= len(text); at += 8 {
		eight := binary.LittleEndian.Uint64(text[at:])
		quote, backslash := eight^ones*'"', eight^ones*'\\'
		// The high bit of a byte that is what is looked for is set, and of none before it:
		// borrows and carries go upwards, to bytes that come later.
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
