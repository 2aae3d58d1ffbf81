package manifest

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// Parser parses one manifest after the other in the same memory. Its zero value is ready.
type Parser struct {
	reader
	mediaType    []byte // nil if it is not given
	mediaTypeErr error
	artifactType []byte
	version      []byte // the value of schemaVersion; nil if it is not given
	parts        [numParts]part
	references   []Reference
}

// part is a field that refers to content. If a manifest has the field twice, the references of both
// count.
type part struct {
	isSet      bool // its last value is not null
	references []Reference
	err        error // the first one
}

// The parts of a manifest, in the order of Manifest.References.
const (
	config = iota
	layers
	fsLayers
	manifests
	blobs // of an Artifact only
	subject
	numParts
)

var partNames = [numParts]string{"config", "layers", "fsLayers", "manifests", "blobs", "subject"}

// Parse does what the function Parse does. Its result is valid until the next call.
func (p *Parser) Parse(content []byte) (Manifest, error) {
	if err := p.read(content); err != nil {
		return Manifest{}, fmt.Errorf("not a manifest: %w", err)
	}
	if p.mediaTypeErr != nil {
		return Manifest{}, fmt.Errorf("malformed manifest: mediaType: %w", p.mediaTypeErr)
	}
	m, err := Manifest{MediaType: string(p.mediaType), Kind: p.kind()}, error(nil)
	if m.Kind == Unknown {
		m.References = p.digests(content)
		m.Subject, err = p.attached(content)
	} else {
		m.References, err = p.needed(m.Kind)
		if err == nil {
			m.Subject, err = p.theSubject()
		}
	}
	if err != nil {
		return Manifest{}, fmt.Errorf("malformed manifest: %w", err)
	}
	m.Purpose, m.Refused = p.purpose(m.References), p.refused(m.Kind, len(content))
	return m, nil
}

// servedLimit is the size in bytes of the largest manifest that registries serve (registry/storage/blobstore.go).
const servedLimit = 4 << 20

// refused returns why registries do not serve a manifest of a known kind, or "".
func (p *Parser) refused(kind Kind, bytes int) string {
	switch {
	case kind == Unknown:
	case kind == Schema1:
		return "it has schema 1, which release 3 of the registry does not serve"
	case kind == Artifact:
		return "it is an artifact manifest, which the registry does not serve"
	case string(p.version) != "2":
		return "its schemaVersion is not 2"
	case bytes > servedLimit:
		return fmt.Sprintf("it is larger than %d MiB", servedLimit>>20)
	}
	return ""
}

// read reads all fields. A field that has another form than in the known kinds of manifests is not an
// error yet: in content of an unknown kind it may have any form.
func (p *Parser) read(content []byte) error {
	p.start(content)
	p.mediaType, p.mediaTypeErr, p.artifactType, p.version = nil, nil, nil, nil
	for i := range p.parts {
		p.parts[i] = part{references: p.parts[i].references[:0]}
	}
	if !p.open('{') && p.value() != nil {
		return errors.New("it is no object")
	}
	for p.more() {
		p.member(p.field())
	}
	return p.end()
}

// member reads the value of a field.
func (p *Parser) member(field string) {
	if i := slices.Index(partNames[:], field); i >= 0 {
		p.part(i)
		return
	}
	switch field {
	case "mediaType":
		p.mediaTypeErr = cmp.Or(p.mediaTypeErr, p.agreed(&p.mediaType))
	case "artifactType":
		p.artifactType, _ = p.text()
	case "schemaVersion":
		if !p.null() {
			p.version = p.value()
		}
	default:
		p.value()
	}
}

// part reads the value of a part: a descriptor, or a list of them, or null.
func (p *Parser) part(i int) {
	to := &p.parts[i]
	to.isSet = !p.null()
	switch {
	case !to.isSet:
	case i == config || i == subject:
		p.descriptor(to, "digest")
	case !p.open('['):
		to.fail(fmt.Errorf("%.80q is no list", p.value()))
	default:
		digestField := "digest"
		if i == fsLayers {
			digestField = "blobSum"
		}
		for p.more() {
			p.descriptor(to, digestField)
		}
	}
}

// descriptor reads a descriptor, and adds its reference to a part. digestField is the name of the field
// with the digest. The media type and the size are read only if that name is "digest": the entries of
// fsLayers have neither.
func (p *Parser) descriptor(to *part, digestField string) {
	if !p.open('{') {
		to.fail(fmt.Errorf("%.80q is no descriptor", p.value()))
		return
	}
	first, size, mediaType, hasURLs := len(to.references), int64(-1), []byte(nil), false
	for p.more() {
		switch field := p.field(); {
		case field == digestField:
			text, err := p.text()
			if err == nil && text != nil && !isDigest(text) {
				err = fmt.Errorf("%.80q is no digest", text)
			}
			to.fail(err)
			if text != nil {
				to.references = append(to.references, Reference{Digest: text})
			}
		case digestField == "digest" && field == "mediaType":
			to.fail(p.agreed(&mediaType))
		case digestField == "digest" && field == "size":
			var err error
			size, err = p.size()
			to.fail(err)
		case digestField == "digest" && field == "urls":
			list := bytes.TrimSpace(p.value())
			hasURLs = len(list) > 2 && list[0] == '[' && len(bytes.TrimSpace(list[1:len(list)-1])) > 0
		default:
			p.value()
		}
	}
	if len(to.references) == first {
		to.fail(errors.New("there is no digest"))
	}
	for i := range to.references[first:] {
		r := &to.references[first+i]
		r.MediaType, r.Size, r.HasURLs = mediaType, size, hasURLs
	}
}

func (p *part) fail(err error) {
	if err != nil {
		p.err = cmp.Or(p.err, err)
	}
}

// agreed reads a text or null into field. It returns an error if the field had another text before.
func (p *Parser) agreed(field *[]byte) error {
	text, err := p.text()
	if err != nil || text == nil {
		return err
	}
	if *field != nil && !bytes.Equal(*field, text) {
		return disagreed(*field, text)
	}
	*field = text
	return nil
}

func disagreed(a, b []byte) error { return fmt.Errorf("both %.80q and %.80q", a, b) }

// kind returns the kind of the manifest that was read.
func (p *Parser) kind() Kind {
	switch {
	case len(p.mediaType) > 0:
		return kindOf(p.mediaType)
	case string(p.version) == "1":
		return Schema1
	case p.parts[manifests].isSet:
		return Index
	case p.parts[config].isSet || p.parts[layers].isSet:
		return Image
	}
	return Unknown
}

// needed returns all references of a manifest of a known kind, except its subject.
func (p *Parser) needed(kind Kind) ([]Reference, error) {
	p.references = p.references[:0]
	for i := range p.parts[:subject] {
		part := &p.parts[i]
		if i == blobs && kind != Artifact {
			continue
		}
		if part.err != nil {
			return nil, fmt.Errorf("%s: %w", partNames[i], part.err)
		}
		p.references = append(p.references, part.references...)
	}
	return p.references, nil
}

// theSubject returns the digest of the subject, or nil.
func (p *Parser) theSubject() (digest []byte, err error) {
	err = p.parts[subject].err
	for _, r := range p.parts[subject].references {
		if digest != nil && !bytes.Equal(digest, r.Digest) {
			err = cmp.Or(err, disagreed(digest, r.Digest))
		}
		digest = r.Digest
	}
	if err != nil {
		return nil, fmt.Errorf("subject: %w", err)
	}
	return digest, nil
}
