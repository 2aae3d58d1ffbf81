package manifest

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"strconv"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// reader reads a JSON value from its beginning to its end. It accepts the JSON that encoding/json
// accepts, because registries read manifests with that: an object may have a name twice, and a text may
// be invalid UTF-8.
type reader struct {
	content []byte
	buffer  bytes.Buffer
	decoder jsontext.Decoder
	err     error // the first error. After it, more returns false and value returns nil
}

// start begins with other content.
func (r *reader) start(content []byte) {
	r.content, r.buffer, r.err = content, *bytes.NewBuffer(content), nil
	r.decoder.Reset(&r.buffer, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
}

// end returns the first error. Content after the value is an error too.
func (r *reader) end() error {
	if r.err == nil {
		if _, err := r.decoder.ReadToken(); err != io.EOF {
			r.err = cmp.Or(err, errors.New("something comes after the end"))
		}
	}
	return r.err
}

// open reads the beginning of an object or of a list, if that comes next.
func (r *reader) open(delimiter jsontext.Kind) bool {
	if r.decoder.PeekKind() != delimiter {
		return false
	}
	r.token()
	return r.err == nil
}

// more reports whether another member of an object, or element of a list, comes next. If none
// does, it reads the end of the object or list.
func (r *reader) more() bool {
	if r.err != nil {
		return false
	}
	if kind := r.decoder.PeekKind(); kind != '}' && kind != ']' {
		return true
	}
	r.token()
	return false
}

func (r *reader) token() {
	if _, err := r.decoder.ReadToken(); err != nil {
		r.err = cmp.Or(r.err, err)
	}
}

// value reads any value, and returns its part of the content.
func (r *reader) value() []byte {
	value, err := r.decoder.ReadValue()
	if err != nil {
		r.err = cmp.Or(r.err, err)
		return nil
	}
	end := int(r.decoder.InputOffset())
	return r.content[end-len(value) : end]
}

// null reads null, if that comes next.
func (r *reader) null() bool {
	return r.decoder.PeekKind() == 'n' && r.value() != nil
}

// fieldNames are the names of all fields that are read.
var fieldNames = [...]string{
	"digest", "size", "mediaType", "blobSum", "schemaVersion",
	"config", "layers", "fsLayers", "manifests", "blobs", "subject", "artifactType", "urls",
}

// field reads the name of a member. It returns the field of that name, or "" for any other name. As in
// encoding/json, upper and lower case are the same.
func (r *reader) field() string {
	name, _ := r.text()                // an error means another value, and the decoder takes none for a name
	for _, field := range fieldNames { // nearly always
		if string(name) == field {
			return field
		}
	}
	for _, field := range fieldNames {
		if bytes.EqualFold(name, []byte(field)) {
			return field
		}
	}
	return ""
}

// text reads a text, without its escapes. It returns nil for null.
func (r *reader) text() ([]byte, error) {
	value := r.value()
	switch {
	case value == nil || value[0] == 'n':
		return nil, nil
	case value[0] != '"':
		return nil, fmt.Errorf("%.80q is no text", value)
	case bytes.IndexByte(value, '\\') < 0 && utf8.Valid(value):
		return value[1 : len(value)-1], nil
	}
	text, _ := jsontext.AppendUnquote([]byte{}, value) // the only possible error is invalid UTF-8
	return text, nil
}

// size reads a size in bytes. It returns -1 for null, and for what is below zero.
func (r *reader) size() (int64, error) {
	value := r.value()
	if value == nil || value[0] == 'n' {
		return -1, nil
	}
	size, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil {
		return -1, fmt.Errorf("%.80q is no size", value)
	}
	return max(size, -1), nil
}
