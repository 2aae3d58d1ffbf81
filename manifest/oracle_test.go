package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// document is all that the known kinds have. A field given twice counts twice.
type document struct {
	Config    every[descriptor] `json:"config"`
	Layers    all[descriptor]   `json:"layers"`
	Manifests all[descriptor]   `json:"manifests"`
	Subject   every[descriptor] `json:"subject"`
	FSLayers  all[struct {
		BlobSum every[string] `json:"blobSum"`
	}] `json:"fsLayers"`
}

type descriptor struct {
	MediaType every[string] `json:"mediaType"`
	Digest    every[string] `json:"digest"`
	Size      *int64        `json:"size"`
}

// every collects the values of a field that may be given more than once, where
// encoding/json would let the last one win and another client the first.
type every[T any] []T

func (e *every[T]) UnmarshalJSON(content []byte) error {
	var value *T
	err := json.Unmarshal(content, &value)
	if value != nil {
		*e = append(*e, *value)
	}
	return err
}

// all is the same for a field that holds a list.
type all[T any] []T

func (a *all[T]) UnmarshalJSON(content []byte) error {
	var more []T
	err := json.Unmarshal(content, &more)
	*a = append(*a, more...)
	return err
}

// parseJSON parses any manifest with encoding/json. The parser must find the same.
func parseJSON(content []byte) (Manifest, error) {
	// Fields that only the known types have a form for are taken apart later: of
	// an unknown type they may be anything.
	var head struct {
		SchemaVersion json.RawMessage `json:"schemaVersion"`
		MediaType     every[string]   `json:"mediaType"`
		Config        json.RawMessage `json:"config"`
		Layers        json.RawMessage `json:"layers"`
		Manifests     json.RawMessage `json:"manifests"`
	}
	if err := json.Unmarshal(content, &head); err != nil {
		return Manifest{}, fmt.Errorf("not a manifest: %w", err)
	}
	if string(bytes.TrimSpace(content)) == "null" { // which Unmarshal takes for anything
		return Manifest{}, errors.New("not a manifest: null")
	}
	m := Manifest{}
	var err error
	if m.MediaType, err = agreed(head.MediaType); err != nil {
		return Manifest{}, fmt.Errorf("malformed manifest: mediaType: %w", err)
	}
	m.Kind = kindOf([]byte(m.MediaType))
	if m.MediaType == "" {
		switch {
		case string(head.SchemaVersion) == "1":
			m.Kind = Schema1
		case isSet(head.Manifests):
			m.Kind = Index
		case isSet(head.Config) || isSet(head.Layers):
			m.Kind = Image
		}
	}
	if m.Kind == Unknown {
		return m.readUnknown(content)
	}
	return m.readKnown(content)
}

// agreed is the one value of a field, or "" where it is not given.
func agreed(values []string) (string, error) {
	if len(values) == 0 {
		return "", nil
	}
	for _, value := range values {
		if value != values[0] {
			return "", fmt.Errorf("both %.80q and %.80q", values[0], value)
		}
	}
	return values[0], nil
}

func isSet(raw json.RawMessage) bool { return len(raw) > 0 && string(raw) != "null" }

func (m Manifest) readKnown(content []byte) (Manifest, error) {
	var d document
	if err := json.Unmarshal(content, &d); err != nil {
		return Manifest{}, fmt.Errorf("malformed manifest: %w", err)
	}
	for _, config := range d.Config {
		if err := m.add("config", config); err != nil {
			return Manifest{}, err
		}
	}
	for _, layer := range d.Layers {
		if err := m.add("layers", layer); err != nil {
			return Manifest{}, err
		}
	}
	for _, layer := range d.FSLayers {
		if err := m.add("fsLayers", descriptor{Digest: layer.BlobSum}); err != nil {
			return Manifest{}, err
		}
	}
	for _, entry := range d.Manifests {
		if err := m.add("manifests", entry); err != nil {
			return Manifest{}, err
		}
	}
	if m.Kind == Artifact {
		var artifact struct {
			Blobs all[descriptor] `json:"blobs"`
		}
		if err := json.Unmarshal(content, &artifact); err != nil {
			return Manifest{}, fmt.Errorf("malformed manifest: %w", err)
		}
		for _, blob := range artifact.Blobs {
			if err := m.add("blobs", blob); err != nil {
				return Manifest{}, err
			}
		}
	}
	for _, subject := range d.Subject {
		if err := m.attach(subject); err != nil {
			return Manifest{}, err
		}
	}
	return m, nil
}

func (m *Manifest) add(field string, d descriptor) error {
	if len(d.Digest) == 0 {
		return fmt.Errorf("malformed manifest: %s has no digest", field)
	}
	mediaType, err := agreed(d.MediaType)
	if err != nil {
		return fmt.Errorf("malformed manifest: mediaType of %s: %w", field, err)
	}
	size := int64(-1)
	if d.Size != nil && *d.Size >= 0 {
		size = *d.Size
	}
	for _, text := range d.Digest {
		if !isDigest(text) {
			return fmt.Errorf("malformed manifest: %s has no digest: %.80q", field, text)
		}
		m.References = append(m.References, Reference{Digest: []byte(text), MediaType: []byte(mediaType), Size: size})
	}
	return nil
}

func (m *Manifest) attach(subject descriptor) error {
	text, err := agreed(subject.Digest)
	if err == nil {
		_, err = agreed(subject.MediaType)
	}
	if err == nil && m.Subject != nil {
		_, err = agreed([]string{string(m.Subject), text})
	}
	if err != nil {
		return fmt.Errorf("malformed manifest: subject: %w", err)
	}
	if !isDigest(text) {
		return fmt.Errorf("malformed manifest: subject has no digest: %.80q", text)
	}
	m.Subject = []byte(text)
	return nil
}

// readUnknown finds every digest in any string, key or value, however deep. The
// content is known to be JSON.
func (m Manifest) readUnknown(content []byte) (Manifest, error) {
	seen := map[string]bool{}
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.UseNumber() // a number may be larger than a float64
	for {
		token, err := decoder.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			return Manifest{}, fmt.Errorf("not a manifest: %w", err)
		}
		text, ok := token.(string)
		if !ok {
			continue
		}
		for _, found := range digestInText.FindAllString(text, -1) {
			if !seen[found] {
				seen[found] = true
				m.References = append(m.References, Reference{Digest: []byte(found), Size: -1})
			}
		}
	}
	// An attachment is one whatever its type. A subject of another form than ours is
	// none that a registry would have listed it by.
	var attached struct {
		Subject every[struct {
			Digest every[string] `json:"digest"`
		}] `json:"subject"`
	}
	if err := json.Unmarshal(content, &attached); err != nil {
		return m, nil
	}
	for _, subject := range attached.Subject {
		if len(subject.Digest) == 0 || !isDigest(subject.Digest[0]) {
			continue
		}
		if err := m.attach(descriptor{Digest: subject.Digest}); err != nil {
			return Manifest{}, err
		}
	}
	return m, nil
}
